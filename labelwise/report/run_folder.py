"""RunFolder: the files of a run, read once, as the sections of the report need them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise import bundle
from labelwise.data.split import FINAL
from labelwise.data.splits_table import final_roles
from labelwise.errors import LabelwiseError
from labelwise.files import read_json
from labelwise.held_out import probabilities
from labelwise.leaderboard import pool
from labelwise.model import Model
from labelwise.trials import DONE, Trial


@dataclass(frozen=True)
class Predictions:
    """The predictions of a leaderboard row, out of fold or for the test part.

    With repeats an image has several.
    """

    ids: np.ndarray  # int64 (N,)
    labels: np.ndarray  # int64 (N,)
    predicted: np.ndarray  # int64 (N,)
    proba: np.ndarray  # float64 (N, K)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class; float64 (N,)."""
        chosen: np.ndarray = self.proba[np.arange(len(self.ids)), self.predicted]
        return chosen

    @property
    def confusion(self) -> list[list[int]]:
        """Counts of rows, labels by predictions; K lists of K."""
        k = self.proba.shape[1]
        counts = np.bincount(self.labels * k + self.predicted, minlength=k * k)
        return counts.reshape(k, k).tolist()


@dataclass(frozen=True)
class RunFolder:
    """A run on disk, as docs/protocol.md lays it out."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json."""
        values: dict[str, Any] = read_json(self.folder / "run.json")
        return values

    @cached_property
    def leaderboard(self) -> dict[str, Any]:
        """leaderboard.json."""
        values: dict[str, Any] = read_json(self.folder / "leaderboard.json")
        return values

    @property
    def metric(self) -> str:
        """What rows are compared by."""
        return str(self.leaderboard["metric"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard's rows, in its order."""
        return list(self.leaderboard["rows"])

    @cached_property
    def recommended(self) -> dict[str, Any] | None:
        """The recommended row; None if no variant finished."""
        name, labels = self.leaderboard["recommended"], self.leaderboard["recommended_labels"]
        return next((r for r in self.rows if (r["variant"], r["labels"]) == (name, labels)), None)

    @property
    def judged(self) -> dict[str, Any] | None:
        """The recommended row if it was judged; without labels nothing can be."""
        row = self.recommended
        return row if row is not None and row["metrics"] is not None else None

    @cached_property
    def model(self) -> Model | None:
        """The recommended model; None where it cannot be read (the report does not fail for it)."""
        try:
            return bundle.load(self.folder / "model")
        except (LabelwiseError, OSError):
            return None

    @cached_property
    def openings(self) -> list[dict[str, Any]]:
        """Every opening of the test part: sealed.jsonl."""
        file = self.folder / "sealed.jsonl"
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines if line.strip()]

    @cached_property
    def learned(self) -> np.ndarray:
        """Rows that the recommended model has learned from; int64, ascending."""
        columns = ["id", "labels", "repeat", "fold", "role"]
        table = pd.read_parquet(self.folder / "folds.parquet", columns=columns)
        final = final_roles(table, self.leaderboard["recommended_labels"])
        return np.sort(final[final["role"] == "train"]["id"].to_numpy(np.int64))

    @cached_property
    def suspects(self) -> pd.DataFrame:
        """suspects.parquet: id, path, label, proposed, score; most suspicious first."""
        file = self.folder / "suspects.parquet"
        columns = ["id", "path", "label", "proposed", "score"]
        return pd.read_parquet(file) if file.exists() else pd.DataFrame(columns=columns)

    @cached_property
    def table(self) -> pd.DataFrame:
        """data.parquet: what was decided about every file, with the drawn test part."""
        return pd.read_parquet(self.folder / "data.parquet")

    @cached_property
    def label_counts(self) -> list[str]:
        """The numbers of labels, in the run's order."""
        return list(dict.fromkeys(row["labels"] for row in self.rows))

    @cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        """(labels, repeat, fold) of every split; final ones only where there are no folds."""
        columns = ["labels", "repeat", "fold"]
        table = pd.read_parquet(self.folder / "folds.parquet", columns=columns).drop_duplicates()
        return [
            (str(labels), int(repeat), int(fold))
            for labels, repeat, fold in table.itertuples(index=False)
            if fold != FINAL or not (table["fold"] != FINAL).any()
        ]

    @property
    def repeats(self) -> int:
        """How often the folds were drawn."""
        return len({repeat for _, repeat, _ in self._places})

    def trials(self, row: dict[str, Any]) -> list[Trial]:
        """The finished fold trials of a leaderboard row."""
        if row["status"] != DONE:
            return []
        found = [
            Trial(self.folder, row["variant"], labels, repeat, fold)
            for labels, repeat, fold in self._places
            if labels == row["labels"]
        ]
        return [trial for trial in found if trial.record() is not None]

    def histories(self, row: dict[str, Any]) -> list[pd.DataFrame]:
        """What was seen while training, a table per fold trial; empty ones are left out."""
        return list(self._histories(row).values())

    def epochs(self, row: dict[str, Any]) -> dict[int, pd.DataFrame]:
        """The same for the folds of the first repeat, by their number; only of epochs."""
        found = self._histories(row).items()
        return {at.fold: table for at, table in found if at.repeat == 0 and "epoch" in table}

    def _histories(self, row: dict[str, Any]) -> dict[Trial, pd.DataFrame]:
        files = {trial: trial.folder / "history.parquet" for trial in self.trials(row)}
        tables = {at: pd.read_parquet(file) for at, file in files.items() if file.exists()}
        return {trial: table for trial, table in tables.items() if len(table)}

    def predictions(self, row: dict[str, Any]) -> Predictions:
        """The out-of-fold predictions of a row that finished."""
        return _pooled(self.trials(row))

    def test_predictions(self, row: dict[str, Any]) -> Predictions | None:
        """The answers of a row's final fits for the test part; None where there are none."""
        found = [
            Trial(self.folder, row["variant"], row["labels"], repeat, FINAL)
            for repeat in range(self.repeats)
        ]
        judged = [t for t in found if (t.folder / "predictions.parquet").exists()]
        return _pooled(judged) if row["test"] is not None and judged else None


def _pooled(trials: list[Trial]) -> Predictions:
    table = pool(trials)
    return Predictions(
        ids=table["id"].to_numpy(np.int64),
        labels=table["label"].to_numpy(np.int64),
        predicted=table["predicted"].to_numpy(np.int64),
        proba=probabilities(table),
    )
