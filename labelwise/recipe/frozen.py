"""Consistency on a frozen network: embeddings of several views, and a linear head on them.

Views are embedded once and kept in the store. The vectors that the head sees are the embeddings'
strongest directions only, so that tens of thousands of images with a few views each stay small in
memory; the head that comes out is again one on the whole embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from labelwise.data.dataset import Images
from labelwise.data.preprocess import Preprocessing
from labelwise.features import AT_ONCE, embedding_seconds, embeddings, load_body
from labelwise.nn.consistency import Consistency
from labelwise.nn.directions import MOST, Directions
from labelwise.nn.fixed import CENTER, FixedView
from labelwise.nn.looks import ViewLooks
from labelwise.nn.supervised import Seen, head_of
from labelwise.nn.train import Schedule, train
from labelwise.recipe.base import Context, Cost, Fitted, Task
from labelwise.recipe.by_schedule import train_by
from labelwise.recipe.probe import Probe
from labelwise.recipe.rehearsal import step_seconds
from labelwise.transfer import find_backbone

if TYPE_CHECKING:
    from labelwise.recipe.fixmatch import FixMatch

SAMPLE = 4096  # images that directions are made of
BLANK = 1024  # vectors that steps are timed on
EMBEDDED = 0.8  # of a fit when all views are embedded


@dataclass(frozen=True)
class FrozenFit:
    """A fit of `fixmatch` on a frozen network.

    Attributes:
        probe: whose head it begins with.
        schedule: of the head.
    """

    recipe: FixMatch
    probe: Probe
    schedule: Schedule
    task: Task
    context: Context

    def fit(self) -> Fitted:
        """See `Recipe.fit`."""
        started = time.perf_counter()
        # The validation part judges the epochs, so that it must not teach the first head either.
        task, quiet = replace(self.task, validation=None), self.context.quiet
        first = self.probe.fit(task, quiet)
        model, classes = first.model, len(self.task.class_names)
        directions = self._directions(model.preprocessing)
        learner = _learner(directions, head_of(model.network))
        looks = self._looks(directions, model.preprocessing)
        objective = Consistency(
            learner,
            looks,
            self._judge(learner, directions, model.preprocessing),
            classes=classes,
            **self.recipe.pace(len(self.task.labels)),
        )
        history, best = train_by(
            self.schedule,
            learner,
            objective,
            torch.Generator().manual_seed(self.context.seed),
            self.context.part(EMBEDDED, 1.0),
            self.task.checkpoint,
            work=0.0,
        )
        _hand_over(learner, directions, head_of(model.network))
        model = replace(model, recipe=self.recipe.configuration)
        return Fitted(model, history, {"best_epoch": best}, time.perf_counter() - started)

    def cost(self) -> Cost:
        """See `Recipe.cost`."""
        everything = self.task.images.dataset
        images = everything.images(everything.usable)
        backbone = find_backbone(self.recipe.backbone or "")
        preprocessing = self.probe.input(images, backbone)
        weak, strong = self._views(preprocessing)
        pace = replace(self.recipe, share=1.0).pace(len(self.task.labels))

        def learn(steps: int) -> float:
            learner, objective = _rehearsal(len(self.task.class_names), {**pace, "steps": steps})
            still = replace(self.schedule, lr=0.0, epochs=1)
            history, _ = train(learner, objective, still, generator=torch.Generator(), work=0.0)
            return float(history[0]["seconds"])

        return Cost(
            once=embedding_seconds(backbone, preprocessing, images, (*weak, *strong)),
            fit=self.probe.cost(self.task, self.context).fit,
            epoch=step_seconds(learn, self.context.timing) * pace["steps"],
            everything=True,
        )

    def _looks(self, directions: Directions, preprocessing: Preprocessing) -> ViewLooks:
        weak, strong = self._views(preprocessing)
        views = (*weak, *strong)
        shown: list[torch.Tensor] = []
        for view in views:
            self.context.advance(EMBEDDED * len(shown) / len(views), f"embedding: {view.name}")
            shown.append(self._vectors(self.task.images, directions, preprocessing, view))
        given = torch.from_numpy(self.task.labeled)
        labels = torch.from_numpy(self.task.labels)[given]
        pool = len(self.task.labels) * bool(self.recipe.strength)
        return ViewLooks(tuple(shown[: len(weak)]), tuple(shown[len(weak) :]), given, labels, pool)

    def _views(
        self, preprocessing: Preprocessing
    ) -> tuple[tuple[FixedView, ...], tuple[FixedView, ...]]:
        """The image itself and a weak view; strong views."""
        weak, strong = self.recipe.changes(
            preprocessing.color, min(preprocessing.height, preprocessing.width)
        )
        seeds = range(1, self.recipe.looks + 1)
        return (CENTER, FixedView(weak, 1)), tuple(FixedView(strong, seed) for seed in seeds)

    def _directions(self, preprocessing: Preprocessing) -> Directions:
        images = self.task.images
        places = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
        backbone = find_backbone(self.probe.backbone)
        sample = embeddings(images.subset(places), backbone, preprocessing)
        return Directions.of(sample, load_body(backbone).widths)

    def _vectors(
        self,
        images: Images,
        directions: Directions,
        preprocessing: Preprocessing,
        view: FixedView = CENTER,
    ) -> torch.Tensor:
        """What the head gets of a view of some images, float32 (N, R)."""
        backbone, parts = find_backbone(self.probe.backbone), []
        for start in range(0, len(images), AT_ONCE):
            some = images.subset(slice(start, start + AT_ONCE))
            parts.append(directions(embeddings(some, backbone, preprocessing, view=view)))
        return torch.cat(parts)

    def _judge(
        self, learner: _Learner, directions: Directions, preprocessing: Preprocessing
    ) -> Callable[[], dict[str, Any]]:
        if self.task.validation is None:
            return dict
        images, labels = self.task.validation
        vectors = self._vectors(images, directions, preprocessing)
        return partial(_judged, learner, vectors, torch.from_numpy(labels))


class _Learner(nn.Module):
    """A linear head on vectors."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)

    def logits(self, vectors: torch.Tensor) -> torch.Tensor:
        """float32 (N, R) -> (N, K)."""
        found: torch.Tensor = self.head(vectors)
        return found


def _learner(directions: Directions, head: nn.Linear) -> _Learner:
    """One that says what a head on embeddings does, but for the directions that are left out."""
    weight, bias = directions.head_there(head.weight.detach().T, head.bias.detach())
    learner = _Learner(*weight.shape)
    with torch.no_grad():
        learner.head.weight.copy_(weight.T)
        learner.head.bias.copy_(bias)
    return learner


def _hand_over(learner: _Learner, directions: Directions, head: nn.Linear) -> None:
    """Let a head on embeddings say what a learner does."""
    with torch.no_grad():
        weight, bias = directions.head_back(learner.head.weight.T, learner.head.bias)
        head.weight.copy_(weight.T)
        head.bias.copy_(bias)


def _judged(learner: _Learner, vectors: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Loss, accuracy and confusion matrix, as history columns validation_*."""
    seen = Seen(learner.head.out_features, vectors.device)
    with torch.inference_mode():
        seen.add(learner.logits(vectors), labels, labels)
    return seen.record("validation")


def _rehearsal(classes: int, pace: Mapping[str, Any]) -> tuple[_Learner, Consistency]:
    """A learner, and what it would learn from vectors and labels of no meaning."""
    blank, labels = torch.zeros(BLANK, MOST), torch.zeros(BLANK, dtype=torch.int64)
    looks = ViewLooks((blank, blank), (blank, blank), torch.arange(BLANK), labels, BLANK)
    learner = _Learner(MOST, classes)
    return learner, Consistency(learner, looks, dict, classes=classes, **pace)
