"""A metric embedding on a frozen network: a linear layer, learned on embeddings from the store."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from labelwise.architecture import build
from labelwise.backbones import Backbone
from labelwise.data.dataset import Images
from labelwise.data.preprocess import Preprocessing
from labelwise.features import embedding_seconds, embeddings, load_body
from labelwise.model import Model
from labelwise.nn.directions import MOST, Directions
from labelwise.nn.metric import Embed, MetricLearner
from labelwise.nn.projected import Projected
from labelwise.nn.train import Schedule, train
from labelwise.recipe.base import EVERY_FIT, Context, Cost, Fitted, Task, require_labels
from labelwise.recipe.nearness import Coded, answering_head, judged, with_head
from labelwise.recipe.rehearsal import step_seconds
from labelwise.transfer import find_backbone

if TYPE_CHECKING:
    from labelwise.recipe.metric import Metric


@dataclass(frozen=True)
class FrozenMetric:
    """A fit of `metric` on a frozen network.

    Attributes:
        schedule: of the linear layer.
    """

    recipe: Metric
    schedule: Schedule
    task: Task
    context: Context

    def fit(self) -> Fitted:
        """See `Recipe.fit`."""
        started = time.perf_counter()
        task, recipe, context = self.task, self.recipe, self.context
        require_labels(task)
        classes = len(task.class_names)
        preprocessing = self._input()
        generator = torch.Generator().manual_seed(context.seed)
        raw = self._vectors(task.images.subset(task.labeled), preprocessing)
        labels = torch.from_numpy(task.labels[task.labeled])
        kept = recipe.taught(labels, task.class_names)
        directions = Directions.of(raw[kept], load_body(self._backbone).widths)
        vectors = directions(raw)
        layer = _beginning(vectors.shape[1], recipe.size, generator)
        held = None
        if task.validation is not None:
            held_vectors = directions(self._vectors(task.validation[0], preprocessing))
            held = held_vectors, torch.from_numpy(task.validation[1])

        def coded(part: tuple[torch.Tensor, torch.Tensor]) -> Coded:
            with torch.inference_mode():
                return Coded(_unit(layer, part[0]), part[1])

        unseen = np.setdiff1d(np.arange(classes), labels[kept].numpy())

        def judge() -> dict[str, Any]:
            own = coded((vectors, labels))
            return judged(recipe.answers, classes, own, held and coded(held), unseen)

        learner = MetricLearner(layer, recipe.loss_of(classes, recipe.size, generator, "cpu"))
        objective = recipe.learning(learner, labels[kept], _embed(layer, vectors[kept]), judge)
        history, best = recipe.learn(learner, objective, generator, context, task.checkpoint)
        model = self._model(preprocessing, directions, layer)
        head = answering_head(
            recipe.answers, classes, coded((vectors, labels)), held and coded(held)
        )
        model.network.head = head
        model = replace(model, architecture=with_head(model.architecture, head))
        return Fitted(model, history, {"best_epoch": best}, time.perf_counter() - started)

    def cost(self) -> Cost:
        """See `Recipe.cost`; times steps on vectors of no meaning."""
        recipe, task = self.recipe, self.task
        dataset = task.images.dataset
        everything = dataset.images(dataset.labeled)
        classes, count = len(task.class_names), len(task.labeled)
        layer = nn.Linear(MOST, recipe.size)
        loss = recipe.loss_of(classes, recipe.size, torch.Generator(), "cpu")
        learner = MetricLearner(layer, loss)
        labels = torch.arange(max(4 * classes, 2 * (recipe.batch or 1))) % max(classes, 2)
        blank = torch.randn(len(labels), MOST)

        def learn(steps: int) -> float:
            timed = replace(recipe, steps=steps, share=1.0)
            objective = timed.learning(learner, labels, _embed(layer, blank), dict)
            still = replace(self.schedule, lr=0.0, epochs=1, patience=None)
            history, _ = train(learner, objective, still, generator=torch.Generator(), work=0.0)
            return float(history[0]["seconds"])

        return Cost(
            once=embedding_seconds(self._backbone, self._input(), everything),
            fit=EVERY_FIT,
            epoch=step_seconds(learn, self.context.timing) * recipe.steps_over(count),
        )

    @property
    def _backbone(self) -> Backbone:
        return find_backbone(self.recipe.probe.backbone)

    def _input(self) -> Preprocessing:
        return self.recipe.probe.input(self.task.images, self._backbone)

    def _vectors(self, images: Images, preprocessing: Preprocessing) -> torch.Tensor:
        """What the frozen network says of images; float32 (N, D)."""

        def advance(done: int, total: int) -> None:
            self.context.advance(0.0, "embedding")

        return embeddings(images, self._backbone, preprocessing, advance=advance)

    def _model(
        self, preprocessing: Preprocessing, directions: Directions, layer: nn.Linear
    ) -> Model:
        """The frozen network with the layer behind it; its head means nothing yet."""
        backbone = self._backbone
        body = Projected(load_body(backbone), self.recipe.size)
        weight, bias = directions.head_back(layer.weight.detach().T, layer.bias.detach())
        with torch.no_grad():
            body.projection.weight.copy_(weight.T)
            body.projection.bias.copy_(bias)
        architecture = {**body.architecture, **backbone.scaling}
        classes = len(self.task.class_names)
        return Model(
            network=build(architecture, classes, preprocessing.shape, body).eval(),
            architecture=architecture,
            preprocessing=preprocessing,
            class_names=self.task.class_names,
            recipe=self.recipe.configuration,
            facts={"backbone": backbone.origin},
            backbone=backbone,
        )


def _beginning(width: int, size: int, generator: torch.Generator) -> nn.Linear:
    """A layer that keeps the strongest directions; where it is wider, mixtures of them besides."""
    layer = nn.Linear(width, size)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(size, width))
        if size > width:
            more = torch.randn(size - width, width, generator=generator)
            layer.weight[width:] = more / width**0.5
        layer.bias.zero_()
    return layer


def _unit(layer: nn.Linear, vectors: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(layer(vectors), dim=1)


def _embed(layer: nn.Linear, vectors: torch.Tensor) -> Embed:
    def embed(index: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
        return _unit(layer, vectors[index])

    return embed
