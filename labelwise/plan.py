"""Plan: what will run and for how long, from a short measurement, to fit the time budget.

A plan is made once, stored in run.json and used again on --resume, so that a run that was killed
trains exactly as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labelwise.data.dataset import Dataset
from labelwise.data.split import FINAL, Protocol, Split
from labelwise.errors import LabelwiseError
from labelwise.progress import clock
from labelwise.recipe.base import Context, Cost, Task
from labelwise.recipe.variants import Variant

FEWEST_EPOCHS = 3
USABLE = 0.8  # of the budget; the rest is for predicting, measuring and the report


@dataclass(frozen=True)
class LeftOut:
    """A variant that does not run, and why."""

    variant: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What runs.

    Attributes:
        epochs: variant -> epochs, for those whose recipe left them open.
        seconds: variant -> estimated seconds of all its fits.
        left_out: variants that do not run.
        warnings: sentences for the user.
    """

    epochs: Mapping[str, int]
    seconds: Mapping[str, float]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in run.json."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Plan:
        """The plan of a run.json."""
        left_out = tuple(LeftOut(**item) for item in values["left_out"])
        return Plan(values["epochs"], values["seconds"], left_out, tuple(values["warnings"]))

    def apply(self, variants: Sequence[Variant]) -> tuple[Variant, ...]:
        """The variants that run, with their epochs fixed."""
        out = {item.variant for item in self.left_out}
        return tuple(
            Variant(variant.name, variant.recipe.planned(self.epochs[variant.name]))
            if variant.name in self.epochs
            else variant
            for variant in variants
            if variant.name not in out
        )


def make_plan(
    dataset: Dataset,
    protocol: Protocol,
    variants: Sequence[Variant],
    *,
    asked_for: bool,
    finals: bool,
    budget_seconds: float,
    context: Context,
) -> Plan:
    """Measure every variant briefly and fit them into the budget.

    Args:
        asked_for: the user named the variants. Then none is left out: a problem is raised, and a
            variant that takes too long runs with a warning.
        finals: every variant gets a final fit (there is a test part, or all models are kept).

    Raises:
        LabelwiseError: a variant that was asked for cannot run on this data or machine.
    """
    splits = [split for split in protocol.splits if finals or split.fold != FINAL]
    largest = max(splits, key=lambda split: _learned(split) + len(split.validation))
    task = task_of(dataset, largest)
    costs: dict[str, Cost] = {}
    left_out = []
    for variant in variants:
        problem = None if asked_for else variant.recipe.unsuited(task.images)
        if problem is None:
            try:
                costs[variant.name] = variant.recipe.cost(task, context)
                continue
            except LabelwiseError as error:
                if asked_for:
                    raise
                problem = str(error)
        left_out.append(LeftOut(variant.name, problem))

    share = sum(map(_learned, splits)) / max(_learned(largest), 1)
    count = len(splits)
    # Few labels and one held-out part leave most of a large data set unread.
    roles = [rows for s in splits for rows in (s.train, s.validation, s.held_out)]
    read = len(np.unique(np.concatenate([*roles, protocol.test])))
    labeled = int((dataset.labels[dataset.usable] >= 0).sum())
    read_share = read / labeled if labeled else 1.0
    open_epochs = {
        variant.name: most
        for variant in variants
        if variant.name in costs and (most := variant.recipe.open_epochs)
    }

    def seconds_of(name: str, epochs: int) -> float:
        fixed = next(v.recipe for v in variants if v.name == name)
        number = int(getattr(fixed, "epochs", 0) or 0)
        if name in open_epochs:
            number = min(epochs, open_epochs[name])
        cost = costs[name]
        once = cost.once * read_share
        return once + count * min(cost.fit, 0.2) + share * (cost.fit + cost.epoch * number)

    most = max(open_epochs.values(), default=0)
    epochs = most
    while True:
        total = sum(seconds_of(name, epochs) for name in costs)
        if total <= USABLE * budget_seconds or not costs:
            break
        if epochs > FEWEST_EPOCHS:
            epochs -= 1
            continue
        if asked_for or len(costs) == 1:
            break
        slowest = max(costs, key=lambda name: seconds_of(name, epochs))
        needed = clock(seconds_of(slowest, epochs))
        left_out.append(
            LeftOut(slowest, f"would take about {needed}, too much for the time budget")
        )
        del costs[slowest]
        open_epochs.pop(slowest, None)
        epochs = most
    warnings = []
    if costs and total > budget_seconds:
        warnings.append(
            f"The run will take about {clock(total)}, more than the budget of "
            f"{clock(budget_seconds)}: it is the least that these variants need."
        )
    return Plan(
        epochs={name: min(epochs, most) for name, most in open_epochs.items()},
        seconds={name: seconds_of(name, epochs) for name in costs},
        left_out=tuple(left_out),
        warnings=tuple(warnings),
    )


def _learned(split: Split) -> int:
    """Images that the weights of a fit are moved by; without labels, all there are."""
    return len(split.train) or len(split.unlabeled)


def task_of(dataset: Dataset, split: Split) -> Task:
    """What a recipe gets of a split: labeled images, then unlabeled ones with label -1."""
    rows = np.concatenate([split.train, split.unlabeled])
    labels = np.concatenate([dataset.labels[split.train], np.full(len(split.unlabeled), -1)])
    validation = None
    if len(split.validation):
        validation = (dataset.images(split.validation), dataset.labels[split.validation])
    return Task(dataset.images(rows), labels, dataset.class_names, validation)
