"""Two levels of labels: mammals in 3 superclasses and 15 classes, and what one teaches the other.

    python examples/two_levels.py [--quick] [--data mammals] [--out runs/two-levels]

The story, with the pictures and the numbers, is docs/stories/two-levels.md.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import labelwise as lw
from labelwise.errors import LabelwiseError
from labelwise.measure import verdicts

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer epochs of narrower networks")
parser.add_argument("--data", default="mammals", help="has coarse_label and fine_label")
parser.add_argument("--out", type=Path, default=Path("runs/two-levels"))
options = parser.parse_args()
quick, out, began = options.quick, options.out, time.perf_counter()
# The epochs are given, so that the budget only says how long to time them.
given = {"folds": 1, "budget": "30s" if quick else "10m", "resume": True}
print("The full setting takes about 25 minutes on two cores; --quick a minute.", flush=True)

try:
    coarse = lw.load(options.data, target="coarse_label")
    fine = lw.load(options.data, target="fine_label")
except LabelwiseError as error:
    parser.exit(2, f"two_levels: {error}\n")
above = {fine.class_names[fine.labels[row]]: coarse.labels[row] for row in fine.labeled}

print("\n1. Stride or pooling: two ways to make the maps smaller, in the course's networks")
less = ", width=0.25, epochs=2" if quick else ""
nets = [f"{name}=cnn(preset=mammals-{name}{less})" for name in ("stride", "pool")]
nets.append(f"fast=cnn(preset=fast{less or ', width=0.75, epochs=9'})")  # one of today
first = lw.compare(coarse, recipes=nets, out=out / "coarse", **given)
print(f"   {first.results['why']}")
history = first.folder / "trials" / "stride" / "labels-all_repeat-0_fold-0" / "history.parquet"
seen = pd.read_parquet(history)["train_accuracy"].iloc[-1]
print(f"   stride had {seen:.0%} of its images right as it learned; asked again: 'train' below")
layers = "4 x [conv64 3x3 stride 2 same, batch norm 0.9, relu]"
net = f'steady=cnn(preset=mammals-stride, layers="{layers}"{less})'
steady = lw.compare(coarse, recipes=net, out=out / "steady", **given)

print("\n2. A network that is too deep for 32 pixels is refused before anything is trained")
try:
    lw.compare(coarse, recipes='cnn(layers="6 x [conv64 3x3 same, max 2]")', out=out / "deep")
except LabelwiseError as error:
    print(f"   {error}")

print("\n3. That net goes on: superclasses again in a quarter of the epochs, then classes")
start = f"backbone='{steady.folder}', preset=mammals-stride"
nets = f"again=cnn({start}, epochs={1 if quick else 5})"
again = lw.compare(coarse, recipes=nets, **given, out=out / "superclasses")
nets = (
    f"classes=cnn({start}, epochs={2 if quick else 20}), frozen=probe(backbone='{steady.folder}')"
)
below = lw.compare(fine, recipes=nets, **given, out=out / "classes")
print("   " + "\n   ".join(w for w in below.record["warnings"] if "has learned from" in w))


def answers(run: lw.Run, variant: str) -> pd.DataFrame:
    """What a final model answers to the test part, which no run has learned from."""
    trial = run.folder / "trials" / variant / "labels-all_repeat-0_final"
    return pd.read_parquet(trial / "predictions.parquet")


print("\n4. Against the same network untrained, image by image, on the test part")
for run, variant in ((again, "again"), (below, "classes")):
    two = {name: answers(run, name) for name in (variant, f"{variant}-untrained")}
    proba = {name: table.filter(like="p_").to_numpy() for name, table in two.items()}
    pair = verdicts(two[variant]["label"], proba)[0]
    sign = 1 if pair.a == variant else -1
    low, value, high = sorted(100 * sign * v for v in (pair.low, pair.difference, pair.high))
    verdict = "cannot tell" if pair.p >= 0.05 else "helped" if sign > 0 else "hurt"
    found = f"{value:+.1f} points ({low:+.1f} to {high:+.1f}), p = {pair.p:.2g}: {verdict}"
    print(f"   {variant}: the trained start brought {found}")

table = answers(below, "classes")
parent = np.array([above[name] for name in fine.class_names])
wrong = table[table["predicted"] != table["label"]]
inside = (parent[wrong["predicted"]] == parent[wrong["label"]]).mean()
print(f"   {inside:.0%} of the wrong classes are of the right superclass")

print("\n5. All results, in percent")
rows = []
tasks = ("superclasses", "superclasses", "superclasses again", "classes")
for task, run in zip(tasks, (first, steady, again, below), strict=True):
    for row in run.results["rows"]:
        test = row["test"]["accuracy"]
        percents = [row["train"]["accuracy"], test["value"], test["low"], test["high"]]
        rows.append([task, row["variant"], *(100 * value for value in percents)])
results = pd.DataFrame(rows, columns=["task", "variant", "train", "test", "low", "high"])
print(results.round(1).to_string(index=False))

figure, (left, matrix) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
places = -np.arange(len(results))
spread = [results["test"] - results["low"], results["high"] - results["test"]]
left.errorbar(results["test"], places, xerr=spread, fmt="o", capsize=3)
left.axvline(61.07, ls=":", color="gray")
left.set_yticks(places, results["task"] + ": " + results["variant"])
left.set_xlabel("right on the test part, percent, 95 % intervals; dotted: the course")
counts = np.zeros((len(parent), len(parent)))
np.add.at(counts, (table["label"], table["predicted"]), 1)
order = np.argsort(parent, kind="stable")
matrix.imshow((counts / counts.sum(axis=1, keepdims=True))[np.ix_(order, order)], cmap="Blues")
names = [fine.class_names[k] for k in order]
matrix.set_xticks(range(len(names)), names, rotation=90)
matrix.set_yticks(range(len(names)), names)
matrix.hlines(np.flatnonzero(np.diff(parent[order])) + 0.5, -0.5, len(names) - 0.5, "black")
matrix.set(xlabel="answer", ylabel="class", title="Classes, by superclass")
figure.savefig(out / "two-levels.png", dpi=100)

print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes. Look at {out / 'two-levels.png'},")
print(*(run.report for run in (first, steady, again, below)), sep="\n")
