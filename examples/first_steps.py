"""First steps: dense and convolutional nets on MNIST and CIFAR-10, and what they get wrong.

python examples/first_steps.py --quick
python examples/first_steps.py --out runs/first-steps
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import labelwise as lw
from labelwise.errors import LabelwiseError

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few images, under two minutes")
parser.add_argument("--out", type=Path, default=Path("runs/first-steps"), help="folder for all")
options = parser.parse_args()
began = time.perf_counter()


def save(name: str) -> None:
    """The picture that was drawn last, into the output folder."""
    plt.savefig(options.out / name, dpi=110, bbox_inches="tight")
    plt.close()


# 1. The data. Each has a test part of its own, which stays sealed until everything is decided.
try:
    mnist, cifar = lw.load("mnist"), lw.load("cifar10")
except LabelwiseError as error:
    parser.exit(2, f"first_steps: {error}\n")
print(f"{mnist.name}: {len(mnist.usable)} images; {cifar.name}: {len(cifar.usable)} images")
if options.quick:
    mnist, cifar = mnist.few(300), cifar.few(300)  # of every class and part
print("The full setting takes about 5 minutes on two cores, --quick one.", flush=True)

# 2. The course's nets, with its optimizer, batch and epochs. A fifth of the images that may be
# learned from is for validation; nothing is decided on the test part.
nets = [
    (mnist, "mnist-dense=mlp(preset=first-mlp)"),
    (cifar, "cifar-dense=mlp(preset=first-mlp-color), cifar-conv=cnn(preset=first-cnn)"),
]
protocol = {"folds": 1, "budget": "30s" if options.quick else "10m", "resume": True}
runs = {}
for data, recipes in nets:
    print(f"training on {data.name}: {recipes}", flush=True)
    runs[data.name] = lw.compare(data, recipes=recipes, out=options.out / data.name, **protocol)
rows = [(name, row) for name, run in runs.items() for row in run.results["rows"]]

# 3. What they came to: the same numbers on images learned from, held out, and of the test part.
table = pd.DataFrame(
    {
        "net": row["variant"],
        "train": f"{row['train']['accuracy']:.1%}",
        "held out": f"{row['metrics']['accuracy']['value']:.1%}",
        "test": "{value:.1%} ({low:.1%} to {high:.1%})".format(**row["test"]["accuracy"]),
        "seconds": f"{row['fit_seconds']:.0f}",
    }
    for _, row in rows
)
print(table.to_string(index=False))

# 4. Loss and accuracy after every epoch, of images learned from and of the validation part.
figure, axes = plt.subplots(2, len(rows), figsize=(4 * len(rows), 6), squeeze=False)
for column, (name, row) in zip(axes.T, rows, strict=True):
    trials = runs[name].folder / "trials" / row["variant"]
    history = pd.read_parquet(next(trials.glob("*_fold-0")) / "history.parquet")
    for axis, what in zip(column, ("loss", "accuracy"), strict=True):
        for part in ("train", "validation"):
            axis.plot(history["epoch"], history[f"{part}_{what}"], label=part)
        axis.set(title=f"{row['variant']}: {what}", xlabel="epoch")
axes[0, 0].legend()
figure.tight_layout()
save("first-steps-curves.png")

# 5. Which classes are taken for which: counts on the test part, a row per true class.
figure, axes = plt.subplots(1, len(rows), figsize=(5 * len(rows), 5), squeeze=False)
for axis, (name, row) in zip(axes[0], rows, strict=True):
    trials = runs[name].folder / "trials" / row["variant"]
    answers = pd.read_parquet(next(trials.glob("*_final")) / "predictions.parquet")
    classes = [one["name"] for one in row["test_per_class"]]
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (answers["label"], answers["predicted"]), 1)
    axis.imshow(counts / counts.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (true, taken), count in np.ndenumerate(counts):
        shade = "white" if count > counts[true].sum() / 2 else "black"
        axis.text(taken, true, count, ha="center", va="center", fontsize=7, color=shade)
    axis.set_xticks(range(len(classes)), classes, rotation=60, ha="right")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(title=row["variant"], xlabel="answer", ylabel="label")
figure.tight_layout()
save("first-steps-confusion.png")

# 6. The worst classes, and the wrong images to leaf through, with heat for answer and label.
for _, row in rows:
    worst = sorted(row["test_per_class"], key=lambda one: one["recall"]["value"])[:3]
    found = ", ".join(f"{one['name']} {one['recall']['value']:.1%}" for one in worst)
    print(f"{row['variant']}: found least often are {found}")
for data, _ in nets:
    run = runs[data.name]
    wrong = lw.mistakes(run.folder, data, split="test", out=options.out / f"{data.name}-mistakes")
    print(f"{data.name}: wrong images {wrong.page}, report {run.report}")
print(f"pictures: {options.out}/*.png; {(time.perf_counter() - began) / 60:.1f} minutes in all")
