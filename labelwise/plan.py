"""Plan: what will run, how large and for how long, from a short measurement, to fit the budget.

A plan is made once, stored in run.json and used again on --resume, so that a run that was killed
trains exactly as one that was not. It is a plan, not a deadline: nothing looks at the clock later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labelwise.candidate import Candidate, highest
from labelwise.data.dataset import Dataset
from labelwise.data.split import Protocol, Split
from labelwise.errors import LabelwiseError
from labelwise.estimate import judging_seconds, largest, seconds_after, workload
from labelwise.progress import clock
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Context, Recipe, Task
from labelwise.recipe.variants import Variant, recipe_of

# Of the budget, for one of the three timings of the steps of a size. Machines that others work on
# as well have slow moments, and a plan that rests on one of them wastes the budget or exceeds it.
TIMED = 0.003


@dataclass(frozen=True)
class LeftOut:
    """A variant that does not run, and why."""

    variant: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What runs.

    Attributes:
        fields: variant -> the fields of its recipe that were left open, with their planned values.
        sentences: variant -> what was planned, and why.
        seconds: variant -> estimated seconds of all its fits.
        before: seconds that the run had taken when it was planned.
        after: estimated seconds from the last fit to the end.
        left_out: variants that do not run.
        warnings: sentences for the user.
    """

    fields: Mapping[str, Mapping[str, Any]]
    sentences: Mapping[str, str]
    seconds: Mapping[str, float]
    before: float
    after: float
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]

    @property
    def total(self) -> float:
        """Estimated seconds of the whole run, from its very start."""
        return self.before + sum(self.seconds.values()) + self.after

    def to_json(self) -> dict[str, Any]:
        """As it stands in run.json."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Plan:
        """The plan of a run.json."""
        left_out = tuple(LeftOut(**item) for item in values["left_out"])
        known = {field.name: values[field.name] for field in dataclasses.fields(Plan)}
        return Plan(**{**known, "left_out": left_out, "warnings": tuple(values["warnings"])})

    def apply(self, variants: Sequence[Variant]) -> tuple[Variant, ...]:
        """The variants that run, with their open fields filled in."""
        out = {item.variant for item in self.left_out}
        return tuple(
            Variant(variant.name, _filled(variant.recipe, self.fields[variant.name]))
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
    elapsed: Callable[[], float],
    context: Context,
) -> Plan:
    """Measure every variant briefly and fit them into the budget.

    Args:
        asked_for: the user named the variants. Then none is left out: a problem is raised, and a
            variant that takes too long runs with a warning.
        finals: every variant gets a final fit (there is a test part, or all models are kept).
        elapsed: seconds of the budget that are spent by now.

    Raises:
        LabelwiseError: a variant that was asked for cannot run on this data or machine.
    """
    task = task_of(dataset, largest(protocol.splits))
    context = dataclasses.replace(context, timing=max(context.timing, TIMED * budget_seconds))
    pool = any(len(split.unlabeled) for split in protocol.splits)
    candidates, left_out = _measured(variants, task, context, asked_for, pool)
    if not asked_for:
        left_out += _without_orphans(candidates, variants)
    per_image = judging_seconds(len(dataset.class_names)) if candidates else 0.0
    while True:
        load = workload(dataset, protocol, variants=len(candidates), finals=finals)
        after = seconds_after(load, len(candidates), per_image)
        room = budget_seconds - elapsed() - after
        bounds = {name: (item.least(load), item.most(load)) for name, item in candidates.items()}
        least = {name: low for name, (low, _) in bounds.items()}
        if not asked_for and len(candidates) > 1 and sum(least.values()) > room:
            slowest = max(least, key=lambda name: least[name])
            reason = f"would take about {clock(least[slowest])}, too much for the time budget"
            left_out.append(LeftOut(slowest, reason))
            del candidates[slowest]
            left_out += _without_orphans(candidates, variants)
            continue
        before = sum(item.measured for item in candidates.values())
        plans = {
            name: candidates[name].planned(load, seconds)
            for name, seconds in zip(bounds, _shares(room, [*bounds.values()]), strict=True)
        }
        # Measuring sizes has taken time that is missing now; the next time their costs are known.
        if sum(item.measured for item in candidates.values()) == before:
            break
    plan = Plan(
        fields={name: planned.fields for name, planned in plans.items()},
        sentences={name: planned.sentence for name, planned in plans.items()},
        seconds={name: planned.seconds for name, planned in plans.items()},
        before=elapsed(),
        after=after,
        left_out=tuple(left_out),
        warnings=(),
    )
    if not candidates or sum(plan.seconds.values()) <= room:
        return plan
    warning = (
        f"The run will take about {clock(plan.total)}, more than the budget of "
        f"{clock(budget_seconds)}: it is the least that these variants need."
    )
    return dataclasses.replace(plan, warnings=(warning,))


def _measured(
    variants: Sequence[Variant], task: Task, context: Context, asked_for: bool, pool: bool
) -> tuple[dict[str, Candidate], list[LeftOut]]:
    """The candidates of the variants that can run, and the others."""
    candidates, left_out = {}, []
    unsuited = {v.name: None if asked_for else _unsuited(v.recipe, task, pool) for v in variants}
    suited = [name for name, problem in unsuited.items() if problem is None]
    for variant in variants:
        problem = unsuited[variant.name]
        if problem is None and not asked_for:  # nothing is timed for a variant that does not run
            problem = _orphaned(variant, variants, suited)
        if problem is None:
            try:
                candidates[variant.name] = Candidate(variant.recipe, task, context)
                continue
            except LabelwiseError as error:
                if asked_for:
                    raise
                problem = str(error)
        left_out.append(LeftOut(variant.name, problem))
    return candidates, left_out


def _without_orphans(
    candidates: dict[str, Candidate], variants: Sequence[Variant]
) -> list[LeftOut]:
    """Take out the twins that stand there for a variant that is left out, and say so."""
    found = [
        LeftOut(variant.name, reason)
        for variant in variants
        if variant.name in candidates
        and (reason := _orphaned(variant, variants, candidates)) is not None
    ]
    for item in found:
        del candidates[item.variant]
    return found


def _orphaned(
    variant: Variant, variants: Sequence[Variant], running: Collection[str]
) -> str | None:
    """Why a twin is not worth running: none of those that it stands there for runs."""
    if variant.name in RECIPES:  # there for itself
        return None
    pairs = [(other.name, other.recipe.twin) for other in variants]
    owners = [name for name, twin in pairs if twin is not None and twin.recipe == variant.recipe]
    if not owners or any(name in running for name in owners):
        return None
    return f"is the twin of '{owners[0]}', which is left out"


def _unsuited(recipe: Recipe, task: Task, pool: bool) -> str | None:
    """Why a recipe is not worth running; `pool`: some fit has images without a label."""
    if recipe.uses_unlabeled and not pool:
        return "there is no image without a label to learn from"
    return recipe.unsuited(task.images)


def _shares(room: float, bounds: Sequence[tuple[float, float]]) -> list[float]:
    """Seconds of every variant: all the same, but for those that need more or have use for less.

    None at all where there is no room for what they need: each then takes the least it can, and no
    larger size, though by a mismeasurement that may seem to fit into the seconds of the smallest.

    Args:
        bounds: (least, most) seconds of every variant.
    """
    if sum(least for least, _ in bounds) > room:
        return [0.0] * len(bounds)

    def given(level: float) -> list[float]:
        return [min(max(level, least), most) for least, most in bounds]

    return given(highest(lambda level: sum(given(level)) <= room, 0.0, max(room, 0.0)))


def _filled(recipe: Recipe, planned: Mapping[str, Any]) -> Recipe:
    """A recipe with planned fields; of a recipe inside of it, the plan has the configuration."""
    values = {name: recipe_of(v) if isinstance(v, Mapping) else v for name, v in planned.items()}
    return dataclasses.replace(recipe, **values)


def task_of(dataset: Dataset, split: Split) -> Task:
    """What a recipe gets of a split: labeled images, then unlabeled ones with label -1."""
    rows = np.concatenate([split.train, split.unlabeled])
    labels = np.concatenate([dataset.labels[split.train], np.full(len(split.unlabeled), -1)])
    validation = None
    if len(split.validation):
        validation = (dataset.images(split.validation), dataset.labels[split.validation])
    return Task(dataset.images(rows), labels, dataset.class_names, validation)
