"""My own photos: what is wrong with them, who classifies them best, and what it looks at.

    python examples/own_photos.py [--quick] [FOLDER] [--out runs/own-photos]

The story, with the pictures and the numbers, is docs/stories/own-photos.md.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

import labelwise as lw
from labelwise.errors import LabelwiseError

KEYS = ("value", "low", "high")

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", nargs="?", default="food", help="your photos, one folder per class")
parser.add_argument("--quick", action="store_true", help="small images, few epochs, one fold")
parser.add_argument("--out", type=Path, default=Path("runs/own-photos"))
options = parser.parse_args()
quick, out, began = options.quick, options.out, time.perf_counter()
print("The full setting takes 8 minutes on two cores; --quick a minute.", flush=True)

print("\n1. What is in there, and what is wrong with it")
try:
    found = lw.check(options.data)
    # The small network of step 2; its images have nothing to do with the photos.
    start = lw.load("mammals", target="fine_label") if quick else lw.load("cifar10")
except LabelwiseError as error:
    parser.exit(2, f"own_photos: {error}\n")
print("   photos: " + ", ".join(f"{count['total']} {n}" for n, count in found.classes.items()))
table = found.data.table
for path, reason in table.loc[table["decision"] == "set aside", ["path", "reason"]].to_numpy():
    print(f"   {path}: {reason}")
print("\n".join(f"   note: {warning}" for warning in found.warnings))

print("\n2. A small network learns on other images of 32 pixels first, to be passed on")
less = "width=0.25, epochs=1" if quick else "width=0.5, epochs=3"
given = {"folds": 1, "budget": "30s" if quick else "10m", "resume": True}
small = lw.train(start, recipe=f"cnn(preset=fast, {less})", out=out / "small", **given)

print("\n3. A fifth of the photos is sealed; the others learn and are judged in folds")
net = f"backbone='{small.folder}', preset=fast, epochs={2 if quick else 30}"
size, tuning = ("96", "epochs=1, layers=1") if quick else ("224", "epochs=4, layers=4")
recipes = [
    f"scratch=cnn({net}, start=untrained)",
    f"transfer=cnn({net})",
    f"frozen=probe(image_size={size})",
    f"tuned=finetune(image_size={size}, {tuning})",
]
given["folds"] = 1 if quick else 5
run = lw.compare(found.data, recipes=recipes, test=0.2, out=out / "photos", **given)
known = [warning for warning in run.record["warnings"] if "has learned" in warning]
print("\n".join(f"   note: {warning}" for warning in known))
print(f"   {run.results['why']}")
for pair in run.results["pairs"]:
    if pair["gain"]:
        points = " to ".join(f"{100 * pair[key]:+.1f}" for key in ("low", "high"))
        print(f"   {pair['a']}: {pair['gain']} brought {100 * pair['difference']:+.1f} ({points})")
rows = []
for row in run.results["rows"]:
    judged = {"held-out": row["metrics"]["accuracy"], "test": row["test"]["accuracy"]}
    values = {f"{part} {k}": 100 * judged[part][k] for part in judged for k in KEYS}
    rows.append({"variant": row["variant"], **values})
results = pd.DataFrame(rows)
print(results.round(1).to_string(index=False))
print("   labels to look at first, the worst five of suspects.parquet:")
print(pd.read_parquet(run.folder / "suspects.parquet").head(5).to_string(index=False))

print("\n4. Everything is decided: now the sealed photos, the wrong ones, and the heat")
kept = pd.read_parquet(run.folder / "data.parquet")
sealed = kept.loc[(kept["split"] == "test") & kept["label"].notna(), ["id", "label"]]
for row, label in sealed.to_numpy(int):
    pixels = found.data.pixels.read(row)
    (y, x), half = np.array(pixels.shape[:2]) // 2, round(min(pixels.shape[:2]) * 3 / 8)
    edges = pixels.copy()
    edges[y - half : y + half, x - half : x + half] = 128  # the middle of what the network gets
    for kind, picture in (("sealed", pixels), ("edges", edges)):
        folder = out / kind / found.data.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{row}.png")
wrong = lw.mistakes(run.folder, out / "sealed", out=out / "mistakes")
looks = lw.explain(run.folder, out / "sealed", channels=(0, 7, 12), out=out / "looks")
edges = lw.evaluate(run.folder, out / "edges").evaluation.metrics["accuracy"]
print(f"   {(wrong.table['label'] != wrong.table['predicted']).sum()} of {len(sealed)} are wrong")
print(f"   of the edges alone, the middle gray, {100 * edges.value:.0f} % would be right")
print(f"   {looks.alarm or 'The heat of all photos together does not look like a shortcut.'}")

maps = pd.read_parquet(out / "looks" / "maps.parquet")
heat = np.stack(maps["heat"].to_list()).clip(min=0).reshape(len(maps), 16, 16)
heat = heat / heat.sum(axis=(1, 2), keepdims=True).clip(min=1e-9)  # shares of each photo's heat
ring = np.ones((16, 16), bool)
ring[2:-2, 2:-2] = False  # two of sixteen cells on every side: 44 % of the area
classes = [Path(path).parent.name for path in maps["path"]]
names = [name for name in found.data.class_names if name in classes][:6]
shape = {"figsize": (4 + 2.4 * len(names), 3.4), "width_ratios": [2, *[1] * len(names)]}
figure, axes = plt.subplots(1, 1 + len(names), layout="constrained", **shape)
places = -np.arange(len(results))
for part, shift, mark in (("held-out", 0.1, "o"), ("test", -0.1, "D")):
    value, low, high = (results[f"{part} {key}"] for key in ("value", "low", "high"))
    axes[0].errorbar(value, places + shift, xerr=[value - low, high - value], fmt=mark, label=part)
axes[0].set_yticks(places, results["variant"])
axes[0].set_xlabel("right, percent, with 95 % intervals")
axes[0].legend(loc="lower left")
for axis, name in zip(axes[1:], names, strict=True):
    mean = heat[[found_class == name for found_class in classes]].mean(axis=0)
    axis.imshow(mean, cmap="magma", vmin=0)
    axis.set(title=f"{name}\n{100 * mean[ring].sum():.0f} % at the border", xticks=[], yticks=[])
    print(f"   {name}: {100 * mean[ring].sum():.0f} % of the heat in the outer 44 % of the area")
figure.savefig(out / "own-photos.png", dpi=100)

print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes. Look at {out / 'own-photos.png'},")
print("\n".join(map(str, (run.report, wrong.page, looks.page))))
