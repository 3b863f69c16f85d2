"""Ensemble: a row of the leaderboard whose answers are a weighted mean of the others'.

A step after the trials, not a recipe that learns: the weights come from the held-out answers of the
rows with the same number of labels, and are judged on folds that they have not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from labelwise import bundle
from labelwise.data.dataset import Dataset
from labelwise.data.preprocess import Preprocessing
from labelwise.data.split import FINAL, Split
from labelwise.description import MOST_MEMBERS
from labelwise.errors import OptionError, TrainingError
from labelwise.files import write_parquet
from labelwise.fitting import Known
from labelwise.held_out import learnable, probabilities, without_absent
from labelwise.leaderboard import pool
from labelwise.measure.scoring import Floats
from labelwise.measure.selection import HeldOut, Mixture
from labelwise.measure.temperature import parts_of
from labelwise.mixed import differently, mixed
from labelwise.recipe.base import Context, Cost, Fitted, Recipe, Task
from labelwise.recipe.variants import Variant
from labelwise.trials import (
    NOVELTY_FILE,
    Row,
    Trial,
    absent_classes,
    trial_of,
    write_predictions,
    write_record,
)

NAME = "ensemble"


@dataclass(frozen=True)
class Ensemble(Recipe):
    """What stands in the place of a recipe where an ensemble is compared; it is never fitted."""

    name: ClassVar[str] = NAME
    regime: ClassVar[str] = "weighted mean of the answers of all other variants"
    rank: ClassVar[int] = 100  # it costs as much as all that it consists of

    def fit(self, task: Task, context: Context) -> Fitted:
        raise TrainingError("An ensemble consists of other variants' fits and has none of its own.")

    def cost(self, task: Task, context: Context) -> Cost:
        return Cost()

    def remark(self, chosen: Sequence[Mapping[str, Any]]) -> str | None:
        """The mean weight of every variant over the folds, the largest first."""
        found = pd.DataFrame([values["weights"] for values in chosen]).fillna(0.0).mean()
        ranked = found[found > 0].sort_values(ascending=False, kind="stable")
        return "weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in ranked.items())


@dataclass(frozen=True)
class Members:
    """The rows that an ensemble consists of, all with the same splits and finished folds.

    Attributes:
        row: the ensemble's own.
        of: two or more.
    """

    row: Row
    of: tuple[Row, ...]
    dataset: Dataset
    run: Path

    @property
    def names(self) -> list[str]:
        """Of the variants."""
        return [row.variant.name for row in self.of]

    @cached_property
    def tables(self) -> list[pd.DataFrame]:
        """Held-out answers of every member: repeat, id, fold, label, p_0..; in the same order."""
        return [pool(row.trials(self.run, final=False)) for row in self.of]

    @cached_property
    def held_out(self) -> HeldOut:
        """All answers to the judged images; an image is in one part, in all of its repeats."""
        table = self.tables[0]
        groups = self.dataset.groups
        once = table.drop_duplicates("id")  # with one held-out part, repeats judge other images
        parts = dict(zip(once["id"], parts_of(once["fold"], groups[once["id"]]), strict=True))
        # What a fold could not learn says nothing about models that know the class.
        able = [
            np.concatenate([learnable(of) for _, of in own.groupby("repeat")])
            for own in self.tables
        ]
        return HeldOut(
            labels=table["label"].to_numpy(np.int64),
            probas=np.stack([probabilities(table) for table in self.tables]),
            parts=table["id"].map(parts).to_numpy(np.int64),
            groups=groups[table["id"]],
            counting=np.all(able, axis=0),
        )

    @cached_property
    def mixture(self) -> Mixture:
        """By all held-out answers; that of the final model."""
        return self.held_out.mixture()

    @property
    def needed(self) -> tuple[Row, ...]:
        """Those whose answers count in the final model."""
        pairs = zip(self.of, self.mixture.weights, strict=True)
        return tuple(row for row, weight in pairs if weight > 0)

    @property
    def unfit(self) -> str | None:
        """Why these rows cannot make an ensemble; None if they can."""
        if len(self.of) < 2:
            return "An ensemble needs two variants that finished. Name more with --recipes."
        if len(self.of) > MOST_MEMBERS:
            return f"An ensemble has {MOST_MEMBERS} members at most; here are {len(self.of)}."
        records = [
            r for row in self.of for t in row.trials(self.run, final=False)[:1] if (r := t.record())
        ]
        sides = [Preprocessing(**r["preprocessing"]) for r in records if "preprocessing" in r]
        if (problem := differently(sides)) is not None:
            return problem
        if len(np.unique(self.held_out.parts)) < 2:
            return (
                "All held-out images belong to one group, so that no weights could be judged on "
                "images that they have not seen."
            )
        return None

    def stale(self, trial: Trial) -> bool:
        """Whether a trial of the ensemble is missing, or was made of other members."""
        record = trial.record()
        return record is None or not trial.finished or record["chosen"]["members"] != self.names

    def chosen(self, mixture: Mixture) -> dict[str, Any]:
        """For trial.json."""
        found = zip(self.names, mixture.weights, mixture.temperatures, strict=True)
        kept = [entry for entry in found if entry[1] > 0]
        return {
            "members": self.names,
            "weights": {name: float(weight) for name, weight, _ in kept},
            "temperatures": {name: float(temperature) for name, _, temperature in kept},
        }

    def trials(self, split: Split, rows: Sequence[Row]) -> list[Trial]:
        """Of some members, for a split."""
        return [trial_of(self.run, row.variant.name, split) for row in rows]


def ensembles(
    rows: Sequence[Row], failed: Collection[tuple[str, str]], dataset: Dataset, run: Path
) -> tuple[list[Members], dict[tuple[str, str], str]]:
    """An ensemble for every number of labels.

    Args:
        rows: all other rows of the run.
        failed: (variant, labels) of those that have no answers.

    Returns:
        Those that can be made, and (variant, labels) -> why the others cannot.
    """
    found, problems = [], {}
    variant = Variant(NAME, Ensemble())
    for labels in dict.fromkeys(row.labels for row in rows):
        same = [row for row in rows if row.labels == labels]
        able = tuple(row for row in same if (row.variant.name, labels) not in failed)
        members = Members(Row(variant, labels, same[0].splits), able, dataset, run)
        if (problem := members.unfit) is not None:
            problems[NAME, labels] = problem
        found.append(members)
    return found, problems


def weigh(members: Members) -> None:
    """Write the fold trials of an ensemble that are not finished."""
    splits = [split for split in members.row.splits if split.fold != FINAL]
    open_ = [s for s in splits if members.stale(trial_of(members.run, NAME, s))]
    if not open_:
        return
    held_out = members.held_out
    proba, mixtures = held_out.crossed()
    table = members.tables[0]
    for split in open_:
        own = ((table["repeat"] == split.repeat) & (table["fold"] == split.fold)).to_numpy()
        # One mixture per fold, but for a single held-out part or more repeats: then their mean.
        used = [mixtures[part] for part in np.unique(held_out.parts[own])]
        mean = Mixture(
            np.mean([mixture.weights for mixture in used], axis=0),
            np.mean([mixture.temperatures for mixture in used], axis=0),
        )
        trial = trial_of(members.run, NAME, split)
        rows = table["id"].to_numpy(np.int64)[own]
        novelties = [t.novelty() for t in members.trials(split, members.of)]
        if all(found is not None for found in novelties):
            write_parquet(trial.folder / NOVELTY_FILE, _mean(novelties, mean.weights))
        answers = without_absent(proba[own], absent_classes(members.dataset, split))
        write_predictions(trial, rows, held_out.labels[own], answers)
        _record(members, split, mean)


def _mean(tables: Sequence[pd.DataFrame | None], weights: Floats) -> pd.DataFrame:
    """The weighted mean of tables with the same ids; a distance that is not known is 0."""
    sound = [
        table.set_index("id").sort_index().fillna(0.0) for table in tables if table is not None
    ]
    mean = sum(weight * table for weight, table in zip(weights, sound, strict=True))
    assert isinstance(mean, pd.DataFrame)
    return mean.astype(np.float32).reset_index()


def join(members: Members) -> None:
    """Write the final trials of an ensemble that are not finished, each with its model.

    The final trials of all members that it needs must have their models.

    Raises:
        RunError: the members do not see the same part of an image.
    """
    known = None
    for split in (s for s in members.row.splits if s.fold == FINAL):
        trial = trial_of(members.run, NAME, split)
        if not members.stale(trial):
            continue
        known = known or Known.of(members.row, members.dataset, members.run)
        (trial.folder / "predictions.parquet").unlink(missing_ok=True)  # of other members
        kept = members.mixture.weights > 0
        model = mixed(
            [bundle.load(t.folder / "model") for t in members.trials(split, members.needed)],
            weights=members.mixture.weights[kept],
            temperatures=members.mixture.temperatures[kept],
            images=members.dataset.images(members.dataset.usable),
        )
        model = replace(model, recipe=members.row.variant.recipe.configuration)
        bundle.save(known.given_to(model), trial.folder / "model")
        _record(members, split, members.mixture)


def _record(members: Members, split: Split, mixture: Mixture) -> None:
    parts = zip(members.trials(split, members.of), mixture.weights, strict=True)
    records = [record for t, weight in parts if weight > 0 and (record := t.record())]
    write_record(
        trial_of(members.run, NAME, split),
        split,
        members.dataset,
        recipe=members.row.variant.recipe.configuration,
        chosen=members.chosen(mixture),
        seconds=sum(record["seconds"] for record in records),
    )


def check_name(variants: Sequence[Variant]) -> None:
    """Raises OptionError if a variant has the name of the ensemble."""
    if any(variant.name == NAME for variant in variants):
        raise OptionError(
            f"--ensemble: a variant is already called {NAME!r}. Give that variant another name."
        )
