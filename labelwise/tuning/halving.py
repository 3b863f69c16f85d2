"""Successive halving: a trial trains on inner folds and is given up at a rung if it is behind.

A trial spends epochs, fold after fold. At every rung, each three times as far as the one before,
only the best third so far goes on (Jamieson and Talwalkar 2016, arXiv:1502.07943; asynchronous as
Li et al. 2020, arXiv:1810.05934). It is never trained anew. Rungs compare log loss, which tells
trials apart where few images judge: within the first fold that of the recipe's validation part,
between folds that of all images judged so far, at the best temperature.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from labelwise.data.dataset import Dataset
from labelwise.data.split import Split
from labelwise.errors import LabelwiseError, LayerError
from labelwise.measure.metrics import metric_values
from labelwise.plan import task_of
from labelwise.recipe.base import Context, Recipe
from labelwise.recipe.heads import best_temperature

FACTOR = 3  # one in so many goes on at a rung
MOST_RUNGS = 3
FEWEST_JUDGED = 20  # images behind a comparison; below that a rung would be a lottery
COMPLETE, PRUNED, STOPPED, FAILED = "complete", "pruned", "stopped", "failed"


@dataclass(frozen=True)
class Ladder:
    """Where trials are compared.

    Attributes:
        epochs: of a fold; 1 for recipes without epochs.
        folds: of a whole trial.
        rungs: epochs spent, over all folds, ascending.
    """

    epochs: int
    folds: int
    rungs: tuple[int, ...]

    @property
    def share(self) -> float:
        """Of a whole trial, what one costs on average if each rung lets one in FACTOR go on."""
        ends = [*self.rungs, self.epochs * self.folds]
        parts = np.diff([0, *ends]) / float(FACTOR) ** np.arange(len(ends))
        return float(parts.sum() / ends[-1])


def make_ladder(epochs: int, splits: Sequence[Split], *, watched: bool) -> Ladder:
    """Rungs at powers of FACTOR around the first fold, where enough images judge.

    Args:
        splits: the inner folds of all repeats, in the order in which a trial learns them.
        watched: the recipe has epochs that can be judged on a validation part.
    """
    judged = np.cumsum([len(split.held_out) for split in splits])
    powers = [FACTOR**power for power in range(10)]
    folds = [number for number in powers if number < len(splits)]
    rungs = [number * epochs for number in folds if judged[number - 1] >= FEWEST_JUDGED]
    if watched and len(splits[0].validation) >= FEWEST_JUDGED:
        parts = {math.ceil(epochs / FACTOR**power) for power in (2, 1)}
        rungs = [*sorted(parts - {epochs}), *rungs]
    return Ladder(epochs, len(splits), tuple(rungs[-MOST_RUNGS:]))


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        state: complete, pruned (behind at a rung), stopped (out of time) or failed.
        rungs: log loss at every rung that was reached.
        loss, value: log loss and the metric over all inner folds; None if not complete.
        reason: why it failed, or was pruned before it could be trained.
    """

    state: str
    rungs: tuple[float, ...]
    loss: float | None = None
    value: float | None = None
    reason: str | None = None


class Ended(Exception):
    """Ends a fit early: the trial is pruned or stopped."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


@dataclass
class Course:
    """How far one trial has come; watches the epochs of the running fit.

    Attributes:
        behind: told the log loss at a rung, says whether to give the trial up.
        deadline: `time.monotonic()` after which the trial is stopped.
    """

    ladder: Ladder
    behind: Callable[[int, float], bool]
    deadline: float = math.inf
    rungs: list[float] = field(default_factory=list)
    best: float = math.inf  # validation loss of the first fold
    folds: int = 0

    def observe(self, record: Mapping[str, Any]) -> None:
        """See an epoch of the running fit."""
        self.check_time()
        if self.folds == 0 and "validation_loss" in record:
            self.best = min(self.best, float(record["validation_loss"]))
            self._reach(int(record["epoch"]), self.best)

    def finish_fold(self, loss: float) -> None:
        """See the log loss of all images judged so far."""
        if self.folds == 0 and math.isfinite(self.best):
            # A fit that stopped early would have had no better loss at the rungs it did not reach.
            self._reach(self.ladder.epochs - 1, self.best)
        self.folds += 1
        self._reach(self.folds * self.ladder.epochs, loss)
        self.check_time()

    def check_time(self) -> None:
        """Stop when the time is up, unless everything is done."""
        if self.folds < self.ladder.folds and time.monotonic() > self.deadline:
            raise Ended(STOPPED)

    def _reach(self, spent: int, loss: float) -> None:
        for rung in self.ladder.rungs[len(self.rungs) :]:
            if rung > spent:
                return
            self.rungs.append(loss)
            if self.behind(len(self.rungs) - 1, loss):
                raise Ended(PRUNED)


def run_trial(
    recipe: Recipe,
    splits: Sequence[Split],
    dataset: Dataset,
    context: Context,
    course: Course,
    metric: str,
) -> Outcome:
    """Fit and judge one trial, fold after fold, until it is done or given up."""
    judged: list[np.ndarray] = []
    try:
        for number, split in enumerate(splits):
            judged.append(_fold(recipe, split, dataset, _watched(context, course, number)))
            labels = np.concatenate([dataset.labels[s.held_out] for s in splits[: number + 1]])
            loss = tempered_loss(labels, np.concatenate(judged))
            course.finish_fold(loss)
    except Ended as end:
        return Outcome(end.state, tuple(course.rungs))
    except LayerError as error:  # refused before the first step of training
        return Outcome(PRUNED, (), reason=str(error))
    except (LabelwiseError, MemoryError, RuntimeError) as error:
        # RuntimeError is what torch raises when it is out of memory, among others.
        return Outcome(FAILED, tuple(course.rungs), reason=str(error).strip() or "out of memory")
    value = _value(metric, splits, dataset, judged)
    return Outcome(COMPLETE, tuple(course.rungs), loss, value)


def _watched(context: Context, course: Course, number: int) -> Context:
    def advance(done: float, note: str) -> None:
        folds = course.ladder.folds
        context.advance((number + done) / folds, f"fold {number + 1} of {folds}, {note}")

    return dataclasses.replace(
        context, seed=context.seed + number, advance=advance, observe=course.observe
    )


def _fold(recipe: Recipe, split: Split, dataset: Dataset, context: Context) -> np.ndarray:
    """Probabilities of the images held out from a fit; float (N, K)."""
    model = recipe.fit(task_of(dataset, split), context).model
    return model.predict_proba(dataset.images(split.held_out))


def tempered_loss(labels: np.ndarray, proba: np.ndarray) -> float:
    """Log loss at the best temperature: ranks trials that are only too sure of themselves fairly.

    Args:
        labels: int64 (N,).
        proba: float (N, K).
    """
    logits = torch.from_numpy(np.log(np.maximum(proba, 1e-12))).float()
    return best_temperature(logits, torch.from_numpy(labels))[1]


def _value(
    metric: str, splits: Sequence[Split], dataset: Dataset, judged: Sequence[np.ndarray]
) -> float | None:
    """The metric over the folds together, mean of the repeats; None where it has no value."""
    values = []
    for repeat in sorted({split.repeat for split in splits}):
        chosen = [number for number, split in enumerate(splits) if split.repeat == repeat]
        labels = np.concatenate([dataset.labels[splits[number].held_out] for number in chosen])
        values.append(
            float(metric_values(metric, labels, np.concatenate([judged[n] for n in chosen])))
        )
    mean = float(np.mean(values))
    return mean if math.isfinite(mean) else None
