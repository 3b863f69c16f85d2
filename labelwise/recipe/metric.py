"""Recipe `metric`: an embedding in which images of a class lie together, answers by prototypes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from labelwise.data.dataset import Images
from labelwise.errors import OptionError, TrainingError
from labelwise.measure.retrieval import retrieval
from labelwise.nn.augment import parse_augmentation
from labelwise.nn.coding import encoded
from labelwise.nn.language import parse_layers
from labelwise.nn.metric import LossName, MetricLearner, MetricLearning, MetricLoss
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, Seen, answer_columns, head_of
from labelwise.nn.train import train
from labelwise.nn.width import scaled
from labelwise.recipe.base import EVERY_FIT, Context, Cost, Fitted, Task, option, require_labels
from labelwise.recipe.cnn import PRESETS as NETS
from labelwise.recipe.prototypes import prototype_head
from labelwise.recipe.ranges import choices
from labelwise.recipe.rehearsal import answer_seconds, blank, reading_seconds, step_seconds
from labelwise.recipe.scratch import FromScratch, course, make_network, read_parts

SHOWN = ("recall@1", "map@r")  # of an embedding, after every epoch
JUDGED = 2_000  # images of the train and of the validation part that an epoch is judged by, at most
UNIT = "unit"

_COURSE = "2 x [conv32 3x3 relu], max 2, 2 x [conv64 3x3 relu]"
PRESETS: dict[str, dict[str, Any]] = {
    **{
        name: {**NETS[name], "batch": 50, "smoothing": 0.0, "width": 1.0, "views": ""}
        for name in ("small", "fast")
    },
    "embedding": {"layers": _COURSE, **course("adam", 1e-3, 50, 10), "steps": 1000},
}


@dataclass(frozen=True)
class Metric(FromScratch):
    """Deep metric learning: a network whose embeddings, of length 1, are near for images of a class
    and far for others, by a loss that compares the images of class-balanced batches.

    It answers by prototypes, the mean embedding of each class, so that a class that the embedding
    has not learned from (`seen_classes`) still gets one from its labeled images.
    """

    name: ClassVar[str] = "metric"
    regime: ClassVar[str] = "embedding in which images of a class lie together; prototypes answer"
    rank: ClassVar[int] = 3
    weighs: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    largest_side: ClassVar[int] = 64

    layers: str | None = option(None, "before the embedding, as in cnn")
    size: int = option(64, "entries of the embedding", search=choices(16, 32, 64, 128))
    loss: LossName = option(
        "multi-similarity", "multi-similarity, triplet, contrastive or proxy-anchor"
    )
    images: int = option(
        10, "of each class in a batch, which has batch / images classes, at least two"
    )
    steps: int | None = option(
        None, "of an epoch; left open: as many as go through all images about once"
    )
    seen_classes: str | None = option(
        None, 'classes that the embedding learns from, as in "cat, dog"; left open: all'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "images", "steps"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 65_536:
                raise OptionError(f"metric({name}={value}): must be from 1 to 65536.")
        parse_layers(self.body)
        if self._each < 2:
            raise OptionError(
                f"metric(batch={self.batch}, images={self.images}): a batch needs at least two "
                "images of each of two classes, as in batch=50, images=10."
            )
        if self.smoothing or parse_augmentation(self.augment or "").mixup:
            raise OptionError(
                "metric(...): its loss compares images of classes, which neither smoothing nor "
                "mixup leave as they are. Leave them out."
            )

    @property
    def body(self) -> str:
        layers = scaled(self.layers or "", self.width or 1.0)
        embeds = layers.rstrip().endswith(UNIT)
        return layers if embeds else f"{layers}, dense {self.size}, {UNIT}"

    def unsuited(self, images: Images) -> str | None:
        return "it makes embeddings to search, map and judge, and answers much as cnn does"

    def fit(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        require_labels(task)
        preprocessing = self._input(task)
        every, validation = read_parts(task, task.labeled, preprocessing, context)
        taught = self._taught(every, task.class_names)
        architecture = self._architecture(preprocessing, self._scaling(taught.pixels))
        classes = len(task.class_names)
        network = make_network(architecture, classes, preprocessing, context.device)
        generator = torch.Generator().manual_seed(context.seed)
        learner = self._learner(network, generator)
        self._begin(network, taught.pixels, generator)
        unseen = np.setdiff1d(np.arange(classes), taught.labels.cpu().numpy())
        judge = partial(judged, network, _some(every), validation and _some(validation), unseen)
        learning = self._learning(learner, taught, judge)
        history, best = self._train(learner, learning, generator, context, task.checkpoint)
        network.head = _answering(network, every, validation).head
        model = self.model_of(network, architecture, preprocessing, task)
        return Fitted(model, history, {"best_epoch": best}, time.perf_counter() - started)

    def cost(self, task: Task, context: Context) -> Cost:
        """Rehearses on empty images; refuses layers that do not fit, and classes there are not."""
        self._seen(task.class_names)
        preprocessing, count = self._input(task), len(task.labeled)
        network = self._unscaled(task, preprocessing, context.device)
        learner = self._learner(network, torch.Generator())
        batch = self._classes * self._each
        pixels = blank(batch, preprocessing.shape, context.device).pixels
        labels = torch.arange(batch, device=context.device) // self._each
        examples = Examples(pixels, labels)

        def learn(steps: int) -> float:
            objective = replace(self, steps=steps, share=1.0)._learning(learner, examples, dict)
            still = replace(self._schedule, lr=0.0, epochs=1, patience=None)
            history, _ = train(learner, objective, still, generator=torch.Generator())
            return float(history[0]["seconds"])

        everything = task.images.dataset
        labeled = everything.usable[everything.labels[everything.usable] >= 0]
        _, answer = answer_seconds(network, preprocessing.shape, context.device)
        return Cost(
            once=reading_seconds(task.images, everything.images(labeled), preprocessing),
            fit=EVERY_FIT + answer * count,
            epoch=step_seconds(learn) * self._steps(count) + answer * min(count, JUDGED),
            validate=answer,
            answer=answer,
        )

    def _taught(self, examples: Examples, names: Sequence[str]) -> Examples:
        """The examples of classes that the embedding learns from."""
        if self.seen_classes is not None:
            chosen = torch.tensor(self._seen(names))
            kept = torch.isin(examples.labels.cpu(), chosen).to(examples.labels.device)
            examples = Examples(examples.pixels[kept], examples.labels[kept])
        if len(torch.unique(examples.labels)) < 2:
            raise TrainingError(
                "An embedding learns from comparing classes, and there are labeled images of fewer "
                "than two here. Give labels of more classes (or name more in --seen-classes)."
            )
        return examples

    def _seen(self, names: Sequence[str]) -> list[int]:
        """Numbers of the classes that the embedding learns from."""
        if self.seen_classes is None:
            return list(range(len(names)))
        given = [name.strip() for name in self.seen_classes.split(",")]
        if strange := [name for name in given if name not in names]:
            raise OptionError(
                f"--seen-classes {self.seen_classes}: there is no class {strange[0]!r}. "
                f"Choose from {', '.join(names)}."
            )
        return [names.index(name) for name in given]

    def _learner(self, network: Network, generator: torch.Generator) -> MetricLearner:
        head = head_of(network)
        loss = MetricLoss(self.loss, head.out_features, head.in_features, generator)
        return MetricLearner(network, loss.to(network.mean.device))

    def _learning(self, learner: MetricLearner, examples: Examples, judge: Any) -> MetricLearning:
        return MetricLearning(
            learner,
            examples,
            judge,
            steps=self._steps(len(examples)),
            classes=self._classes,
            images=self._each,
            augment=self._augmentation(examples.pixels),
        )

    @property
    def _each(self) -> int:
        """Images of a class in a batch: of a small one half, so that there are two classes."""
        return min(self.images, (self.batch or 1) // 2)

    @property
    def _classes(self) -> int:
        return (self.batch or 1) // self._each

    def _steps(self, images: int) -> int:
        """Of an epoch over so many images."""
        whole = math.ceil(images / (self._classes * self._each))
        return math.ceil((self.share or 1.0) * (self.steps or max(whole, self.least_steps or 0)))


@torch.inference_mode()
def judged(
    network: Network, examples: Examples, validation: Examples | None, unseen: np.ndarray
) -> dict[str, Any]:
    """Answers by prototypes for some images, and how well those of the validation part find each
    other, as history columns; besides, of classes that were learned from and of others.

    Args:
        examples: what the prototypes are made of.
        unseen: classes that were not learned from.
    """
    answering = _answering(network, examples, validation)
    head, (codes, labels), held = answering.head, answering.own, answering.held
    classes = head.out_features
    found = answer_columns("train", labels.numpy(), head(codes).argmax(1).numpy(), classes)
    if held is None:
        return found
    seen = Seen(classes, held[0].device)
    seen.add(head(held[0]), held[1], held[1])
    found |= seen.record("validation")
    points, truth = held[0].numpy(), held[1].numpy()
    parts = {"": np.ones(len(truth), bool)}
    if len(unseen):
        parts |= {"_seen": ~np.isin(truth, unseen), "_unseen": np.isin(truth, unseen)}
    for name, part in parts.items():
        means = retrieval(points[part], truth[part]).means
        found |= {f"validation_{metric}{name}": means[metric] for metric in SHOWN}
    return found


class _Answering(NamedTuple):
    """Prototypes of some images; embeddings (N, D) and labels of these, and of the validation."""

    head: nn.Linear
    own: tuple[torch.Tensor, torch.Tensor]
    held: tuple[torch.Tensor, torch.Tensor] | None


def _answering(network: Network, examples: Examples, validation: Examples | None) -> _Answering:
    own = encoded(network, examples.pixels), examples.labels.cpu()
    held = None
    if validation is not None:
        held = encoded(network, validation.pixels), validation.labels.cpu()
    return _Answering(prototype_head(*own, head_of(network).out_features, held), own, held)


def _some(examples: Examples) -> Examples:
    """Every so many of the examples, JUDGED at most."""
    step = -(-len(examples) // JUDGED)
    return Examples(examples.pixels[::step], examples.labels[::step])
