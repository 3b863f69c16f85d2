"""Around: what recipes share that put pseudo-labels on unlabeled images, around another recipe.

They go in steps. Step 0 is the base recipe on the given labels alone, the supervised twin; every
later step fits the base anew, with pseudo-labels beside the given labels, which stay as they are.
The step whose model is returned, step 0 included, is chosen on given labels that none of the
compared models has learned from: the validation part, for a base that needs one anyway; otherwise
inner folds. Below five labels per class there is nothing to choose on, and a rule decides.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from labelwise.data.dataset import UNLABELED, Images
from labelwise.data.split import VALIDATION_FROM, deal
from labelwise.errors import OptionError, TrainingError
from labelwise.recipe.base import (
    Context,
    Cost,
    Fitted,
    PseudoLabels,
    Recipe,
    Task,
    Twin,
    option,
    without_validation,
)
from labelwise.recipe.heads import INNER_FOLDS
from labelwise.recipe.inner import adopted, judgement, verdict
from labelwise.recipe.probe import Probe
from labelwise.recipe.ranges import Reals

INNER_POOL = 5_000  # unlabeled images that the choice of a step is made with, at most


@dataclass(frozen=True)
class Work:
    """A task, and the unlabeled images of it that may get a pseudo-label: positions, int64 (M,)."""

    task: Task
    open: np.ndarray

    @property
    def pool(self) -> Images:
        """The images that may get a pseudo-label."""
        return self.task.images.subset(self.open)

    def taught(self, found: PseudoLabels, weighed: bool) -> Task:
        """The task with pseudo-labels; given labels weigh 1 and are never touched."""
        places = self.open[np.searchsorted(self.pool.rows, found.rows)]
        labels, weights = self.task.labels.copy(), np.ones(len(self.task.labels), np.float32)
        pseudo = np.zeros(len(labels), bool)
        labels[places], pseudo[places] = found.labels, True
        weights[places] = found.confidence if weighed else 1
        return replace(
            self.task, labels=labels, weights=weights if weighed else None, pseudo=pseudo
        )


@dataclass(frozen=True)
class Around(Recipe):
    """A recipe that learns from unlabeled images through another one, its base."""

    uses_unlabeled: ClassVar[bool] = True
    rule: ClassVar[str]  # what is said of the step where too few labels decide

    base: Recipe = option(Probe(), "recipe that learns from given and from pseudo-labels")
    foreign: float = option(
        0.0,
        "share of the unlabeled images left out, those least like any labeled class",
        search=Reals(0.0, 0.5, log=False),
    )
    step: int | None = option(
        None, "whose model is returned, 0 the supervised twin; left open: chosen on held labels"
    )

    def __post_init__(self) -> None:
        if not 0 <= self.foreign < 1:
            raise OptionError(f"{self.name}(foreign={self.foreign}): must be from 0 to below 1.")
        if self.step is not None and not 0 <= self.step <= self.last:
            raise OptionError(f"{self.name}(step={self.step}): must be from 0 to {self.last}.")
        if self.base.uses_unlabeled:
            raise OptionError(f"{self.name}(base={self.base.name}): give a supervised recipe.")

    @property
    @abstractmethod
    def last(self) -> int:
        """The number of the last step."""

    @property
    @abstractmethod
    def usual(self) -> int:
        """The step where there are too few labels to choose."""

    @abstractmethod
    def advanced(
        self, works: Sequence[Work], step: int, before: Sequence[Fitted], context: Context
    ) -> list[Fitted]:
        """The fits of a step, for works on the same images.

        Args:
            before: those of an earlier step.
        """

    def route(self, step: int) -> Sequence[int]:
        """The steps to go through for the model of one, but for step 0."""
        return range(1, step + 1)

    def fit(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        if not self.base.decides_on_validation:
            task = without_validation(task)
        task = replace(task, checkpoint=None)
        work = Work(task, np.flatnonzero(task.labels == UNLABELED))
        if not len(task.labeled):
            raise TrainingError("There is no labeled image to learn from in this train part.")
        history: list[dict[str, Any]] = []
        step = self.usual if self.step is None else self.step
        chosen: dict[str, Any] = {"step": step, "verdict": "cannot tell"}
        judged = self._judged(work, context.seed) if self.step is None and len(work.open) else []
        if judged:
            context.advance(0.0, "choosing on held labels")
            history, chosen = self._compared(judged, context.quiet)
        if not len(work.open):
            chosen["step"] = 0
        fits = self._begun([work], context)
        works = [self._familiar(work, fits[0])]
        steps = self.route(int(chosen["step"])) if chosen["step"] else ()
        for done, step in enumerate(steps, start=1):
            context.advance(done / (len(steps) + 1), f"step {step} of {steps[-1]}")
            fits = self.advanced(works, step, fits, context)
        (fitted,) = fits
        return Fitted(
            replace(fitted.model, recipe=self.configuration),
            history or fitted.history,
            {**chosen, "base": dict(fitted.chosen)},
            time.perf_counter() - started,
            pseudo=fitted.pseudo,
        )

    def _begun(self, works: Sequence[Work], context: Context) -> list[Fitted]:
        """Step 0: the base on the given labels."""
        return list(self.base.fit_many([work.task for work in works], context))

    def _judged(self, work: Work, seed: int) -> list[tuple[Work, Images, np.ndarray]]:
        """Works that lack some given labels, and these; none if there are too few to choose on."""
        task = work.task
        if task.validation is not None:
            return [(self._thinned(work, seed), *task.validation)]
        given = task.labeled
        labels = task.labels[given]
        if self.base.decides_on_validation or len(given) < VALIDATION_FROM * len(np.unique(labels)):
            return []
        groups = task.images.dataset.groups[task.images.rows[given]]
        dealt = deal(labels, groups, [1 / INNER_FOLDS] * INNER_FOLDS, [seed, 5])
        found = []
        for fold in np.unique(dealt):
            held = given[dealt == fold]
            hidden = task.labels.copy()
            hidden[held] = UNLABELED
            inner = self._thinned(Work(replace(task, labels=hidden), work.open), seed)
            found.append((inner, task.images.subset(held), task.labels[held]))
        return found

    def _thinned(self, work: Work, seed: int) -> Work:
        """The work with no more unlabeled images than a choice needs, the same for all folds."""
        drawn = np.random.default_rng([seed, 6]).permutation(work.open)
        return replace(work, open=np.sort(drawn[:INNER_POOL]))

    def _familiar(self, work: Work, fitted: Fitted) -> Work:
        """The work without the share of unlabeled images that are least like any class."""
        if not self.foreign or not len(work.open):
            return work
        given = work.task.labeled
        known = fitted.model.embed(work.task.images.subset(given))
        center = known.mean(0)
        unit = _unit(known - center)
        classes = np.unique(work.task.labels[given])
        means = [unit[work.task.labels[given] == k].mean(0) for k in classes]
        near = (_unit(fitted.model.embed(work.pool) - center) @ _unit(np.stack(means)).T).max(1)
        kept = near >= np.quantile(near, self.foreign)
        return replace(work, open=work.open[kept])

    def _compared(
        self, judged: Sequence[tuple[Work, Images, np.ndarray]], context: Context
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A record per step, of its answers for the held labels, and the step with least loss."""
        works = [work for work, _, _ in judged]
        fits = self._begun(works, context)
        works = [self._familiar(w, f) for w, f in zip(works, fits, strict=True)]
        labels = np.concatenate([held for _, _, held in judged])
        history: list[dict[str, Any]] = []
        right: list[np.ndarray] = []
        for step in range(self.last + 1):
            started = time.perf_counter()
            if step:
                fits = self.advanced(works, step, fits, context)
            proba = np.concatenate(
                [f.model.predict_proba(i) for f, (_, i, _) in zip(fits, judged, strict=True)]
            )
            right.append(proba.argmax(1) == labels)
            classes = proba.shape[1]
            history.append(
                {
                    "epoch": step + 1,
                    "step": step,
                    **judgement(proba, labels),
                    **adopted([f.pseudo for f in fits], classes),
                    "seconds": time.perf_counter() - started,
                }
            )
        best = int(np.argmin([record["validation_loss"] for record in history]))
        return history, {"step": best, **verdict(right[0], right[best if best else -1])}

    def settled(self, chosen: Sequence[Mapping[str, Any]]) -> Self:
        """A base that decides on validation leaves the final fit none: the folds' median step."""
        if not self.base.decides_on_validation or not chosen:
            return self
        step = int(np.median([values["step"] for values in chosen]))
        base = self.base.settled([values["base"] for values in chosen])
        return replace(self, base=base, step=step)

    def remark(self, chosen: Sequence[Mapping[str, Any]]) -> str | None:
        """Where the twin was returned, or too few labels decided."""
        twins = sum(values["step"] == 0 for values in chosen)
        if twins:
            return (
                f"unlabeled images did not help on held labels in {twins} of {len(chosen)} fits: "
                "there the model without them is returned"
            )
        if all(values["verdict"] == "cannot tell" for values in chosen):
            return f"too few labels to tell whether unlabeled images helped; {self.rule}"
        return None

    @property
    def twin(self) -> Twin:
        return Twin(self.base, "supervised", "the unlabeled images")

    @property
    def decides_on_validation(self) -> bool:
        return self.base.decides_on_validation

    @property
    def open_epochs(self) -> int | None:
        return self.base.open_epochs

    def sizes(self, task: Task) -> Sequence[Self]:
        return [replace(self, base=size) for size in self.base.sizes(task)]

    def enough_passes(self, task: Task) -> float:
        return self.base.enough_passes(task)

    def planned(self, passes: float) -> Self:
        return replace(self, base=self.base.planned(passes))

    def unsuited(self, images: Images) -> str | None:
        return self.base.unsuited(images)

    def cost(self, task: Task, context: Context) -> Cost:
        """The base's, for every step, with all that a step learns from."""
        own = self.base.cost(task, context)
        open_ = int((task.labels == UNLABELED).sum())
        steps = len(self.route(self.last)) or 1
        growth = 1 + open_ / max(1, len(task.labeled)) / 2
        fits = 1 + steps * growth
        answers = steps * open_ * own.answer
        return replace(own, fit=own.fit * (fits + 1) + answers, epoch=own.epoch * fits)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
