"""Twins: a variant beside itself without what sets it apart, so that one sees what that was worth.

A recipe says what its twin is. A comparison adds the twins that are missing, gives them the epochs
that were planned for their variants, and reports the paired difference of each pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from labelwise.measure.verdicts import SURE, Pair, Verdict, holm, verdicts
from labelwise.plan import Plan
from labelwise.recipe.base import Recipe
from labelwise.recipe.variants import Variant

SWAPPED: Mapping[Verdict, Verdict] = {
    "a better": "b better",
    "b better": "a better",
    "cannot tell": "cannot tell",
}


@dataclass(frozen=True)
class Twins:
    """Two variants of a run.

    Attributes:
        variant, twin: their names.
        gain: what the twin does without.
    """

    variant: str
    twin: str
    gain: str


def with_twins(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """The variants, each followed by its twin unless one of the others is that already."""
    listed = [variant.recipe for variant in variants]
    names = {variant.name for variant in variants}
    found: list[Variant] = []
    for variant in variants:
        found.append(variant)
        twin = variant.recipe.twin
        if twin is None or twin.recipe in listed:
            continue
        listed.append(twin.recipe)
        name = _free(f"{variant.name}-{twin.word}", names)
        names.add(name)
        found.append(Variant(name, twin.recipe))
    return tuple(found)


def twins_of(variants: Sequence[Variant]) -> tuple[Twins, ...]:
    """The pairs among variants, as they were asked for (a plan fills in fields)."""

    def named(recipe: Recipe) -> str | None:
        return next((variant.name for variant in variants if variant.recipe == recipe), None)

    found = [(variant.name, variant.recipe.twin) for variant in variants]
    return tuple(
        Twins(name, other, twin.gain)
        for name, twin in found
        if twin is not None and (other := named(twin.recipe)) is not None
    )


def alike(plan: Plan, pairs: Sequence[Twins]) -> Plan:
    """The plan with every twin trained for as long as its variant: only one thing may differ."""
    fields, sentences = dict(plan.fields), dict(plan.sentences)
    for pair in pairs:
        if pair.variant in fields and pair.twin in fields:
            own = fields[pair.twin]
            given = fields[pair.variant]
            given = given.get("base", given)  # what was planned for the recipe inside of it
            fields[pair.twin] = {name: given.get(name, value) for name, value in own.items()}
            if "epochs" in own:
                sentences[pair.twin] = f"{sentences[pair.variant]}, as its twin {pair.variant}"
    return replace(plan, fields=fields, sentences=sentences)


def twin_pairs(
    pairs: Sequence[Twins],
    labels: npt.ArrayLike,
    probas: Mapping[str, npt.NDArray[np.float64]],
    **options: Any,
) -> list[tuple[Twins, Pair]]:
    """The paired difference of every two twins that both have a result, variant minus twin.

    Each pair was chosen before anything was measured, so p is Holm-corrected over these pairs only.

    Args:
        labels, probas, options: as `verdicts` takes them, but for the level.
    """
    both = [pair for pair in pairs if pair.variant in probas and pair.twin in probas]
    found = [
        _in_order(
            verdicts(labels, {n: probas[n] for n in (pair.variant, pair.twin)}, **options)[0],
            pair.variant,
        )
        for pair in both
    ]
    corrected = holm([pair.p for pair in found])
    return [
        (twins, replace(pair, p=p, verdict=pair.verdict if p < SURE else "cannot tell"))
        for twins, pair, p in zip(both, found, corrected, strict=True)
    ]


def _in_order(pair: Pair, first: str) -> Pair:
    """The pair with `first` as a; `verdicts` puts the better one there."""
    if pair.a == first:
        return pair
    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        difference=-pair.difference,
        low=-pair.high,
        high=-pair.low,
        verdict=SWAPPED[pair.verdict],
    )


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it where another variant has it."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
