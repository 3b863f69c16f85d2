"""How a search ends: the winner, what its number is worth, and the command that judges it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from labelwise.errors import RunError
from labelwise.files import write_json, write_parquet
from labelwise.recipe.variants import Variant, variant_text
from labelwise.settings import TuneSettings
from labelwise.tuning.disk import RESULTS, TABLE
from labelwise.tuning.page import write_page
from labelwise.tuning.records import Record, ranked, table_of
from labelwise.tuning.space import Base


def finish(
    folder: Path,
    settings: TuneSettings,
    base: Base,
    record: Mapping[str, Any],
    records: Sequence[Record],
) -> None:
    """Write the table and the page, and last the results."""
    best = ranked(records, settings.metric)
    write_parquet(folder / TABLE, table_of(records, settings.metric))
    if not best:
        reasons = dict.fromkeys(r.outcome.reason for r in records if r.outcome.reason)
        raise RunError(f"No trial was completed. {'; '.join(map(str, reasons))}")
    first = records[0].outcome
    results = {
        "metric": settings.metric,
        "variant": best[0].variant,
        "number": best[0].number,
        "value": best[0].outcome.value,
        "value_of_trial_0": first.value,
        "states": pd.Series([r.outcome.state for r in records]).value_counts().to_dict(),
        "seconds": sum(r.seconds for r in records),
        "caution": caution(record, best[0]),
        "next": _next(folder, settings, base, record, best[0]),
    }
    write_page(folder, results, records, record)
    write_json(folder / RESULTS, results)


def caution(record: Mapping[str, Any], best: Record) -> str:
    """What the winner's number is worth.

    Args:
        record: run.json.
    """
    lost = "" if best.number else "No trial was better than the recipe as it was given. "
    told = (
        f"{lost}This number chose the winner, as the best of many, so it is optimistic: only "
        "`compare` can judge the winner"
    )
    if record["test_images"]:
        return (
            f"{told}, on the {record['test_images']} test images, which the search has not seen. "
            "What compare says of the folds is about images that took part in the choice."
        )
    return (
        f"{told}, and only on images that took no part here. No test part was sealed: folds of "
        "the same labels would judge the winner on images that chose it. Tune and compare with "
        "the same --test and --seed instead."
    )


def _next(
    folder: Path, settings: TuneSettings, base: Base, record: Mapping[str, Any], best: Record
) -> str:
    """The command that judges the winner beside the recipe as it was given."""
    recipe = base.recipe()
    start = variant_text(Variant(recipe.name, recipe))
    recipes = f"{start}, {best.variant}" if best.number else start
    words = ["labelwise", "compare", record["data"]["source"]]
    words += [
        "--out",
        f"{folder}-judged",
        "--recipes",
        recipes,
    ]
    for name in ("target", "labels", "test", "seed", "metric"):
        value, usual = getattr(settings, name), TuneSettings.model_fields[name].default
        words += [] if value == usual else [f"--{name}", str(value)]
    return shlex.join(words)
