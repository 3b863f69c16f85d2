"""recipes: what there is, with hyperparameters, defaults and meaning, read off the dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from labelwise.errors import OptionError
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Recipe
from labelwise.recipe.ranges import ranges_of
from labelwise.recipe.variants import value_text


def recipes(name: str | None = None) -> list[dict[str, Any]]:
    """All recipes, or one of them in detail.

    Returns:
        For all: name, regime, uses_unlabeled. For one also its description, fields (name, default,
        text: the default as a variant has it, meaning, and search: what `tune` varies, as
        `--search` names it -> range) and presets.

    Raises:
        OptionError: there is no recipe of this name.
    """
    if name is None:
        return [_brief(kind) for kind in RECIPES.values()]
    if not isinstance(name, str) or name not in RECIPES:
        raise OptionError(f"There is no recipe {name!r}. Choose from {', '.join(RECIPES)}.")
    kind = RECIPES[name]
    made = kind()
    fields = [
        {
            "name": field.name,
            "default": made.configuration[field.name],
            "text": value_text(getattr(made, field.name)),
            "meaning": field.metadata["help"],
            "search": {
                name: str(found)
                for name, found in ranges_of(field.name, field.metadata["search"]).items()
            },
        }
        for field in dataclasses.fields(kind)
    ]
    details: dict[str, Any] = {
        **_brief(kind),
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "fields": fields,
    }
    if hasattr(kind, "presets"):
        details["presets"] = {name: dict(values) for name, values in kind.presets.items()}
    return [details]


def _brief(kind: type[Recipe]) -> dict[str, Any]:
    return {"name": kind.name, "regime": kind.regime, "uses_unlabeled": kind.uses_unlabeled}
