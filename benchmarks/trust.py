"""How far the answers of finished runs can be relied on: calibration and conformal sets.

    python benchmarks/trust.py runs/mnist runs/cifar10 demo-run

Of the recommended variant's held-out images: log loss before and after the temperature, both on
images that it does not come from, with the 95 % interval of the paired difference by bootstrap over
groups of duplicates; calibration error before and after, and what it would stay below in 95 of 100
samples if every probability were right. Then, for 100 random halves of the images, limits from one
half and coverage and size of 90 % sets in the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from labelwise.data.load import load
from labelwise.held_out import of_one_repeat
from labelwise.leaderboard import pool
from labelwise.measure import bca
from labelwise.measure.conformal import METHODS, quantiles, sets
from labelwise.measure.scoring import Scorer
from labelwise.measure.temperature import crossed
from labelwise.report.run_folder import RunFolder

SPLITS, COVERAGE = 100, 0.9


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    judged = []
    print("| run | images | temperature | log loss | change | ECE | after | by chance |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in parser.parse_args().runs:
        run = RunFolder(folder)
        row = run.judged
        assert row is not None
        data = load(run.record["data"]["source"], target=run.record["data"]["target"])
        table = pool(run.trials(row))
        labels, proba, parts = of_one_repeat(table, data.groups)
        ids = np.sort(table[table["repeat"] == 0]["id"].to_numpy())
        trust = row["trust"]
        after = proba if trust["temperature"] == 1 else crossed(labels, proba, parts)
        change = Scorer(labels, after).log_losses - Scorer(labels, proba).log_losses
        found = bca(
            lambda weights, change=change: weights @ change / weights.sum(axis=1),
            data.groups[ids],
            seed=0,
            bounds=None,
        )
        print(
            f"| {folder.name}, {row['variant']} | {len(labels):,} | {trust['temperature']:.2f} "
            f"| {trust['before']['log_loss']:.4f} "
            f"| {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}) "
            f"| {100 * trust['before']['ece']:.2f} % | {100 * trust['after']['ece']:.2f} % "
            f"| {100 * trust['after']['by_chance']:.2f} % |",
            flush=True,
        )
        judged.append((folder.name, labels, after))
    print(f"\n| run | {' | '.join(METHODS)} |")
    print("|---" * (1 + len(METHODS)) + "|")
    for name, labels, proba in judged:
        cells = [spread(labels, proba, method) for method in METHODS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def spread(labels: np.ndarray, proba: np.ndarray, method: str) -> str:
    """Coverage and size of sets over random halves."""
    rng = np.random.default_rng(0)
    covered, size = [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(labels))
        one, other = np.array_split(order, 2)
        limits = quantiles(labels[one], proba[one], COVERAGE, method)
        inside = sets(proba[other], limits, method, rng.random(len(other)))
        covered.append(inside[np.arange(len(other)), labels[other]].mean())
        size.append(inside.sum(axis=1).mean())
    return f"{100 * np.mean(covered):.1f} ± {100 * np.std(covered):.1f} %, {np.mean(size):.2f}"


if __name__ == "__main__":
    main()
