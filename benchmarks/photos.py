"""From photos on a disk to embeddings: speed beside torchvision and timm, memory, the second run.

    python benchmarks/photos.py                         12-megapixel JPEGs at 224 px
    python benchmarks/photos.py --memory                peak memory, 10,000 and 100,000 small JPEGs
    python benchmarks/photos.py --memory 2000 20000
    python benchmarks/photos.py --second                `probe` again on the same 2,000 photos

The peer is ImageFolder, a DataLoader with two workers, and timm's model in batches of 32, in a
process of its own. Both take turns on the same files. `labelwise` embeds files that it has looked
at before (as every run but the first does); `new files` includes that look, which decodes each
photo in full once, for its hash and its duplicates.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from engines.turns import Worker, alternate, spread
from PIL import Image, ImageDraw

LARGE, SMALL, MIDDLE = (4000, 3000), (48, 48), (320, 240)  # width, height
NAMES = {"labelwise": "labelwise_files", "new files": "labelwise_new_files", "peer": "eager_files"}

SECOND = """
import sys, time
import labelwise
from labelwise.run import train
import timm, torchvision, sklearn.linear_model, onnxruntime, labelwise.nn.taps
started = time.perf_counter()
train(sys.argv[1], recipe="probe", out=sys.argv[2])
print(time.perf_counter() - started)
"""


def textured(seed: int, size: tuple[int, int]) -> Image.Image:
    """Noise at several scales and some shapes: as hard to compress as a photo."""
    rng = np.random.default_rng(seed)
    width, height = size
    values = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 60), (24, 40), (150, 25), (1200, 16)):
        coarse = rng.normal(0, 1, (min(cells, height), min(cells, width), 3)) * 64 + 128
        layer = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize(size)
        values += (np.asarray(layer, np.float32) - 128) * (strength / 64)
    image = Image.fromarray((values + 128).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.02, 0.1) * width
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def write(folder: Path, count: int, size: tuple[int, int]) -> None:
    """JPEG files of two classes; those of a class have an eighth less light."""
    for name in "ab":
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image = textured(number, size)
        if number % 2:
            image = image.point(lambda value: value * 7 // 8)
        image.save(folder / "ab"[number % 2] / f"{number:06d}.jpg", quality=90)


def speed(folder: Path, photos: int, rounds: int) -> None:
    """Print photos a second and the ratios to the peer."""
    write(folder / "photos", photos, LARGE)
    megabytes = sum(file.stat().st_size for file in folder.rglob("*.jpg")) / photos / 1e6
    request = {"folder": str(folder / "photos"), "size": 224}
    workers = {name: Worker("engines.embedders", who, request) for name, who in NAMES.items()}
    try:
        seconds = alternate(workers, rounds)
    finally:
        for worker in workers.values():
            worker.close()
    print(f"{photos} photos of 12 megapixels, {megabytes:.1f} MB each, {rounds} rounds")
    for clock, what in enumerate(("wall", "CPU")):
        print(f"{what} seconds: minimum, median, maximum")
        peer = [pair[clock] for pair in seconds["peer"]]
        for name, pairs in seconds.items():
            taken = [pair[clock] for pair in pairs]
            ratios = [other / own for own, other in zip(taken, peer, strict=True)]
            rates = spread([photos / value for value in taken], ".1f")
            print(f"  {name:10} photos/s {rates}   times the peer {spread(ratios)}", flush=True)


def memory(folder: Path, counts: list[int]) -> None:
    """Print the peak resident memory of `labelwise embed` for each number of images."""
    peaks = []
    for count in counts:
        source = folder / str(count)
        write(source, count, SMALL)
        command = ["embed", "efficientnet-lite0", str(source), "--out", f"{folder}/{count}.parquet"]
        peaks.append(peak_of([sys.executable, "-m", "labelwise.cli", *command, "--quiet"], folder))
        print(f"{count} images: {peaks[-1] / 2**20:.0f} MiB", flush=True)
    print(f"ratio {peaks[-1] / peaks[0]:.2f}")


def peak_of(command: list[str], folder: Path) -> int:
    """Peak resident memory of a command in bytes, each with a cache of its own."""
    with TemporaryDirectory(dir=folder) as cache:
        process = subprocess.Popen(command, env={**os.environ, "LABELWISE_CACHE": cache})
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}.")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def second(folder: Path, photos: int, rounds: int) -> None:
    """Print the seconds of `probe` after the imports: of the first run, and of those after it."""
    write(folder / "photos", photos, MIDDLE)

    def run(number: int) -> float:
        command = [sys.executable, "-c", SECOND, str(folder / "photos"), f"{folder}/run{number}"]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    print(f"{photos} photos, first run: {run(0):.1f} s")
    print(f"again: {spread([run(number) for number in range(1, 1 + rounds)])} s")


def main() -> None:
    """Do what the options say, in a temporary folder with a cache of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="*", metavar="N")
    parser.add_argument("--second", type=int, nargs="?", const=2000, metavar="N")
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        os.environ["LABELWISE_CACHE"] = f"{name}/cache"
        if args.memory is not None:
            memory(Path(name), args.memory or [10_000, 100_000])
        elif args.second:
            second(Path(name), args.second, args.rounds)
        else:
            speed(Path(name), args.photos, args.rounds)


if __name__ == "__main__":
    main()
