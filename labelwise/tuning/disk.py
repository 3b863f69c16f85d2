"""A search on disk, read and checked before anything is taken out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pydantic

from labelwise.files import as_path, intact, read_json
from labelwise.folders import ANOTHER, RUN_FILE
from labelwise.recipe.base import Recipe
from labelwise.recipe.variants import parse_variants
from labelwise.record import DataRecord

RESULTS, TABLE = "tuning.json", "trials.parquet"
AGAIN = f"Delete the search's {RESULTS} and resume it: it is written again."


class _Kind(pydantic.BaseModel):
    name: str


class _Record(pydantic.BaseModel):
    """The fields of run.json that a resumed search builds on."""

    data: DataRecord
    settings: dict[str, Any]
    recipe: _Kind
    space: dict[str, str]
    test_images: int
    labels: int
    epochs: int
    rungs: list[int]
    trial_seconds: float
    warnings: list[str]


class _Results(pydantic.BaseModel):
    """The fields of tuning.json that are shown."""

    metric: str
    variant: str
    number: int
    value: float
    states: dict[str, int]
    caution: str
    next: str


def _checked(file: Path, kind: type[pydantic.BaseModel], advice: str) -> dict[str, Any]:
    with intact(file, advice):
        values: dict[str, Any] = read_json(file)
        kind.model_validate(values, strict=True)
    return values


@dataclass(frozen=True)
class Tuning:
    """A search on disk. What is damaged is a DataError when it is read."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", as_path(self.folder, "Tuning"))

    @property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return _checked(self.folder / RUN_FILE, _Record, ANOTHER)

    @property
    def results(self) -> dict[str, Any]:
        """tuning.json."""
        return _checked(self.folder / RESULTS, _Results, AGAIN)

    @property
    def trials(self) -> pd.DataFrame:
        """trials.parquet: a row per trial."""
        with intact(self.folder / TABLE, AGAIN):
            return pd.read_parquet(self.folder / TABLE)

    @property
    def variant(self) -> str:
        """The winner as text for `compare`, such as "tuned=cnn(lr=0.004)"."""
        return str(self.results["variant"])

    @property
    def best(self) -> Recipe:
        """The winner."""
        return parse_variants([self.variant])[0].recipe

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"
