"""Recipe `metric`: an embedding in which images of a class lie together, answers by nearness."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from labelwise.data.dataset import Images
from labelwise.errors import OptionError, TrainingError
from labelwise.nn.augment import parse_augmentation
from labelwise.nn.coding import encoded
from labelwise.nn.language import parse_layers
from labelwise.nn.metric import Embed, LossName, MetricLearner, MetricLearning, MetricLoss
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, head_of
from labelwise.nn.train import train
from labelwise.nn.width import scaled
from labelwise.recipe.base import EVERY_FIT, Context, Cost, Fitted, Task, option, require_labels
from labelwise.recipe.cnn import PRESETS as NETS
from labelwise.recipe.metric_frozen import FrozenMetric
from labelwise.recipe.nearness import Answers, Coded, answering_head, judged, with_head
from labelwise.recipe.on_frozen import BACKBONE, FROZEN, OnFrozen
from labelwise.recipe.ranges import choices
from labelwise.recipe.reading import read_parts
from labelwise.recipe.rehearsal import answer_seconds, blank, reading_seconds, step_seconds
from labelwise.recipe.scratch import course, make_network

JUDGED = 2_000  # images of the train and of the validation part that an epoch is judged by, at most
SMALL = "small"  # the preset where nothing is given
UNIT = "unit"

# Changed images tell less of classes learned from and far more of others: docs/results.md.
_CHANGES = "randaugment 2 5"
_SEARCHED = {"batch": 50, "smoothing": 0.0, "width": 1.0, "views": ""}
_COURSE = "2 x [conv32 3x3 relu], max 2, 2 x [conv64 3x3 relu]"
PRESETS: dict[str, dict[str, Any]] = {
    **{
        name: {**NETS[name], **_SEARCHED, "augment": augment}
        for name, augment in (("small", _CHANGES), ("fast", f"crop 2, {_CHANGES}"))
    },
    FROZEN: {
        "optimizer": "adam",
        "lr": 1e-3,
        "decay": "cosine",
        "batch": 100,
        "epochs": 20,
        "patience": 0,
        "least_steps": 20,
        "weight_decay": 0.0,
        "scale": "standard",
        "resize": None,
    },
    "embedding": {"layers": _COURSE, **course("adam", 1e-3, 50, 10), "steps": 1000},
}


@dataclass(frozen=True)
class Metric(OnFrozen):
    """Deep metric learning: a network whose embeddings, of length 1, are near for images of a class
    and far for others, by a loss that compares the images of class-balanced batches.

    The network learns from scratch, or is a linear layer on a frozen `backbone`, which may be one
    that `finetune` has tuned. It answers by prototypes, the mean embedding of each class, or by the
    nearest labeled images, so that a class that the embedding has not learned from (`seen_classes`)
    still gets answers from its labeled images. Turned images as classes of their own (`turns`; Lee
    et al. 2020, arXiv:1910.05872) make up for few classes to learn from.
    """

    name: ClassVar[str] = "metric"
    regime: ClassVar[str] = "embedding in which images of a class lie together; nearness answers"
    rank: ClassVar[int] = 3
    weighs: ClassVar[bool] = False
    embeds: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    largest_side: ClassVar[int] = 64

    preset: str = option(SMALL, "where the other fields' values come from")
    layers: str | None = option(None, "before the embedding, as in cnn")
    backbone: str | None = option(
        None,
        "frozen pretrained network, or a saved model's folder, under a linear embedding; left "
        "open: a network from scratch",
    )
    size: int = option(64, "entries of the embedding", search=choices(16, 32, 64, 128))
    loss: LossName = option(
        "multi-similarity", "multi-similarity, triplet, contrastive or proxy-anchor"
    )
    answers: Answers = option("prototypes", "class means, or the nearest labeled images: neighbors")
    images: int = option(
        10, "of each class in a batch, which has batch / images classes, at least two"
    )
    steps: int | None = option(
        None, "of an epoch; left open: as many as go through all images about once"
    )
    turns: int = option(
        1,
        "quarter turns of an image that count as classes of their own, 1 (none) to 4; these tell "
        "more of classes never seen",
    )
    seen_classes: str | None = option(
        None, 'classes that the embedding learns from, as in "cat, dog"; left open: all'
    )

    def __post_init__(self) -> None:
        if self.preset == FROZEN and self.backbone is None:
            object.__setattr__(self, "backbone", BACKBONE)
        if self.layers is not None:
            self.refuse_backbone("layers")
        elif self.preset not in (SMALL, FROZEN):
            self.refuse_backbone(f"preset={self.preset}")
        elif self.backbone is not None:
            object.__setattr__(self, "preset", FROZEN)
        super().__post_init__()
        for name in ("size", "images", "steps"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 65_536:
                raise OptionError(f"metric({name}={value}): must be from 1 to 65536.")
        if not 1 <= self.turns <= 4:
            raise OptionError(f"metric(turns={self.turns}): must be from 1 to 4.")
        if self.backbone is None:
            parse_layers(self.body)
        elif self.turns > 1:
            raise OptionError(
                f"metric(backbone={self.backbone}, turns={self.turns}): a frozen network is not "
                "shown turned images. Leave one of the two out."
            )
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
        if self.backbone is not None:
            return self._frozen(task, context).fit()
        started = time.perf_counter()
        require_labels(task)
        preprocessing = self._input(task)
        every, validation = read_parts(task, task.labeled, preprocessing, context)
        kept = self.taught(every.labels, task.class_names)
        taught = Examples(every.pixels[kept], every.labels[kept])
        architecture = self._architecture(preprocessing, self._scaling(taught.pixels))
        classes = len(task.class_names)
        network = make_network(architecture, classes, preprocessing, context.device)
        generator = torch.Generator().manual_seed(context.seed)
        width = head_of(network).in_features
        loss = self.loss_of(self.turns * classes, width, generator, context.device)
        learner = MetricLearner(network, loss)
        self._begin(network, taught.pixels, generator)
        unseen = np.setdiff1d(np.arange(classes), taught.labels.cpu().numpy())

        def judge() -> dict[str, Any]:
            held = None if validation is None else coded(network, _some(validation))
            return judged(self.answers, classes, coded(network, _some(every)), held, unseen)

        labels = self._turned(taught.labels, classes)
        learning = self.learning(learner, labels, self._embed(network, taught), judge)
        history, best = self.learn(learner, learning, generator, context, task.checkpoint)
        held = None if validation is None else coded(network, validation)
        network.head = answering_head(self.answers, classes, coded(network, every), held)
        architecture = with_head(architecture, network.head)
        model = self.model_of(network, architecture, preprocessing, task)
        return Fitted(model, history, {"best_epoch": best}, time.perf_counter() - started)

    def cost(self, task: Task, context: Context) -> Cost:
        """Rehearses on empty images; refuses layers that do not fit, and classes there are not."""
        self._seen(task.class_names)
        if self.backbone is not None:
            return self._frozen(task, context).cost()
        preprocessing, count = self._input(task), len(task.labeled)
        network = self._unscaled(task, preprocessing, context.device)
        width, classes = head_of(network).in_features, self._classes
        loss = self.loss_of(self.turns * classes, width, torch.Generator(), context.device)
        learner = MetricLearner(network, loss)
        batch = classes * self._each
        pixels = blank(batch, preprocessing.shape, context.device).pixels
        labels = torch.arange(batch, device=context.device) // self._each
        examples = Examples(pixels, labels)

        def learn(steps: int) -> float:
            rehearsed = replace(self, steps=steps, share=1.0)
            embed = self._embed(network, examples)
            objective = rehearsed.learning(learner, self._turned(labels, classes), embed, dict)
            still = replace(self._schedule, lr=0.0, epochs=1, patience=None)
            history, _ = train(learner, objective, still, generator=torch.Generator())
            return float(history[0]["seconds"])

        everything = task.images.dataset
        _, answer = answer_seconds(network, preprocessing.shape, context.device)
        return Cost(
            once=reading_seconds(task.images, everything.images(everything.labeled), preprocessing),
            fit=EVERY_FIT + answer * count,
            epoch=step_seconds(learn, context.timing) * self.steps_over(self.turns * count)
            + answer * min(count, JUDGED),
            validate=answer,
            answer=answer,
        )

    def _frozen(self, task: Task, context: Context) -> FrozenMetric:
        return FrozenMetric(self, self._schedule, task, context)

    def taught(self, labels: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """Which images with labels int64 (N,) the embedding learns from; bool (N,).

        Raises:
            OptionError: a class was named that there is not.
            TrainingError: they are of fewer than two classes.
        """
        kept = torch.isin(labels, torch.tensor(self._seen(names), device=labels.device))
        if len(torch.unique(labels[kept])) < 2:
            raise TrainingError(
                "An embedding learns from comparing classes, and there are labeled images of fewer "
                "than two here. Give labels of more classes (or name more in --seen-classes)."
            )
        return kept

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

    def loss_of(
        self, classes: int, width: int, generator: torch.Generator, device: str
    ) -> MetricLoss:
        """The loss, with what it learns itself, of embeddings of a width."""
        return MetricLoss(self.loss, classes, width, generator).to(device)

    def learning(
        self,
        learner: MetricLearner,
        labels: torch.Tensor,
        embed: Embed,
        judge: Callable[[], dict[str, Any]],
    ) -> MetricLearning:
        """The objective; labels are those of images that the embedding learns from."""
        return MetricLearning(
            learner,
            labels,
            embed,
            judge,
            steps=self.steps_over(len(labels)),
            classes=self._classes,
            images=self._each,
        )

    def _turned(self, labels: torch.Tensor, classes: int) -> torch.Tensor:
        """Labels of all images, of all of them once turned, and so on; int64 (turns * N,)."""
        return torch.cat([labels + turn * classes for turn in range(self.turns)])

    def _embed(self, network: Network, examples: Examples) -> Embed:
        """Numbers of images from N on are those of images turned once, and so on."""
        augment, count = self._augmentation(examples.pixels), len(examples)
        height, width = examples.pixels.shape[2:]
        if self.turns > 1 and height != width:
            raise OptionError(
                f"metric(turns={self.turns}): only square images can be turned, and these are "
                f"{width} x {height} pixels. Give an image_size, or leave turns out."
            )

        def embed(index: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
            pixels = examples.look(index % count, epoch)
            for turn in range(1, self.turns):
                turned = index // count == turn
                pixels[turned] = pixels[turned].rot90(turn, (2, 3))
            pixels = augment(pixels, index % count, epoch, generator)
            found: torch.Tensor = network.body(network.normalized(pixels))[1]
            return found

        return embed

    @property
    def _each(self) -> int:
        """Images of a class in a batch: of a small one half, so that there are two classes."""
        return min(self.images, (self.batch or 1) // 2)

    @property
    def _classes(self) -> int:
        return (self.batch or 1) // self._each

    def steps_over(self, images: int) -> int:
        """Of an epoch over so many images."""
        whole = math.ceil(images / (self._classes * self._each))
        return math.ceil((self.share or 1.0) * (self.steps or max(whole, self.least_steps or 0)))


def coded(network: Network, examples: Examples) -> Coded:
    """Embeddings of examples as the network gives them at the moment."""
    return Coded(encoded(network, examples.pixels), examples.labels.cpu())


def _some(examples: Examples) -> Examples:
    """Every so many of the examples, JUDGED at most."""
    step = -(-len(examples) // JUDGED)
    return Examples(examples.pixels[::step], examples.labels[::step])
