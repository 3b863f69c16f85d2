"""The strength of `probe` where there are too few labels to choose one: the table behind the rule.

    python benchmarks/few_labels.py DATA [--target COLUMN]

Draws 1, 2 and 4 labels per class, ten times each, from the images that are not of the test part,
fits the probe at several fixed strengths, and judges on 2,000 other images of the same part; the
test part has no say. Prints mean accuracy and its deviation over the draws.
"""

from __future__ import annotations

import argparse

import numpy as np

from labelwise.data.load import load
from labelwise.recipe.base import Context, Task
from labelwise.recipe.probe import Probe

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
DRAWS = 10
JUDGES = 2000


def main() -> None:
    """Print the table for one data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--target")
    options = parser.parse_args()
    data = load(options.data, target=options.target)
    labels = data.labels
    pool = data.usable[
        (labels[data.usable] >= 0)
        & (data.table["split"].fillna("").to_numpy() != "test")[data.usable]
    ]
    print(f"{data.name}: {len(pool)} labeled images outside the test part, {DRAWS} draws")
    print("labels/class  " + "".join(f"{s:>14g}" for s in STRENGTHS))
    for count in (1, 2, 4):
        accuracies = np.zeros((DRAWS, len(STRENGTHS)))
        for draw in range(DRAWS):
            rng = np.random.default_rng(draw)
            order = rng.permutation(pool)
            judges, rest = order[: min(JUDGES, len(order) // 2)], order[JUDGES:]
            classes = range(len(data.class_names))
            rows = np.concatenate([rest[labels[rest] == k][:count] for k in classes])
            task = Task(data.images(rows), labels[rows], data.class_names)
            for index, strength in enumerate(STRENGTHS):
                model = Probe(strength=strength).fit(task, Context()).model
                proba = model.predict_proba(data.images(judges))
                accuracies[draw, index] = (proba.argmax(1) == labels[judges]).mean()
        cells = zip(accuracies.mean(0), accuracies.std(0, ddof=1), strict=True)
        print(f"{count:>12}  " + "".join(f"{100 * m:>7.1f} ± {100 * s:<4.1f}" for m, s in cells))


if __name__ == "__main__":
    main()
