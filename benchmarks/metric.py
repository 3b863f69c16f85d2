"""How well a metric embedding puts images next to others of their class, beside two floors.

    python benchmarks/metric.py DATA/mnist.npz --seen-classes 2,3,1,7,9
    python benchmarks/metric.py DATA/mnist.npz --learn-from DATA/cifar10 --batch 50 --images 5
    python benchmarks/metric.py DATA/mnist.npz --peer

Trains `metric(preset=embedding)` for --epochs times --steps batches on the training part, or that
of other data, and judges the images of the test part, among classes that were learned from, among
others, and all together: recall@1, MAP@R and accuracy of prototypes with 95 % intervals over
images. The same numbers of plain pixels and of the network before training stand beside them.

--peer prints training steps per second instead, beside those of pytorch-metric-learning's
MetricLossOnly with its own sampler, the same network, loss and batches, in turn.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from engines.turns import spread
from pytorch_metric_learning import losses, miners, samplers
from pytorch_metric_learning.trainers import MetricLossOnly
from torch.utils.data import TensorDataset

from labelwise.data.dataset import Dataset, Images
from labelwise.data.load import load
from labelwise.features import stored_pixels
from labelwise.measure.retrieval import retrieval
from labelwise.model import Model
from labelwise.nn.layers import Stack, initialize
from labelwise.recipe.base import Context, Task
from labelwise.recipe.metric import Metric

SHOWN = ("recall@1", "map@r", "prototype_accuracy")
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    data = load(options.data)
    test = _part(data, "test")
    recipe = Metric(
        preset="embedding",
        loss=options.loss,
        epochs=options.epochs,
        steps=options.steps,
        batch=options.batch,
        images=options.images,
        image_size=28,
        color="gray",
        seen_classes=options.seen_classes,
    )
    source = load(options.learn_from) if options.learn_from else data
    rows = _part(source, "train")
    rows = rows[~np.isin(source.groups[rows], source.groups[test])] if source is data else rows
    task = Task(source.images(rows), source.labels[rows], source.class_names)
    if options.peer:
        peer(recipe, task)
        return
    context = Context(seed=options.seed)
    untrained = replace(recipe, lr=1e-12, epochs=1, steps=1).fit(task, context).model
    started = time.perf_counter()
    model = recipe.fit(task, context).model
    print(f"{options.epochs * options.steps} steps in {time.perf_counter() - started:.0f} s\n")
    judge(model, untrained, data, test, options.seen_classes)


def judge(
    model: Model, untrained: Model, data: Dataset, rows: np.ndarray, seen: str | None
) -> None:
    """Print the table."""
    images, labels = data.images(rows), data.labels[rows]
    points = {
        "plain pixels": plain(images, model),
        "untrained": untrained.embed(images),
        "metric": model.embed(images),
    }
    parts = {"all": np.ones(len(rows), bool)}
    if seen:
        known = np.isin(labels, [data.class_names.index(name) for name in seen.split(",")])
        parts = {"seen": known, "unseen": ~known, **parts}
    print(f"| classes | images | embedding | {' | '.join(SHOWN)} |")
    print("|---" * (3 + len(SHOWN)) + "|")
    for part, kept in parts.items():
        for name, vectors in points.items():
            found = retrieval(vectors[kept], labels[kept]).intervals()
            cells = (
                f"{100 * i.value:.1f} ({100 * i.low:.1f} to {100 * i.high:.1f})"
                for i in (found[metric] for metric in SHOWN)
            )
            print(f"| {part} | {kept.sum()} | {name} | {' | '.join(cells)} |", flush=True)


def plain(images: Images, model: Model) -> np.ndarray:
    """Pixels as the model gets them; float32 (N, D)."""
    pixels = stored_pixels(images, model.preprocessing)
    return pixels.flatten(1).float().div(255).numpy()


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
