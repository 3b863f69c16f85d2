"""Recipe `self-training`: a model labels the images it is surest of and learns anew, in rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from labelwise.data.dataset import UNLABELED
from labelwise.errors import OptionError
from labelwise.model import Model
from labelwise.recipe.adopt import adopt
from labelwise.recipe.around import Around, Work
from labelwise.recipe.base import Context, Fitted, PseudoLabels, Recipe, option
from labelwise.recipe.presets import fill
from labelwise.recipe.ranges import Reals

PRIOR = 10  # labels per class that evenness of the classes is worth

Weighing = Literal["confidence", "none"]
Choice = Literal["yes", "no"]


@dataclass(frozen=True)
class SelfTraining(Around):
    """Pseudo-labels (Lee 2013) in rounds, around any recipe: what the model of a round is surest of
    is learned from in the next, which begins with fresh weights and labels every image anew.

    The preset `curriculum` takes a growing share of the images from round to round, the surest of
    every class (Cascante-Bonilla et al. 2021, arXiv:2001.06001); no class gets more than its share
    among the given labels. `classic` is that of courses: confidence of at least 0.8, ten rounds,
    every image weighs the same, classes as they come.
    """

    name: ClassVar[str] = "self-training"
    regime: ClassVar[str] = "its own surest answers as further labels, in rounds, around a recipe"
    rank: ClassVar[int] = 5
    rule: ClassVar[str] = "all rounds were made"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "curriculum": {"rounds": 4, "threshold": 0.0, "growing": "yes", "balance": "yes"},
        "classic": {
            "rounds": 10, "threshold": 0.8, "growing": "no", "balance": "no", "weighing": "none"
        },
    }  # fmt: skip

    preset: str = option("curriculum", "where the other fields' values come from")
    rounds: int | None = option(None, "of labeling and learning, at most")
    threshold: float | None = option(
        None, "least confidence of an image that is adopted", search=Reals(0.0, 0.95, log=False)
    )
    growing: Choice | None = option(
        None, "round r of R adopts r / R of the images at most: yes or no"
    )
    balance: Choice | None = option(
        None, "no class gets more than its share, as given labels tell it: yes or no"
    )
    weighing: Weighing | None = option(
        None, "of pseudo-labels: confidence or none; left open: confidence if the base can weigh"
    )

    def __post_init__(self) -> None:
        usual = {"weighing": "confidence" if self.base.weighs else "none"}
        fill(self, self.preset, self.presets, usual)
        super().__post_init__()
        if not 1 <= self.last <= 100:
            raise OptionError(f"self-training(rounds={self.rounds}): must be from 1 to 100.")
        if not 0 <= (self.threshold or 0) <= 1:
            raise OptionError(f"self-training(threshold={self.threshold}): must be from 0 to 1.")
        if self._weighs and not self.base.weighs:
            raise OptionError(
                f"self-training(weighing=confidence): {self.base.name} cannot weigh images. "
                "Give weighing=none, or another base."
            )

    @property
    def last(self) -> int:
        return self.rounds or 0

    @property
    def usual(self) -> int:
        return self.last

    def advanced(
        self, works: Sequence[Work], step: int, before: Sequence[Fitted], context: Context
    ) -> list[Fitted]:
        fits = []
        for work, fitted in zip(works, before, strict=True):
            found = self._adopted(work, fitted.model, step)
            if (fitted.pseudo and _same(found, fitted.pseudo[-1])) or not len(found.rows):
                fits.append(fitted)  # nothing has changed, nor would the next model
                continue
            again = self._base(fitted).fit(work.taught(found, self._weighs), context)
            chosen = again.chosen if self.base.decides_on_validation else fitted.chosen
            fits.append(replace(again, chosen=chosen, pseudo=(*fitted.pseudo, found)))
        return fits

    def _base(self, fitted: Fitted) -> Recipe:
        """What a round fits; what the first fit decided without validation is not asked again."""
        return self.base if self.base.decides_on_validation else self.base.pinned(fitted.chosen)

    @property
    def _weighs(self) -> bool:
        return self.weighing == "confidence"

    def _adopted(self, work: Work, model: Model, step: int) -> PseudoLabels:
        given = work.task.labels[work.task.labels != UNLABELED]
        return adopt(
            work.pool.rows,
            model.predict_proba(work.pool),
            priors=priors(given, len(work.task.class_names)) if self.balance == "yes" else None,
            share=step / self.last if self.growing == "yes" else 1.0,
            threshold=self.threshold or 0.0,
        )


def priors(given: np.ndarray, classes: int) -> np.ndarray:
    """Shares of the classes (K,) in a pool, of which labels int64 (n,) were given.

    A few labels say little of them, least if they were not drawn at random: PRIOR more of every
    class are taken to be there.
    """
    counts = np.bincount(given, minlength=classes) + PRIOR
    return np.asarray(counts / counts.sum())


def _same(a: PseudoLabels, b: PseudoLabels) -> bool:
    return np.array_equal(a.rows, b.rows) and np.array_equal(a.labels, b.labels)
