"""run.json: what a run began with, read and checked before anything is taken out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic

from labelwise.files import intact, read_json
from labelwise.folders import ANOTHER, RUN_FILE
from labelwise.plan import Plan
from labelwise.recipe import RECIPES
from labelwise.recipe.variants import recipe_of
from labelwise.settings import Settings, settings_of


class DataRecord(pydantic.BaseModel):
    """What any run.json says about the data, as far as it is used again."""

    name: str
    source: str
    fingerprint: str
    images: int


class _Record(pydantic.BaseModel):
    """The fields that a resumed run builds on."""

    status: Literal["running", "done"]
    data: DataRecord
    settings: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    folds: int
    plan: dict[str, Any]
    warnings: list[str]
    seconds: float = 0.0


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json of a run's folder.

    Raises:
        DataError: it is damaged, or from a version with other options or recipes.
    """
    file = folder / RUN_FILE
    with intact(file, ANOTHER):
        values: dict[str, Any] = read_json(file)
        record = _Record.model_validate(values)
        settings_of(Settings, record.settings)
        Plan.from_json(record.plan)
        for recipe in record.variants.values():
            if recipe["name"] in RECIPES:  # a recipe of the user's own is given again
                recipe_of(recipe)
    return values
