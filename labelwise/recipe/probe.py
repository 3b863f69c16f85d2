"""Recipe `probe`: logistic regression on the embeddings of a frozen pretrained network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from labelwise.backbones import Backbone
from labelwise.data.dataset import Images
from labelwise.data.preprocess import Color, Preprocessing, Resize
from labelwise.data.split import ONE_PART_ABOVE, VALIDATION_FROM, deal
from labelwise.errors import OptionError, TrainingError
from labelwise.features import (
    BATCH,
    embedding_store,
    embeddings,
    input_of,
    load_body,
    normalized,
)
from labelwise.model import Model, build
from labelwise.nn.logistic import Heads, LogisticSolver
from labelwise.nn.supervised import confusion_columns
from labelwise.recipe.base import Context, Cost, Fitted, Recipe, Task, option
from labelwise.recipe.ranges import Reals, choices
from labelwise.transfer import find_backbone

STRENGTHS = tuple(float(f"{value:.3g}") for value in np.logspace(-3, 1, 8))
FEW_STRENGTH = 0.1  # where there are too few labels to choose; see docs/results.md
INNER_FOLDS = 5
LOWEST = float(np.log(1e-7))  # log-probability; a class absent from an inner fold has none lower


@dataclass(frozen=True)
class Probe(Recipe):
    """A frozen backbone with a logistic regression on all its pooled stages (Kornblith et al.
    2019, arXiv:1805.08974, section 4.1, with inner stages beside the last layer).

    The regularization strength is chosen inside the train part, by cross-validated log loss at each
    strength's best temperature (Guo et al. 2017, arXiv:1706.04599): weak regularization often ranks
    classes best and is only too sure of itself. The head is divided by that temperature.

    Without any label there is nothing to regress: the model is the backbone, and embeds.
    """

    name: ClassVar[str] = "probe"
    regime: ClassVar[str] = "logistic regression on a frozen pretrained network"
    rank: ClassVar[int] = 3
    joint: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    backbone: str = option(
        "efficientnet-lite0", "pretrained network (see labelwise doctor), or a saved model's folder"
    )
    image_size: int | None = option(
        None, "pixels a side; left open: the backbone's own", search=choices(96, 128, 176, 224)
    )
    color: Color | None = option(None, "rgb or gray; left open: the backbone's own")
    resize: Resize | None = option(
        None,
        "crop, squash or pad; left open: the backbone's own",
        search=choices("crop", "squash", "pad"),
    )
    strength: float | None = option(
        None, "of the L2 penalty; left open: cross-validated", search=Reals(1e-3, 10)
    )

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength < float("inf"):
            raise OptionError(f"probe(strength={self.strength}): must be positive.")
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
                model = self._model(task, backbone, self._input(task.images, backbone))
                yield Fitted(model, [], {}, time.perf_counter() - started)
            return
        parts = [_labeled(task) for task in tasks]
        everything = tasks[0].images.dataset.images(np.unique([r for p in parts for r in p.rows]))
        preprocessing = self._input(everything, backbone)

        embedded = 0

        def advance(done: int, total: int) -> None:
            nonlocal embedded
            embedded += done
            context.advance(0.9 * embedded / total, f"embedding {embedded} of {total} images")

        features = embeddings(everything, backbone, preprocessing, advance=advance)
        context.advance(0.9, "choosing the strength")
        problems = _Problems(everything.rows, features, parts, len(tasks[0].class_names))
        chosen = [self._choose(problems, number, context) for number in range(len(parts))]
        heads = problems.solve(
            [np.ones(len(part.rows)) for part in parts],
            list(range(len(parts))),
            [best.strength for best in chosen],
        )
        seconds = (time.perf_counter() - started) / len(tasks)
        for number, (task, best) in enumerate(zip(tasks, chosen, strict=True)):
            model = self._model(task, backbone, preprocessing)
            assert model.network.head is not None
            with torch.no_grad():
                model.network.head.weight.copy_(heads.weight[number].T / best.temperature)
                model.network.head.bias.copy_(heads.bias[number] / best.temperature)
            context.advance((number + 1) / len(tasks), "")
            decided = {"strength": best.strength, "temperature": best.temperature}
            yield Fitted(model, best.history, decided, seconds)

    def _model(self, task: Task, backbone: Backbone, preprocessing: Preprocessing) -> Model:
        """The backbone and a head that means nothing yet; no head where there are no labels."""
        body = load_body(backbone)
        scaling = {"mean": list(backbone.mean), "std": list(backbone.std)}
        architecture = {**body.architecture, **scaling}
        network = build(architecture, len(task.class_names) or None, preprocessing.shape)
        network.body = body
        origin = {
            "name": backbone.name,
            "sha256": backbone.sha256,
            "license": backbone.license,
        }
        return Model(
            network=network.eval(),
            architecture=architecture,
            preprocessing=preprocessing,
            class_names=task.class_names,
            recipe=self.configuration,
            facts={"backbone": origin},
            backbone=backbone,
        )

    def cost(self, task: Task, context: Context) -> Cost:
        """Times the backbone on empty images; counts only the images not yet in the store."""
        backbone = find_backbone(self.backbone)
        dataset = task.images.dataset
        everything = dataset.images(dataset.usable[dataset.labels[dataset.usable] >= 0])
        preprocessing = self._input(everything, backbone)
        missing = len(embedding_store(backbone, preprocessing).missing(everything.contents))
        body = load_body(backbone)
        once = 0.0
        if missing:
            blank = torch.zeros(BATCH, *preprocessing.shape, dtype=torch.uint8)
            with torch.inference_mode():
                body(normalized(blank, backbone))
                started = time.perf_counter()
                body(normalized(blank, backbone))
            once = (time.perf_counter() - started) / BATCH * missing
        # About 100 steps of two matrix products, at 40 GFLOP/s.
        columns = len(STRENGTHS) * INNER_FOLDS * len(task.class_names)
        head = 100 * 4 * len(task.labeled) * body.width * columns / 40e9
        return Cost(once=once, fit=0.1 + (head if self.strength is None else head / 40))

    def _input(self, images: Images, backbone: Backbone) -> Preprocessing:
        return input_of(
            backbone, images, image_size=self.image_size, color=self.color, resize=self.resize
        )

    def _choose(self, problems: _Problems, number: int, context: Context) -> _Choice:
        """The strength and temperature with the lowest cross-validated log loss."""
        part = problems.parts[number]
        if self.strength is not None:
            return _Choice(self.strength, 1.0, [])
        if len(part.rows) < VALIDATION_FROM * len(np.unique(part.labels)):
            return _Choice(FEW_STRENGTH, 1.0, [])
        dealt = deal(part.labels, part.groups, [1 / INNER_FOLDS] * INNER_FOLDS, [context.seed, 4])
        judged = range(1 if len(part.rows) > ONE_PART_ABOVE else INNER_FOLDS)
        started = time.perf_counter()
        heads = problems.solve(
            [(dealt != fold).astype(float) for fold in judged for _ in STRENGTHS],
            [number] * (len(judged) * len(STRENGTHS)),
            [strength for _ in judged for strength in STRENGTHS],
            tolerance=1e-4,
        )
        seconds = (time.perf_counter() - started) / len(STRENGTHS)
        held = [np.flatnonzero(dealt == fold) for fold in judged]
        labels = torch.from_numpy(part.labels[np.concatenate(held)])
        history = []
        for index, strength in enumerate(STRENGTHS):
            logits = torch.cat(
                [
                    problems.logits(number, held[fold], heads, fold * len(STRENGTHS) + index)
                    for fold in judged
                ]
            )
            temperature, loss = best_temperature(logits, labels)
            confusion = np.zeros((problems.classes, problems.classes), np.int64)
            np.add.at(confusion, (labels.numpy(), logits.argmax(1).numpy()), 1)
            history.append(
                {
                    "epoch": index + 1,
                    "strength": strength,
                    "temperature": temperature,
                    "validation_loss": loss,
                    "validation_accuracy": float(confusion.trace() / confusion.sum()),
                    **confusion_columns("validation", confusion),
                    "seconds": seconds,
                }
            )
        best = min(history, key=lambda record: record["validation_loss"])
        return _Choice(best["strength"], best["temperature"], history)


def best_temperature(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """The temperature that minimizes log loss, of 61 from 0.1 to 100, and that loss.

    Args:
        logits: float32 (N, K).
        labels: int64 (N,).
    """
    temperatures = torch.logspace(-1, 2, 61)
    losses = torch.stack(
        [
            (logits / t).log_softmax(1).clamp(min=LOWEST).gather(1, labels[:, None]).mean()
            for t in temperatures
        ]
    ).neg()
    best = int(losses.argmin())
    return round(float(temperatures[best]), 6), float(losses[best])


@dataclass(frozen=True)
class _Choice:
    """What the inner folds decided, and a record per strength that was tried."""

    strength: float
    temperature: float
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class _Part:
    """The labeled images of a task, validation included: the probe decides on inner folds."""

    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def _labeled(task: Task) -> _Part:
    labeled = task.labeled
    rows, labels = task.images.rows[labeled], task.labels[labeled]
    if task.validation is not None:
        rows = np.concatenate([rows, task.validation[0].rows])
        labels = np.concatenate([labels, task.validation[1]])
    if not len(rows):
        raise TrainingError("There is no labeled image to learn from in this train part.")
    return _Part(rows, labels, task.images.dataset.groups[rows])


class _Problems:
    """Logistic regressions on parts of one feature matrix."""

    def __init__(
        self, rows: np.ndarray, features: torch.Tensor, parts: list[_Part], classes: int
    ) -> None:
        self.features, self.parts, self.classes = features, parts, classes
        self.positions = [np.searchsorted(rows, part.rows) for part in parts]
        self.labels = torch.zeros(len(rows), dtype=torch.int64)
        for part, positions in zip(parts, self.positions, strict=True):
            self.labels[positions] = torch.from_numpy(part.labels)

        self.solver = LogisticSolver(features, self.labels, classes)

    def logits(self, number: int, index: np.ndarray, heads: Heads, problem: int) -> torch.Tensor:
        """Logits of some images of a part by the head of a problem."""
        features = self.features[self.positions[number][index]]
        return features @ heads.weight[problem] + heads.bias[problem]

    def solve(
        self,
        weights: list[np.ndarray],
        numbers: list[int],
        strengths: list[float],
        tolerance: float = 1e-5,
    ) -> Heads:
        """Heads of problems: weights over the images of part `numbers[p]`, and a strength each."""
        full = torch.zeros(len(weights), len(self.features))
        for problem, (weight, number) in enumerate(zip(weights, numbers, strict=True)):
            full[problem, self.positions[number]] = torch.from_numpy(weight).float()
        return self.solver.solve(full, torch.tensor(strengths), tolerance=tolerance)
