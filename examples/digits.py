"""Digits: two nets counted class by class, and three embeddings judged on digits never seen.

python examples/digits.py --quick
python examples/digits.py --out runs/digits
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import labelwise as lw
from labelwise.epochs import epoch_counts, epoch_metrics
from labelwise.errors import LabelwiseError
from labelwise.measure import pr_curve, roc_curve

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few images, under two minutes")
parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for all")
options = parser.parse_args()
out, quick, began = options.out, options.quick, time.perf_counter()


def save(name: str) -> None:
    """The picture that was drawn last, into the output folder."""
    plt.tight_layout()
    plt.savefig(out / name, dpi=90)
    plt.close()


# 1. The data. The test part stays sealed until everything is decided.
try:
    mnist, cifar = lw.load("mnist"), lw.load("cifar10")
except LabelwiseError as error:
    parser.exit(2, f"digits: {error}\n")
if quick:
    mnist, cifar = mnist.few(60), cifar.few(60)  # of every class and part
print(f"{len(mnist.usable)} digits, {len(cifar.usable)} photos; in full 13 minutes", flush=True)
common = {"budget": "30s" if quick else "30m", "resume": True}

# 2. Two nets in five folds: every image outside the test part is judged once, by a net that has
# not seen it. Then each learns from all of them and answers for the test part, once.
nets = "digits=cnn(preset=digits), dense10=mlp(preset=dense10)"
run = lw.compare(mnist, recipes=nets, folds=5, out=out / "nets", **common)
for row in run.results["rows"]:
    held, test = (row[part]["accuracy"]["value"] for part in ("metrics", "test"))
    least, most = min(row["spread"]["folds"]), max(row["spread"]["folds"])
    print(f"{row['variant']:8} folds {held:.1%} ({least:.1%} to {most:.1%}), test {test:.1%}")

# 3. After every epoch of the first fold: counts of each class in the validation part, and what
# comes of them. micro counts images, macro gives every class the same weight.
folds = {net: sorted(run.folder.glob(f"trials/{net}/*_fold-*")) for net in ("digits", "dense10")}
history = {net: pd.read_parquet(trials[0] / "history.parquet") for net, trials in folds.items()}
counts = epoch_counts(history["digits"]).query("part == 'validation'")
print(counts[counts["epoch"] == counts["epoch"].max()].drop(columns="part").to_string(index=False))
figure, axes = plt.subplots(1, 4, figsize=(16, 3.5))
for axis, what in zip(axes, ("tp", "fp", "fn", "tn"), strict=True):
    lines = counts.pivot(index="epoch", columns="class", values=what)
    lines.plot(ax=axis, title=what.upper(), legend=False)
axes[-1].legend(title="digit", loc="center left", bbox_to_anchor=(1, 0.5))
save("digits-counts.png")
figure, axes = plt.subplots(1, 5, figsize=(18, 3.5))
measures = ("precision", "recall", "f_beta", "specificity", "fall_out")
for net, epochs in history.items():
    metrics = epoch_metrics(epochs, beta=2).query("part == 'validation'").set_index("epoch")
    for how, line in (("micro", "--"), ("macro", "-")):
        for axis, what in zip(axes, measures, strict=True):
            metrics[f"{how}_{what}"].plot(ax=axis, ls=line, label=f"{net}, {how}", title=what)
axes[0].legend()
save("digits-epochs.png")

# 4. ROC and precision-recall curves of all held-out answers: the mean of the classes' curves.
figure, axes = plt.subplots(1, 2, figsize=(10, 4))
for net, trials in folds.items():
    answers = pd.concat([pd.read_parquet(trial / "predictions.parquet") for trial in trials])
    labels, proba = answers["label"].to_numpy(), answers.filter(like="p_").to_numpy()
    for axis, curve in zip(axes, (roc_curve, pr_curve), strict=True):
        found = curve(labels, proba, of="macro")
        axis.plot(found.x, found.y, label=f"{net}: {found.area:.4f}")
        axis.legend(loc="lower center")
axes[0].set(xlabel="fall-out", ylabel="recall", xlim=(-0.01, 0.3), title="ROC, macro")
axes[1].set(xlabel="recall", ylabel="precision", title="precision-recall, macro")
save("digits-curves.png")

# 5. Three embeddings: of five digits, in batches of 5 classes x 10 images, changed and turned; of
# photos in gray; and of all digits without a label, from a file that holds none.
train = mnist.images(np.flatnonzero(mnist.table["split"] == "train"))
np.savez(out / "nameless.npz", x_unlabeled=np.stack([train.read(i) for i in range(len(train))]))
net = f"metric(preset=embedding, steps={25 if quick else 1000}"
changes = "turns=4, augment='crop 3, randaugment 2 8'"
five = f"{net}, epochs={1 if quick else 2}, seen_classes='2,3,1,7,9', {changes})"
gray = f"{net}, epochs=1, images=5, color=gray, image_size=28)"
vae = f"vae(epochs={2 if quick else 5})"
tasks = (mnist, five, 1), (cifar, gray, 1), (out / "nameless.npz", vae, None)
names = "five-digits", "gray-photos", "nameless"

# 6. Each judged on the test part, by the nearest image, eight of them, all near ones, class means.
rows, maps = [], plt.subplots(1, 3, figsize=(15, 5))[1]
for axis, name, (data, recipe, held) in zip(maps, names, tasks, strict=True):
    print(f"{name}: {recipe}", flush=True)
    learned = lw.train(data, recipe=recipe, folds=held, out=out / name, **common).folder
    rows += [(name, row) for row in lw.judge(learned, mnist, split="test").rows]
    drawn = lw.map_embeddings(learned, mnist, split="test", out=out / f"{name}.html").table
    axis.scatter(drawn["tsne_x"], drawn["tsne_y"], 2, drawn["label"].astype(int), cmap="tab10")
    for digit, of in drawn.groupby("label"):
        axis.text(of["tsne_x"].median(), of["tsne_y"].median(), digit, weight="bold")
    axis.set(title=f"{name}, t-SNE", xticks=[], yticks=[])
save("digits-maps.png")
shown = {"recall@1": "nearest", "recall@8": "of 8", "map@r": "MAP@R", "prototype_accuracy": "mean"}
table = pd.DataFrame(
    {"learned from": name, "by": row.vectors, "digits": row.part, "images": row.count}
    | {short: f"{row.metrics[metric].value:.1%}" for metric, short in shown.items()}
    for name, row in rows
)
print(table.to_string(index=False))
print(f"reports: {out}/*/report.html; maps: {out}/*.html; pictures: {out}/*.png")
print(f"{(time.perf_counter() - began) / 60:.1f} minutes in all")
