"""tune: search over a recipe's fields. Learns and judges outside the test part, in inner folds."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable, load
from labelwise.data.split import Split
from labelwise.data.splits_table import splits_from_table
from labelwise.errors import OptionError
from labelwise.files import intact, remove_temporary
from labelwise.folders import (
    ANOTHER,
    RUN_FILE,
    asked_settings,
    check_same_data,
    locked,
    run_folder,
)
from labelwise.machine import torch_device
from labelwise.measure.metrics import check_metric
from labelwise.progress import Progress, Silent, clock, scanning
from labelwise.recipe.base import Context, Recipe
from labelwise.recipe.variants import Variant, given_fields, variant_text
from labelwise.settings import TuneSettings
from labelwise.tuning.begin import begin
from labelwise.tuning.conclusion import finish
from labelwise.tuning.disk import RESULTS, Tuning
from labelwise.tuning.halving import Course, Ladder, run_trial
from labelwise.tuning.records import Proposal, Record, check_optuna, read_records
from labelwise.tuning.space import Base, Space, make_space

NAME = "tuned"  # of the winning variant


def tune(
    data: Loadable,
    *,
    out: str | Path,
    recipe: str | Recipe,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    **options: Any,
) -> Tuning:
    """Search over the fields of a recipe by successive halving; the test part is never looked at.

    Args:
        data: what `load` takes.
        out: the run's folder; must not exist, unless `resume`.
        recipe: one variant such as "cnn" or "cnn(epochs=10)"; the fields it gives are fixed.
        resume: continue a search that was interrupted.
        progress: shown what is going on.
        command: how the user called it, for the record.
        options: the fields of `TuneSettings`: trials, search, set, labels, test, budget, ...

    Raises:
        UsageError: the call or the data is unusable; nothing has been written then.
        RunError: no trial was completed.
    """
    progress = progress or Silent()
    check_optuna()
    folder = run_folder(out, data)
    given = {"recipe": recipe if isinstance(recipe, str) else None, **options}
    settings = asked_settings(TuneSettings, folder, given, resume)
    base, space = _search(recipe, settings)
    dataset = load(data, target=settings.target, progress=scanning(progress))
    check_metric(settings.metric, len(dataset.class_names) or None)
    with locked(folder):
        # Once more: while the data was looked at, another process may have begun this run.
        asked_settings(TuneSettings, folder, given, resume)
        if not (folder / RUN_FILE).exists():
            begin(folder, dataset, data, settings, base, space, command)
        _check_same_search(folder, dataset, base, space)
        if not (folder / RESULTS).exists():
            _execute(folder, dataset, settings, base, space, progress)
    return Tuning(folder)


def _search(recipe: str | Recipe, settings: TuneSettings) -> tuple[Base, Space]:
    """What the search begins with, and what it varies."""
    defaults = settings.recipe_fields
    base = Base(recipe, settings.set, defaults)
    given = given_fields(recipe) | {text.partition("=")[0].strip() for text in settings.set}
    return base, make_space(base, given | set(defaults), settings.search)


def _check_same_search(folder: Path, dataset: Dataset, base: Base, space: Space) -> None:
    record = Tuning(folder).record
    check_same_data(folder, record, dataset)
    if record["recipe"] != base.recipe().configuration:
        raise OptionError(
            f"--out {folder}: this search began with another recipe; its fields are in the "
            "folder's run.json. Resume it with the same one, or begin a new run."
        )
    if record["space"] != space.texts:
        raise OptionError(
            f"--out {folder}: this search began with other ranges, those of another version of "
            f"labelwise. {ANOTHER}"
        )


def _execute(
    folder: Path,
    dataset: Dataset,
    settings: TuneSettings,
    base: Base,
    space: Space,
    progress: Progress,
) -> None:
    """Run the trials that are not on record, then write the results."""
    remove_temporary(folder)
    record = Tuning(folder).record
    with intact(folder / "data.parquet", ANOTHER):
        seen = replace(dataset, table=pd.read_parquet(folder / "data.parquet"))
    with intact(folder / "folds.parquet", ANOTHER):
        splits = splits_from_table(pd.read_parquet(folder / "folds.parquet"))
    ladder = Ladder(record["epochs"], len(splits), tuple(record["rungs"]))
    context = Context(settings.seed, torch_device(settings.device), progress.advance)
    records = read_records(folder)
    _announce(dataset, settings, space, record, ladder, progress)
    while len(records) < settings.trials:
        left = settings.budget_seconds - sum(done.seconds for done in records)
        if records and left <= 0:
            progress.say(f"the budget of {settings.budget} is used up")
            break
        progress.plan(_steps(settings, record, records))
        progress.begin(f"trial {len(records)} of {settings.trials - 1}")
        proposal = Proposal(space, records, settings.metric, settings.seed)
        # The first trial is what the others are measured by: it is always completed.
        deadline = time.monotonic() + left if records else math.inf
        done = _run(proposal, base, space, ladder, splits, seen, context, deadline, settings.metric)
        done.write(folder)
        records.append(done)
        progress.end(_said(done, settings.metric))
    finish(folder, settings, base, record, records)


def _run(
    proposal: Proposal,
    base: Base,
    space: Space,
    ladder: Ladder,
    splits: Sequence[Split],
    seen: Dataset,
    context: Context,
    deadline: float,
    metric: str,
) -> Record:
    started = time.perf_counter()
    fields = space.fields(proposal.values) if proposal.values else {}
    recipe = base.recipe(fields)
    outcome = run_trial(
        recipe.planned(ladder.epochs),
        splits,
        seen,
        context,
        Course(ladder, proposal.behind, deadline),
        metric,
    )
    return Record(
        number=proposal.number,
        variant=variant_text(Variant(NAME, recipe)),
        values=proposal.values,
        fields=fields,
        outcome=outcome,
        seconds=time.perf_counter() - started,
    )


def _steps(
    settings: TuneSettings, record: Mapping[str, Any], records: Sequence[Record]
) -> list[float]:
    """Seconds of every trial to come: as those so far on average, and never beyond the budget."""
    to_come, spent = settings.trials - len(records), sum(done.seconds for done in records)
    # The estimate made before counts as much as one trial.
    each = (spent + record["trial_seconds"]) / (len(records) + 1)
    return [min(each, (settings.budget_seconds - spent) / to_come)] * to_come


def _announce(
    dataset: Dataset,
    settings: TuneSettings,
    space: Space,
    record: Mapping[str, Any],
    ladder: Ladder,
    progress: Progress,
) -> None:
    sealed = record["test_images"]
    test = f", {sealed} test images are never looked at" if sealed else ""
    epochs = f", {ladder.epochs} epochs" if ladder.epochs > 1 else ""
    each = record["trial_seconds"]
    total = max(each, min(settings.budget_seconds, settings.trials * each))
    progress.say(
        f"{dataset.name}: {record['labels']} labels in {ladder.folds} inner folds{test}\n"
        f"up to {settings.trials} trials{epochs}, about {clock(total)} in all "
        f"(budget {settings.budget}); searching\n{space}"
    )
    if each > settings.budget_seconds:
        progress.say(
            f"note: a trial takes about {clock(each)}, more than the budget; the "
            "first one is completed all the same. Give more time (--budget), or fewer labels."
        )
    for sentence in record["warnings"]:
        progress.say(f"note: {sentence}")


def _said(record: Record, metric: str) -> str:
    outcome = record.outcome
    if outcome.value is not None:
        return f"{metric} {outcome.value:.4g}"
    return f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state
