"""Around: what recipes share that put pseudo-labels on unlabeled images, around another recipe.

They go in steps. Step 0 is the base recipe on the given labels alone, the supervised twin; every
later step fits the base anew, with pseudo-labels beside the given labels, which stay as they are.
The step whose model is returned is chosen on given labels that none of the compared models has
learned from: the validation part, for a base that needs one anyway; otherwise inner folds. It is
the one with least loss if a paired test says that it is better than step 0, and otherwise step 0.
Below five labels per class there is nothing to choose on, and a rule decides.
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
from labelwise.errors import OptionError
from labelwise.recipe.base import (
    Context,
    Cost,
    Fitted,
    PseudoLabels,
    Recipe,
    Task,
    Twin,
    option,
    require_labels,
    without_validation,
)
from labelwise.recipe.heads import INNER_FOLDS
from labelwise.recipe.inner import STUDENT, Judged, adopted, fallbacks, verdict
from labelwise.recipe.probe import Probe
from labelwise.recipe.ranges import Reals

INNER_POOL = 5_000  # unlabeled images that inner folds choose a step with, at most
PATIENCE = 2  # steps behind the best one


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
class _Held:
    """Given labels that step 0 of a work has not learned from: int64 (M,) of some images."""

    work: Work
    first: Fitted
    images: Images
    labels: np.ndarray


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
        None,
        "whose model is returned, 0 the supervised twin; left open: chosen on validation labels",
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
        require_labels(task)
        work = Work(task, np.flatnonzero(task.labels == UNLABELED))
        context.advance(0.0, "without the unlabeled images")
        first = self.base.fit(task, context.quiet)
        work = self._familiar(work, first)
        chosen: dict[str, Any] = {"step": self.usual if self.step is None else self.step}
        chosen["verdict"] = "cannot tell"
        history: list[dict[str, Any]] = []
        made: Sequence[Fitted] = ()
        if not len(work.open):
            chosen["step"] = 0
        elif self.step is None and (judged := self._judged(work, first, context)):
            history, chosen, made = self._compared(judged, context)
        step = int(chosen["step"])
        fitted = made[step] if made else self._last(work, first, step, context)
        return Fitted(
            replace(fitted.model, recipe=self.configuration),
            history or fitted.history,
            {**chosen, "base": dict((fitted if made else first).chosen)},
            time.perf_counter() - started,
            pseudo=fitted.pseudo,
        )

    def _last(self, work: Work, first: Fitted, step: int, context: Context) -> Fitted:
        """The fit of a step, from step 0 on."""
        # How sure its answers are to be was found for the given labels alone.
        known = {name: v for name, v in first.chosen.items() if name != "temperature"}
        fits = [replace(first, chosen=known)]
        steps = self.route(step) if step else ()
        for done, number in enumerate(steps):
            context.advance(0.5 + 0.5 * done / len(steps), f"step {number} of {steps[-1]}")
            fits = self.advanced([work], number, fits, context.quiet)
        return fits[0] if steps else first

    def _judged(self, work: Work, first: Fitted, context: Context) -> list[_Held]:
        """Step 0 on works that lack some given labels, and these; none if there are too few to
        choose on."""
        task = work.task
        if task.validation is not None:
            return [_Held(work, first, *task.validation)]
        given = task.labeled
        labels = task.labels[given]
        if self.base.decides_on_validation or len(given) < VALIDATION_FROM * len(np.unique(labels)):
            return []
        groups = task.images.dataset.groups[task.images.rows[given]]
        dealt = deal(labels, groups, [1 / INNER_FOLDS] * INNER_FOLDS, [context.seed, 5])
        drawn = np.random.default_rng([context.seed, 6]).permutation(work.open)
        some = np.sort(drawn[:INNER_POOL])
        parts = [given[dealt == fold] for fold in np.unique(dealt)]
        works = []
        for held in parts:
            hidden = task.labels.copy()
            hidden[held] = UNLABELED
            works.append(Work(replace(task, labels=hidden), some))
        # What the base decides was decided with all given labels, for step 0 itself; the steps are
        # compared at their best temperatures, which no fit needs to look for.
        base = self.base.pinned({**first.chosen, "temperature": 1.0})
        fits = base.fit_many([part.task for part in works], context.quiet)
        return [
            _Held(part, fitted, task.images.subset(held), task.labels[held])
            for part, fitted, held in zip(works, fits, parts, strict=True)
        ]

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
        self, held: Sequence[_Held], context: Context
    ) -> tuple[list[dict[str, Any]], dict[str, Any], list[Fitted]]:
        """A record per step, of its answers for the validation labels; the step to take; and, if
        these were not taken from the labels to learn from, the fits of all steps.

        Steps after two that are worse than the best one are not made.
        """
        works, fits = [part.work for part in held], [part.first for part in held]
        labels = np.concatenate([part.labels for part in held])
        truth = works[0].task.images.dataset.labels  # for the record only
        judged: list[Judged] = []
        history: list[dict[str, Any]] = []
        made: list[Fitted] = []
        best = 0
        for step in range(self.last + 1):
            started = time.perf_counter()
            if step:
                note = f"step {step} of {self.last}, on validation labels"
                context.advance(0.1 + 0.4 * step / (self.last + 1), note)
                fits = self.advanced(works, step, fits, context.quiet)
            answers = [f.model.predict_proba(p.images) for f, p in zip(fits, held, strict=True)]
            proba = np.concatenate(answers)
            judged.append(Judged.of(proba, labels))
            history.append(
                {
                    "epoch": step + 1,
                    "step": step,
                    **judged[-1].record,
                    **adopted([f.pseudo for f in fits], proba.shape[1], truth),
                    "seconds": time.perf_counter() - started,
                }
            )
            made += fits[:1]
            best = min(range(step + 1), key=lambda n: history[n]["validation_loss"])
            if step - best >= PATIENCE:
                break
        found = verdict(judged[0], judged[best or min(1, len(judged) - 1)])
        step = best if found["returned"] == STUDENT else 0
        return history, {"step": step, **found}, made if works[0].task.validation else []

    def settled(self, chosen: Sequence[Mapping[str, Any]]) -> Self:
        """A base that decides on validation leaves the final fit none: the folds' median step."""
        if not self.base.decides_on_validation or not chosen:
            return self
        step = int(np.median([values["step"] for values in chosen]))
        base = self.base.settled([values["base"] for values in chosen])
        return replace(self, base=base, step=step)

    def remark(self, chosen: Sequence[Mapping[str, Any]]) -> str | None:
        """Where the twin was returned, or too few labels decided."""
        twins = fallbacks(chosen)
        judged = any("returned" in values for values in chosen)
        if self.step is None and not judged:
            return f"too few labels to tell whether unlabeled images helped; {self.rule}"
        return twins

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
        epoch, fixed = own.epoch * fits, own.fixed * fits
        return replace(own, fit=own.fit * (fits + 1) + answers, epoch=epoch, fixed=fixed)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
