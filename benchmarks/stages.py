"""Which stages, image size and head suit how many labels: the tables behind the rules of `probe`.

    python benchmarks/stages.py DATA [--target COLUMN] [--sizes 96,128,176,224,288] [--draws 5]

Draws labels from images outside the test part, fits the probe on a frozen EfficientNet-Lite0 with
stages, head and image size fixed, and with the choice left open, and judges on other images outside
the test part, which has no say. Prints mean accuracy and its deviation over the draws of labels.
"""

from __future__ import annotations

import argparse

import numpy as np

from labelwise.data.dataset import Dataset
from labelwise.data.load import load
from labelwise.recipe.base import Context, Task
from labelwise.recipe.probe import Probe

LABELS = (1, 2, 3, 5, 10, 25, 100)
JUDGES = 1500
COLUMNS = {
    "last": Probe(stages="last", head="logistic"),
    "inner": Probe(stages="inner", head="logistic"),
    "all": Probe(stages="all", head="logistic"),
    "mean, last": Probe(stages="last", head="mean"),
    "mean, all": Probe(stages="all", head="mean"),
    "left open": Probe(),
}


def main() -> None:
    """Print the table of one data set for every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--target")
    parser.add_argument("--sizes", default="96,128,176,224,288")
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    data = load(options.data, target=options.target)
    part = data.table["split"].fillna("").to_numpy()
    pool = data.usable[(data.labels[data.usable] >= 0) & (part[data.usable] != "test")]
    print(f"{data.name}: {len(pool)} labeled images outside the test part")
    for size in map(int, options.sizes.split(",")):
        print(f"\n| {size} px, labels per class | " + " | ".join(COLUMNS) + " |")
        print("|---" * (1 + len(COLUMNS)) + "|")
        for count in LABELS:
            drawn = [_draw(data, pool, count, draw) for draw in range(options.draws)]
            if any(draw is None for draw in drawn):
                break
            cells = [_cell(data, [d for d in drawn if d], p, size) for p in COLUMNS.values()]
            print(f"| {count} | " + " | ".join(cells) + " |", flush=True)


def _draw(
    data: Dataset, pool: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows to learn from and to judge on; always the same images, so that few are embedded."""
    order = np.random.default_rng(0).permutation(pool)
    judges = order[: min(JUDGES, len(order) // 2)]
    classes = range(len(data.class_names))
    rest = order[len(judges) :]
    rest = np.concatenate([rest[data.labels[rest] == k][: LABELS[-1]] for k in classes])
    rest = np.random.default_rng(seed + 1).permutation(
        rest[~np.isin(data.groups[rest], data.groups[judges])]
    )
    rows = [rest[data.labels[rest] == k][:count] for k in classes]
    if min(map(len, rows)) < count:
        return None
    return np.concatenate(rows), judges


def _cell(
    data: Dataset, drawn: list[tuple[np.ndarray, np.ndarray]], probe: Probe, size: int
) -> str:
    sized = Probe(**{**vars(probe), "image_size": size})
    right = []
    for rows, judges in drawn:
        task = Task(data.images(rows), data.labels[rows], data.class_names)
        logits = sized.fit(task, Context()).model.logits(data.images(judges))
        right.append(100 * (logits.argmax(1) == data.labels[judges]).mean())
    return f"{np.mean(right):.1f} ± {np.std(right, ddof=1):.1f}"


if __name__ == "__main__":
    main()
