"""How well near duplicates are told from look-alikes: the table in docs/data.md.

    python benchmarks/duplicates.py            (real data: LABELWISE_DATA, default ../shared/data)

For every data set: the correlation of an image with the most similar other one, the confirmed
pairs, and the share of altered copies that are confirmed as copies of their original.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from labelwise.data.alike import alike, normalized
from labelwise.data.dataset import Dataset
from labelwise.data.load import load
from labelwise.data.scan import thumbnail

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("LABELWISE_DATA", ROOT.parent / "shared" / "data"))
SEED = 0
QUERIES = 200  # images whose copies and nearest neighbors are looked at
POOL = 20_000  # images among which the nearest neighbor is looked for


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((round(image.width * 0.8), round(image.height * 0.8)))


def crop(image: Image.Image) -> Image.Image:
    x, y = max(1, round(image.width * 0.01)), max(1, round(image.height * 0.01))
    return image.crop((x, y, image.width - x, image.height - y))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG q50": jpeg,
    "80 % size": smaller,
    "10 % brighter": lambda image: image.point(lambda value: min(255, value * 1.1)),
    "10 % darker": lambda image: image.point(lambda value: value * 0.9),
    "2 % cropped": crop,
}


def main() -> None:
    rows = [measure("ELPV", load("elpv"))]
    for name, file in (("MNIST", "mnist.npz"), ("CIFAR-10", "cifar10")):
        rows.append(measure(name, load(DATA / file)))
    print("| | " + " | ".join(name for name, _ in rows) + " |\n|---|" + "---|" * len(rows))
    for key in rows[0][1]:
        print(f"| {key} | " + " | ".join(result[key] for _, result in rows) + " |")


def measure(name: str, data: Dataset) -> tuple[str, dict[str, str]]:
    rng = np.random.default_rng(SEED)
    images = data.images(data.usable)
    thumbs = [thumbnail(images.read(position)) for position in range(len(images))]
    chosen = rng.choice(len(thumbs), QUERIES, replace=False)
    result = {"images": f"{len(thumbs):,}"}
    best = nearest([thumbs[i] for i in chosen], thumbs, chosen, rng)
    for share in (50, 90, 99):
        result[f"best neighbor's correlation, {share} % quantile"] = (
            f"{np.percentile(best, share):.3f}"
        )
    started = time.perf_counter()
    pairs = alike(thumbs)
    result["seconds"] = f"{time.perf_counter() - started:.1f}"
    result["confirmed pairs"] = f"{len(pairs.index):,}"
    for change, apply in CHANGES.items():
        copies = [
            thumbnail(np.asarray(apply(Image.fromarray(images.read(int(i)))))) for i in chosen
        ]
        result[f"found: {change}"] = f"{found(thumbs, copies, chosen):.0%}"
    return name, result


def nearest(
    queries: list[np.ndarray],
    thumbs: list[np.ndarray],
    chosen: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Correlation of every query with its most similar other image, (Q,)."""
    pool = rng.permutation(len(thumbs))[:POOL]
    wanted, _ = normalized(queries)
    best = np.full(len(queries), -1.0)
    for start in range(0, len(pool), 2000):
        some = pool[start : start + 2000]
        others, _ = normalized([thumbs[i] for i in some])
        correlation = wanted @ others.T / wanted.shape[1]
        correlation[chosen[:, None] == some] = -1
        best = np.maximum(best, correlation.max(axis=1))
    return best


def found(thumbs: list[np.ndarray], copies: list[np.ndarray], chosen: np.ndarray) -> float:
    """Share of the copies that are confirmed as copies of their original, among 3,000 images."""
    others = [i for i in range(len(thumbs)) if i not in set(chosen.tolist())][:3000]
    pool = [*(thumbs[i] for i in chosen), *copies, *(thumbs[i] for i in others)]
    pairs = {tuple(pair) for pair in alike(pool).index.tolist()}
    return sum((i, i + len(chosen)) in pairs for i in range(len(chosen))) / len(chosen)


if __name__ == "__main__":
    main()
