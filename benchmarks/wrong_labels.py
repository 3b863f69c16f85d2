"""How well wrong labels are found: labels are replaced at random, and ranked by suspicion.

    python benchmarks/wrong_labels.py DATA/cifar10 --share 0.1 --images 10000

A share of the labels of the training part becomes another class, at random. A recipe is fitted in
five folds; the labels are ranked by its out-of-fold answers, by their neighbors among the
embeddings, and by both, as `labelwise audit` does. Prints the chance that a wrong label is ranked
before a right one (AUROC), the share of wrong ones among the first 100, and seconds, before and
once embeddings are stored. The test part is not touched.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.metrics import roc_auc_score

import labelwise
from labelwise.data.load import load
from labelwise.data.preprocess import Preprocessing
from labelwise.features import stored_pixels
from labelwise.measure.suspicion import suspicion

FIRST = 100


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--recipe", default="probe")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        run_once(options, Path(folder))


def run_once(options: argparse.Namespace, folder: Path) -> None:
    """Plant, fit, rank and print."""
    data = load(options.data)
    rng = np.random.default_rng(options.seed)
    part = data.table["split"].fillna("train").to_numpy()[data.labeled]
    rows = np.sort(rng.permutation(data.labeled[part == "train"])[: options.images])
    side = int(data.images(rows).sizes.min())
    pixels = stored_pixels(data.images(rows), Preprocessing(side, side)).numpy()
    labels = data.labels[rows]
    wrong = rng.random(len(rows)) < options.share
    classes = len(data.class_names)
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, wrong.sum())) % classes
    file = folder / "noisy.npz"
    names = np.array(data.class_names)
    np.savez(file, x_train=pixels.transpose(0, 2, 3, 1), y_train=labels, class_names=names)
    started = time.perf_counter()
    settings = {"recipe": options.recipe, "folds": 5, "budget": "30m"}
    run = labelwise.train(file, out=folder / "run", **settings)
    fitted = time.perf_counter()
    found = labelwise.audit(run, file, out=folder / "audit")
    audited = time.perf_counter()
    again = labelwise.train(file, out=folder / "again", **settings)
    labelwise.audit(again, file, out=folder / "audit2")
    second = time.perf_counter() - audited
    print(f"{len(rows)} images, {wrong.sum()} wrong labels; {options.recipe} in 5 folds")
    print(f"first: run {fitted - started:.0f} s, audit {audited - fitted:.0f} s; ", end="")
    print(f"both again, embeddings stored: {second:.0f} s\n")
    print(f"| by | AUROC | wrong among the first {FIRST} |")
    print("|---|---|---|")
    table = found.table.sort_values("id")
    doubt = (1 - table["p_label"] + table["p_proposed"]) / 2
    for name, score in (
        ("answers", doubt),
        ("neighbors", table["neighbors"]),
        ("both", suspicion(doubt, table["neighbors"])),
    ):
        values = np.asarray(score)
        truth = wrong[table["id"].to_numpy()]
        first = truth[np.argsort(-values, kind="stable")[:FIRST]].mean()
        print(f"| {name} | {roc_auc_score(truth, values):.4f} | {100 * first:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
