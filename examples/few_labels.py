"""Few labels, many images: does it help to learn from images without a label, and how much?

    python examples/few_labels.py [--quick] [--data stl10] [--out runs/few-labels]

The story, with the pictures and the numbers, is docs/stories/few-labels.md.
"""

import argparse
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import labelwise as lw
from labelwise.errors import LabelwiseError

COURSE = {"supervised": 43.05, "self-training": 33.05, "two-step": 19.24, "joint": 10.0}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few images, a small network")
parser.add_argument("--data", default="stl10", help="images with labels, of which most are hidden")
parser.add_argument("--out", type=Path, default=Path("runs/few-labels"))
options = parser.parse_args()
quick, out, began = options.quick, options.out, time.perf_counter()
print("The full setting takes about 40 minutes on two cores; --quick a minute.", flush=True)

try:
    data = lw.load(options.data)
except LabelwiseError as error:
    parser.exit(2, f"few_labels: {error}\n")

data = data.few(100) if quick else data  # of every class and part
print("\n1. One network of five convolutions, alone and with the images that have no label")
# With patience the validation part chooses the epoch and the round: one fit each, no inner folds.
net = "preset=code, width=0.5, epochs=3" if quick else "preset=stl5, patience=10"
net, rounds = f"{net}, image_size=32", ", rounds=2" if quick else ""
recipes = {
    "supervised": f"cnn({net})",
    "self-training": f"self-training(preset=classic{rounds}, base=cnn({net}))",
    "two-step": f"autoencoder({net})",
    "joint": f"joint-autoencoder({net}, weight=1)",
}
run = lw.compare(
    data,
    recipes=[f"{name}={text}" for name, text in recipes.items()],
    labels="10,20/class" if quick else "10,100,500/class",
    folds=1,
    budget="30s" if quick else "10m",  # the epochs are given; this is only how long to time them
    resume=True,
    out=out / "run",
)

print("\n2. Right on the test part, which nothing was learned from or decided on, in percent")
rows = []
for row in run.results["rows"]:
    if row["status"] != "done":
        sys.exit(f"few_labels: {row['variant']} failed: {row['reason']}")
    value = row["test"]["accuracy"]
    rows.append(
        {
            "labels per class": int(row["labels"].split("-")[0]),
            "variant": row["variant"],
            **{key: 100 * value[key] for key in ("value", "low", "high")},
            "result": "the twin" if "is returned" in (row["reason"] or "") else "its own",
        }
    )
results = pd.DataFrame(rows)
print(results.round(1).to_string(index=False))

print("\n3. Each beside the same network without the unlabeled images: held-out images, in pairs")
for pair in run.results["pairs"]:
    if pair["gain"]:
        low, high = 100 * pair["low"], 100 * pair["high"]
        print(
            f"   {pair['labels']:>14} {pair['a']}: {100 * pair['difference']:+.1f} points "
            f"({low:+.1f} to {high:+.1f}), p = {pair['p']:.2g}"
        )

print("\n4. What self-training took the unlabeled images for, round by round")
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
for folder in sorted((run.folder / "trials" / "self-training").glob("*_fold-0")):
    history = pd.read_parquet(folder / "history.parquet")
    steps = history[history["step"] > 0]
    labels = folder.name.split("_")[0].removeprefix("labels-").replace("-", " ")
    (line,) = right.plot(steps["step"], steps["adopted"], "o-", label=labels)
    known = steps[steps["adopted_known"] > 0]  # of others nobody knows what is right
    right.plot(known["step"], known["adopted_right"], "o--", color=line.get_color())
    for step in steps.to_dict("records"):
        count = step["adopted_known"]
        share = f", {100 * step['adopted_right'] / count:.0f} % right" if count else ""
        print(f"   {labels}, round {step['step']}: {step['adopted']:.0f} adopted{share}")
right.set(xlabel="round", ylabel="pseudo-labels (dashed: of these right)")
right.legend()

names = sorted(set(results["labels per class"]))
for number, (variant, own) in enumerate(results.groupby("variant", sort=False)):
    places = own["labels per class"] * 1.04**number  # side by side, where two are the same
    spread = [own["value"] - own["low"], own["high"] - own["value"]]
    line = left.errorbar(places, own["value"], spread, fmt="o-", capsize=3, label=variant)
    if not quick:
        left.plot(560, COURSE[variant], "x", color=line[0].get_color())
left.set(xscale="log", xlabel="labels per class", ylabel="right on the test part, percent")
left.set_title("with 95 % intervals" + ("" if quick else "; crosses: the course"))
left.set_xticks(names, names)
left.legend()
figure.savefig(out / "few-labels.png", dpi=100)

print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes. Look at {out / 'few-labels.png'} and")
print(run.report)
