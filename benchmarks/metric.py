"""How well a metric embedding puts images next to others of their class, beside two floors.

    python benchmarks/metric.py DATA/mnist.npz --seen-classes 2,3,1,7,9
    python benchmarks/metric.py DATA/mnist.npz --learn-from DATA/cifar10 --images 5 --epochs 20
    python benchmarks/metric.py DATA/mnist.npz --peer

Trains `metric(preset=embedding)` for --epochs times --steps batches on the training part, or that
of other data (in gray, the middle 28 x 28 pixels), and judges the images of the test part, among
classes that were learned from, among others, and all together: recall@1, MAP@R and accuracy of
prototypes with 95 % intervals over images. The same numbers of plain pixels and of the network
before training stand beside them. --held-out N judges N images of the training part instead, from
which nothing was learned: choices are made there. --out keeps the model, for `labelwise map`.

--peer prints training steps per second instead, beside those of pytorch-metric-learning's
MetricLossOnly with its own sampler, the same network, loss and batches, in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from engines.turns import spread
from pytorch_metric_learning import losses, miners, samplers
from pytorch_metric_learning.trainers import MetricLossOnly
from torch.utils.data import TensorDataset

from labelwise.bundle import save
from labelwise.data.dataset import Dataset
from labelwise.data.load import load
from labelwise.data.preprocess import Preprocessing
from labelwise.features import stored_pixels
from labelwise.judging import Nearness, judge_embedding
from labelwise.model import Model
from labelwise.nn.layers import Stack, initialize
from labelwise.recipe.base import Context, Task
from labelwise.recipe.metric import Metric

SHOWN = ("recall@1", "map@r", "prototype_accuracy")
SIDE = 28  # pixels
ROUNDS, TIMED = 5, 100  # of --peer, and steps in each


def main() -> None:
    """Print the table of one embedding, or the peer's speed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--learn-from")
    parser.add_argument("--seen-classes")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--loss", default="multi-similarity")
    parser.add_argument("--augment")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="folder for the model")
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    data = load(options.data)
    recipe = Metric(
        preset="embedding",
        loss=options.loss,
        epochs=options.epochs,
        steps=options.steps,
        batch=options.batch,
        images=options.images,
        augment=options.augment,
        turns=options.turns,
        image_size=SIDE,
        color="gray",
        seen_classes=options.seen_classes,
    )
    test = _part(data, "test")
    rows = _part(data, "train")
    if options.held_out:
        order = np.random.default_rng(0).permutation(rows)
        test, rows = np.sort(order[: options.held_out]), np.sort(order[options.held_out :])
    source = data
    if options.learn_from:
        with TemporaryDirectory() as folder:
            source = center_cropped(load(options.learn_from), Path(folder))
        rows = _part(source, "train")
    else:
        rows = rows[~np.isin(data.groups[rows], data.groups[test])]
    task = Task(source.images(rows), source.labels[rows], source.class_names)
    if options.peer:
        peer(recipe, task)
        return
    context = Context(seed=options.seed)
    started = time.perf_counter()
    model = recipe.fit(task, context).model
    print(f"{options.epochs * options.steps} steps in {time.perf_counter() - started:.0f} s\n")
    if options.out:
        save(model, options.out)
    report(judge_embedding(model, data.images(test), data.labels[test], data.class_names))


def report(rows: Sequence[Nearness]) -> None:
    """Print the table."""
    print(f"| classes | images | by | {' | '.join(SHOWN)} |")
    print("|---" * (3 + len(SHOWN)) + "|")
    for row in rows:
        found = (row.metrics[name] for name in SHOWN)
        cells = (f"{100 * i.value:.1f} ({100 * i.low:.1f} to {100 * i.high:.1f})" for i in found)
        print(f"| {row.part} | {row.count} | {row.vectors} | {' | '.join(cells)} |", flush=True)


def center_cropped(data: Dataset, folder: Path) -> Dataset:
    """The training part in gray with the outer pixels cut off, so that it is SIDE pixels a side."""
    rows = _part(data, "train")
    side = int(data.images(rows).sizes.min())
    whole = Preprocessing(side, side, color="gray")
    pixels = stored_pixels(data.images(rows), whole)
    edge = (pixels.shape[2] - SIDE) // 2
    inner = pixels[:, 0, edge : edge + SIDE, edge : edge + SIDE]
    names = np.array(data.class_names)
    np.savez(folder / "gray.npz", x_train=inner, y_train=data.labels[rows], class_names=names)
    return load(folder / "gray.npz")


def peer(recipe: Metric, task: Task) -> None:
    """Print steps per second of both, and the ratio."""
    ours, theirs = [], []
    own = replace(recipe, epochs=1, steps=TIMED)
    trainer = _trainer(own, task, own.fit(task, Context()).model)
    for _ in range(ROUNDS):
        ours.append(TIMED / float(own.fit(task, Context()).history[0]["seconds"]))
        started = time.perf_counter()
        trainer.train(num_epochs=1)
        theirs.append(TIMED / (time.perf_counter() - started))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print("steps/s and ratios: minimum, median, maximum")
    print(f"labelwise {spread(ours)}; MetricLossOnly {spread(theirs)}; ratio {spread(ratios)}")


def _trainer(recipe: Metric, task: Task, model: Model) -> MetricLossOnly:
    """The peer's, as its documentation has it, with images in memory."""
    pixels = stored_pixels(task.images, model.preprocessing).float().div(255)
    trunk = _Embedding(Stack(recipe.body, model.preprocessing.shape))
    initialize(trunk, torch.Generator())
    batch = recipe.batch or 1
    return MetricLossOnly(
        models={"trunk": trunk, "embedder": torch.nn.Identity()},
        optimizers={"trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=recipe.lr or 0.0)},
        batch_size=batch,
        loss_funcs={"metric_loss": losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)},
        mining_funcs={"tuple_miner": miners.MultiSimilarityMiner(epsilon=0.1)},
        dataset=TensorDataset(pixels, torch.from_numpy(task.labels)),
        sampler=samplers.MPerClassSampler(task.labels, recipe.images, batch, TIMED * batch),
        iterations_per_epoch=TIMED,
        dataloader_num_workers=0,
    )


class _Embedding(torch.nn.Module):
    """The embedding alone of what gives maps as well."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(images)[1]
        return found


def _part(data: Dataset, name: str) -> np.ndarray:
    """Rows with a label of a part of the data."""
    usable = data.usable
    part = data.table["split"].fillna("train").to_numpy()[usable]
    return usable[(part == name) & (data.labels[usable] >= 0)]


if __name__ == "__main__":
    main()
