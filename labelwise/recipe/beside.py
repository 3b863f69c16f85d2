"""Beside: networks that learn from unlabeled images too, each judged beside its supervised twin."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from labelwise.errors import OptionError
from labelwise.nn.augment import parse_augmentation
from labelwise.nn.width import scaled
from labelwise.recipe.base import Context, Cost, Fitted, Recipe, Task, option
from labelwise.recipe.inner import TWIN, Judged, fallbacks, verdict
from labelwise.recipe.scratch import FromScratch

ALONE = "alone"  # the recipe's own model, where the twin is returned
OWN = 0.8  # of a fit, as its progress is told; the rest is the twin's


@dataclass(frozen=True)
class Beside(FromScratch):
    """A network that learns from unlabeled images as well, and is to be better for it.

    Where a paired test on the validation part does not say so, its supervised twin is the result.
    """

    uses_unlabeled: ClassVar[bool] = True
    weighs: ClassVar[bool] = False
    largest_side: ClassVar[int] = 64

    fallback: Literal["yes", "no"] = option(
        "yes",
        "the supervised twin, unless validation labels say that this is likely better: yes or no",
    )
    layers: str | None = option(None, "to learn from scratch, as those of cnn")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_mixup("augment", self.augment)

    def refuse_mixup(self, field: str, changes: str | None) -> None:
        """Refuse changes of images that mix their labels.

        Raises:
            OptionError: these do.
        """
        if parse_augmentation(changes or "").mixup:
            raise OptionError(
                f'{self.name}({field}="{changes}"): mixup mixes labels, which most images here do '
                "not have. Leave it out."
            )

    @property
    def body(self) -> str:
        return scaled(self.layers or "", self.width or 1.0)

    @abstractmethod
    def alone(self, task: Task, context: Context) -> Fitted:
        """Its own fit, without a look at its twin; see `fit`."""

    @abstractmethod
    def own_cost(self, task: Task, context: Context) -> Cost:
        """What that takes; see `cost`."""

    def own_settled(self, chosen: Sequence[Mapping[str, Any]]) -> Recipe:
        """The recipe of the final fit, if it is this one; see `settled`."""
        return self.at_best_epoch(chosen)

    def fit(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        if not self._compares or task.validation is None or not task.class_names:
            return self.alone(task, context)
        assert self.twin is not None
        twin = self.twin.recipe
        own = self.alone(task, context.part(0.0, OWN))
        # A search watches the epochs of the recipe itself only.
        beside = Context(context.seed, context.device, context.part(OWN, 1.0).advance)
        images, labels = task.validation
        task = replace(task, checkpoint=None)
        untaught = twin.fit(replace(task, validation=None), beside)
        fits = (untaught, own)
        found = verdict(*(Judged.of(f.model.predict_proba(images), labels) for f in fits))
        chosen = {**own.chosen, **found}
        if found["returned"] == TWIN:
            better = twin.fit(task, beside)
            own = replace(own, model=better.model, pseudo=(), stages={ALONE: own.model})
            chosen["twin"] = dict(better.chosen)
        return replace(own, chosen=chosen, seconds=time.perf_counter() - started)

    def cost(self, task: Task, context: Context) -> Cost:
        """Its own and its twin's."""
        own = self.own_cost(task, context)
        if not self._compares or not task.class_names:
            return own
        assert self.twin is not None
        twin = self.twin.recipe.cost(task, context)
        epoch, fixed = own.epoch + twin.epoch, own.fixed + twin.fixed
        return replace(own, fit=own.fit + twin.fit, epoch=epoch, fixed=fixed)

    @property
    def decides_on_validation(self) -> bool:
        return self._compares or super().decides_on_validation

    def _places(self, task: Task) -> np.ndarray:
        return np.arange(len(task.labels))

    @property
    def _compares(self) -> bool:
        return self.fallback == "yes" and self.twin is not None

    def settled(self, chosen: Sequence[Mapping[str, Any]]) -> Recipe:
        """The twin, as its folds settle it, if most of them returned it."""
        twins = [values["twin"] for values in chosen if "twin" in values]
        if self.twin is not None and len(twins) > len(chosen) / 2:
            return self.twin.recipe.settled(twins)
        return self.own_settled(chosen)

    def remark(self, chosen: Sequence[Mapping[str, Any]]) -> str | None:
        """Where the twin was returned, or nothing says that it should not have been."""
        if not self._compares:
            return None
        if any("returned" in values for values in chosen):
            return fallbacks(chosen)
        return "too few labels to tell whether unlabeled images helped"
