"""How a search begins: the labels it may see, inner folds of them, epochs and rungs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable
from labelwise.data.split import FINAL, Protocol, Split, make_protocol
from labelwise.data.splits_table import splits_table
from labelwise.files import write_json, write_parquet
from labelwise.folders import RUN_FILE, data_record
from labelwise.machine import machine, torch_device, versions
from labelwise.plan import task_of
from labelwise.recipe.base import Context, Recipe
from labelwise.recipe.sizes import FEWEST_EPOCHS
from labelwise.settings import TuneSettings
from labelwise.tuning.halving import Ladder, make_ladder
from labelwise.tuning.space import Base, Space

USABLE = 0.8  # of the budget; the rest is for predicting, measuring and the report


def begin(
    folder: Path,
    dataset: Dataset,
    data: Loadable,
    settings: TuneSettings,
    base: Base,
    space: Space,
    command: Sequence[str],
) -> None:
    """Draw the inner folds, fix the epochs, and write the files a resumed search starts from."""
    outer = make_protocol(
        dataset, labels=settings.label_counts, test=settings.test, seed=settings.seed
    )
    seen = visible(dataset, outer)
    inner = make_protocol(seen, folds=settings.folds, repeats=settings.repeats, seed=settings.seed)
    splits = [split for split in inner.splits if split.fold != FINAL]
    recipe = base.recipe()
    ladder, seconds = _ladder(recipe, seen, splits, settings)
    write_parquet(folder / "data.parquet", seen.table)
    write_parquet(folder / "folds.parquet", splits_table(splits))
    record = {
        "command": list(command),
        "data": data_record(data, dataset),
        "settings": settings.model_dump(mode="json"),
        "recipe": recipe.configuration,
        "space": space.texts,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions() | {"optuna": importlib.metadata.version("optuna")},
        "machine": machine(),
        "test_images": len(inner.test),
        "labels": len(splits[0].train) + len(splits[0].validation) + len(splits[0].held_out),
        "epochs": ladder.epochs,
        "rungs": list(ladder.rungs),
        "trial_seconds": seconds,
        "warnings": [*dataset.warnings, *inner.warnings],
    }
    write_json(folder / RUN_FILE, record)  # last: a folder with it can be resumed


def _ladder(
    recipe: Recipe, seen: Dataset, splits: Sequence[Split], settings: TuneSettings
) -> tuple[Ladder, float]:
    """The rungs, with as many epochs as the budget allows, and the seconds of an average trial."""
    task = task_of(seen, max(splits, key=lambda split: len(split.train)))
    cost = recipe.cost(task, Context(settings.seed, torch_device(settings.device)))
    given, most = getattr(recipe, "epochs", None), recipe.open_epochs
    candidates = range(most, 0, -1) if most else [given or 1]
    for epochs in candidates:
        ladder = make_ladder(epochs, splits, watched=bool(most or given))
        whole = len(splits) * (cost.fit + cost.epoch * epochs)
        seconds = whole * ladder.share
        affordable = (
            whole + cost.once + settings.trials * seconds <= USABLE * settings.budget_seconds
        )
        if affordable or epochs <= FEWEST_EPOCHS:
            break
    return ladder, seconds


def visible(dataset: Dataset, protocol: Protocol) -> Dataset:
    """The data as they look to someone who has only the labels of a final fit.

    All other labels are hidden, and the test part is marked, so that nothing drawn from these data
    can learn from it or judge by it. A given `val` part is kept to judge.
    """
    first, final = protocol.splits[0], protocol.splits[-1]
    kept = final.train
    if (dataset.table["split"] == "val").any():
        kept = np.concatenate([first.train, first.validation, first.held_out])
    table = dataset.table.copy()
    table.loc[protocol.test, "split"] = "test"
    hidden = np.setdiff1d(np.arange(len(table)), np.concatenate([kept, protocol.test]))
    table.loc[hidden, "label"] = pd.NA
    return replace(dataset, table=table)
