"""What few labels ask of `probe`: variances drawn to their stage's mean, and which head.

    python benchmarks/few_labels.py DATA [--target COLUMN]

Draws 1, 2, 4 and 10 labels per class, ten times each, from 2,000 images that are not of the test
part, and judges on 2,000 other ones; the test part has no say. Columns are heads on all stages: by
how many images' worth a feature's variance is drawn to its stage's mean (0: not at all), and either
a logistic regression of fixed strength or the nearest class mean. Prints mean accuracy and its
deviation over the draws.
"""

from __future__ import annotations

import argparse

import numpy as np

from labelwise.data.load import load
from labelwise.nn import logistic
from labelwise.recipe.base import Context, Task
from labelwise.recipe.probe import Probe

PRIORS = (0, 5, 20, 100)
HEADS = {
    "logistic 0.1": Probe(stages="all", head="logistic", strength=0.1),
    "logistic 1": Probe(stages="all", head="logistic", strength=1.0),
    "mean": Probe(stages="all", head="mean"),
}
DRAWS = 10
IMAGES = 2000


def main() -> None:
    """Print the table for one data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--target")
    options = parser.parse_args()
    data = load(options.data, target=options.target)
    labels, part = data.labels, data.table["split"].fillna("").to_numpy()
    pool = data.usable[(labels[data.usable] >= 0) & (part[data.usable] != "test")]
    order = np.random.default_rng(0).permutation(pool)
    judges, rest = order[:IMAGES], order[IMAGES : 2 * IMAGES]
    rest = rest[~np.isin(data.groups[rest], data.groups[judges])]
    columns = [(prior, head) for head in HEADS for prior in PRIORS]
    print(
        "| labels per class | " + " | ".join(f"{head}, {prior}" for prior, head in columns) + " |"
    )
    print("|---" * (1 + len(columns)) + "|")
    for count in (1, 2, 4, 10):
        found = np.zeros((DRAWS, len(columns)))
        for draw in range(DRAWS):
            drawn = np.random.default_rng(draw).permutation(rest)
            classes = range(len(data.class_names))
            rows = np.concatenate([drawn[labels[drawn] == k][:count] for k in classes])
            task = Task(data.images(rows), labels[rows], data.class_names)
            for index, (prior, head) in enumerate(columns):
                logistic.PRIOR = prior
                proba = HEADS[head].fit(task, Context()).model.predict_proba(data.images(judges))
                found[draw, index] = 100 * (proba.argmax(1) == labels[judges]).mean()
        cells = zip(found.mean(0), found.std(0, ddof=1), strict=True)
        print(
            f"| {count} | " + " | ".join(f"{m:.1f} ± {s:.1f}" for m, s in cells) + " |", flush=True
        )


if __name__ == "__main__":
    main()
