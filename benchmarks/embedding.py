"""How fast images become embeddings: labelwise beside plain PyTorch, from decoded pixels.

    python benchmarks/embedding.py                   EfficientNet-Lite0 at 224 and 128 px
    python benchmarks/embedding.py --rounds 9 --sizes 224

The peer is the loop that a tutorial shows: timm's model, channels first, inference_mode, batches of
32, in a process of its own with glibc's allocator as it is. Both have the same random images and
the same threads, and take turns. Peak is the float32 matrix product of torch, measured in the same
rounds. CPU seconds are those of all threads of a process: on a busy machine they tell more than the
clock.
"""

from __future__ import annotations

import argparse
import os
import tempfile

from engines.turns import Worker, alternate, spread

WORK = {224: 0.768e9, 128: 0.2507e9}  # floating-point operations of an image, convolutions only
IMAGES = {224: 96, 128: 256}  # in a round
GEMM = 2 * 2048**3  # floating-point operations of a product


def main() -> None:
    """Measure and print a table per size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 128], choices=list(WORK))
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LABELWISE_CACHE"] = cache
        for size in args.sizes:
            request = {"size": size, "images": IMAGES[size]}
            workers = {
                name: Worker("engines.embedders", name, request)
                for name in ("labelwise", "eager", "gemm")
            }
            try:
                seconds = alternate(workers, args.rounds)
            finally:
                for worker in workers.values():
                    worker.close()
            print(f"\n## {size} px, {IMAGES[size]} images a round, {args.rounds} rounds\n")
            report(size, seconds)


def report(size: int, seconds: dict[str, list[tuple[float, float]]]) -> None:
    """Print speeds, ratios and the share of the peak; each as minimum, median, maximum."""
    count, work = IMAGES[size], WORK[size]
    for clock, what in enumerate(("wall", "CPU")):
        taken = {name: [pair[clock] for pair in pairs] for name, pairs in seconds.items()}
        ours, eager, gemm = (taken[name] for name in ("labelwise", "eager", "gemm"))
        print(f"{what} seconds: minimum, median, maximum")
        print(f"  labelwise images/s {spread([count / s for s in ours], '.0f')}")
        print(f"  eager     images/s {spread([count / s for s in eager], '.0f')}")
        print(f"  ratio              {spread([b / a for a, b in zip(ours, eager, strict=True)])}")
        shares = [work * count / a / (GEMM / g) for a, g in zip(ours, gemm, strict=True)]
        print(f"  GEMM GFLOP/s       {spread([GEMM / s / 1e9 for s in gemm], '.0f')}")
        print(f"  share of GEMM      {spread(shares)}", flush=True)


if __name__ == "__main__":
    main()
