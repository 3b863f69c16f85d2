"""Recipe `probe`: logistic regression on the embeddings of a frozen pretrained network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from labelwise.architecture import build
from labelwise.backbones import Backbone
from labelwise.data.dataset import Images
from labelwise.data.preprocess import Color, Preprocessing, Resize
from labelwise.errors import OptionError
from labelwise.features import (
    embedding_seconds,
    embeddings,
    input_of,
    load_body,
)
from labelwise.model import Model
from labelwise.recipe.base import (
    EVERY_FIT,
    Context,
    Cost,
    Fitted,
    Recipe,
    Task,
    option,
    require_labels,
    without_validation,
)
from labelwise.recipe.heads import HeadName, HeadSolver, Part, Stages, head_seconds
from labelwise.recipe.ranges import Reals, choices
from labelwise.transfer import find_backbone


@dataclass(frozen=True)
class Probe(Recipe):
    """A frozen backbone with a logistic regression on all its pooled stages (Kornblith et al.
    2019, arXiv:1805.08974, section 4.1, with inner stages beside the last layer).

    Which stages the head sees and its regularization strength are chosen inside the train part, by
    cross-validation; below five labels per class, too few for that, the nearest class mean answers
    (see recipe/heads.py).

    Without any label there is nothing to regress: the model is the backbone, and embeds.
    """

    name: ClassVar[str] = "probe"
    regime: ClassVar[str] = "logistic regression on a frozen pretrained network"
    rank: ClassVar[int] = 3
    joint: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    weighs: ClassVar[bool] = True

    backbone: str = option(
        "efficientnet-lite0", "pretrained network (see labelwise doctor), or a saved model's folder"
    )
    image_size: int | None = option(
        None,
        "pixels a side; left open: the backbone's own, for small images 128 or as the time allows",
        search=choices(96, 128, 176, 224),
    )
    color: Color | None = option(None, "rgb or gray; left open: the backbone's own")
    resize: Resize | None = option(
        None,
        "crop, squash or pad; left open: the backbone's own",
        search=choices("crop", "squash", "pad"),
    )
    stages: Stages | None = option(
        None,
        "of the backbone that the head sees: last, inner (the four before it) or all; left open: "
        "cross-validated",
    )
    head: HeadName | None = option(
        None, "logistic or (nearest class) mean; left open: mean below five labels per class"
    )
    strength: float | None = option(
        None, "of the L2 penalty; left open: cross-validated", search=Reals(1e-3, 10)
    )
    temperature: float | None = option(
        None, "that logits are divided by; left open: cross-validated with the strength"
    )

    def __post_init__(self) -> None:
        for name in ("strength", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise OptionError(f"probe({name}={value}): must be positive.")
        if self.strength is not None and self.head == "mean":
            raise OptionError("probe(head=mean, strength=...): the nearest mean has no strength.")
        if self.image_size is not None and not 16 <= self.image_size <= 2048:
            raise OptionError(f"probe(image_size={self.image_size}): must be from 16 to 2048.")

    def fit(self, task: Task, context: Context) -> Fitted:
        return next(self.fit_many([task], context))

    def fit_many(self, tasks: Sequence[Task], context: Context) -> Iterator[Fitted]:
        """All tasks, inner folds and strengths are one batched optimization."""
        started = time.perf_counter()
        backbone = find_backbone(self.backbone)
        if not tasks[0].class_names:
            for task in tasks:
                model = self._model(task, backbone, self.input(task.images, backbone))
                yield Fitted(model, [], {}, time.perf_counter() - started)
            return
        found = [labeled_part(task) for task in tasks]
        rows = np.unique(np.concatenate([part.places for part in found]))
        everything = tasks[0].images.dataset.images(rows)
        preprocessing = self.input(everything, backbone)

        embedded = 0

        def advance(done: int, total: int) -> None:
            nonlocal embedded
            embedded += done
            context.advance(0.9 * embedded / total, f"embedding {embedded} of {total} images")

        vectors = embeddings(everything, backbone, preprocessing, advance=advance)
        parts = [replace(part, places=np.searchsorted(rows, part.places)) for part in found]
        widths = load_body(backbone).widths
        # The last layer suits images of the size it was trained with, and smaller ones less; see
        # docs/results.md.
        few: Stages = "last" if preprocessing.width >= backbone.preprocessing.width else "all"
        solver = HeadSolver(vectors, widths, len(tasks[0].class_names), few)
        shared = (time.perf_counter() - started) / len(tasks)
        for number, (task, part) in enumerate(zip(tasks, parts, strict=True)):
            started = time.perf_counter()
            context.advance(0.9 + 0.1 * number / len(tasks), "choosing the head")
            choice = solver.choose(
                part,
                context.seed,
                head=self.head,
                stages=self.stages,
                strength=self.strength,
                temperature=self.temperature,
            )
            weight, bias = solver.fit(part, choice)
            model = self._model(task, backbone, preprocessing)
            assert model.network.head is not None
            with torch.no_grad():
                model.network.head.weight.copy_(weight.T)
                model.network.head.bias.copy_(bias)
            seconds = shared + time.perf_counter() - started
            yield Fitted(model, choice.history, choice.decided, seconds)

    def _model(self, task: Task, backbone: Backbone, preprocessing: Preprocessing) -> Model:
        """The backbone and a head that means nothing yet; no head where there are no labels."""
        body = load_body(backbone)
        architecture = {**body.architecture, **backbone.scaling}
        network = build(architecture, len(task.class_names) or None, preprocessing.shape, body)
        return Model(
            network=network.eval(),
            architecture=architecture,
            preprocessing=preprocessing,
            class_names=task.class_names,
            recipe=self.configuration,
            facts={"backbone": backbone.origin},
            backbone=backbone,
        )

    def cost(self, task: Task, context: Context) -> Cost:
        """Times the backbone on empty images; counts only the images not yet in the store."""
        backbone = find_backbone(self.backbone)
        dataset = task.images.dataset
        everything = dataset.images(dataset.labeled)
        preprocessing = self.input(everything, backbone)
        once = embedding_seconds(backbone, preprocessing, everything)
        head = head_seconds(
            len(task.labeled),
            load_body(backbone).width,
            len(task.class_names),
            stages=not self.stages,
            strengths=not self.strength,
        )
        return Cost(once=once, fit=EVERY_FIT + head)

    def sizes(self, task: Task) -> Sequence[Self]:
        """Small images are enlarged to the backbone's own size where there is time for that."""
        if self.image_size is not None:
            return (self,)
        backbone = find_backbone(self.backbone)
        side, own = self.input(task.images, backbone).width, backbone.preprocessing.width
        if side == own:
            return (self,)
        return [replace(self, image_size=size) for size in (side, own)]

    def pinned(self, chosen: Mapping[str, Any]) -> Self:
        """Where few labels left the choice to a rule, pseudo-labels may have another one."""
        kept = {
            name: chosen[name] for name in ("stages", "strength", "temperature") if name in chosen
        }
        return replace(self, **kept) if "strength" in kept else self

    def input(self, images: Images, backbone: Backbone) -> Preprocessing:
        """How images become the backbone's input."""
        return input_of(
            backbone, images, image_size=self.image_size, color=self.color, resize=self.resize
        )


def labeled_part(task: Task) -> Part:
    """The labeled images, by row, validation included: the probe decides on inner folds."""
    task = without_validation(task)
    require_labels(task)
    labeled = task.labeled
    rows, labels = task.images.rows[labeled], task.labels[labeled]
    weights = np.ones(len(rows), np.float32) if task.weights is None else task.weights[labeled]
    pseudo = np.zeros(len(rows), bool) if task.pseudo is None else task.pseudo[labeled]
    return Part(rows, labels, task.images.dataset.groups[rows], weights, pseudo)
