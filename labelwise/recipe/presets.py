"""Presets: named sets of values for the fields of a recipe that were left open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labelwise.errors import OptionError
from labelwise.recipe.base import Recipe


def fill(
    recipe: Recipe, preset: str, presets: Mapping[str, Mapping[str, Any]], plain: Mapping[str, Any]
) -> None:
    """Give a recipe that is being made its preset's values, so that it shows all its values.

    Args:
        plain: what a preset does not say.

    Raises:
        OptionError: there is no such preset.
    """
    if preset not in presets:
        raise OptionError(
            f"{recipe.name}(preset={preset}): there is no such preset. "
            f"Choose from {', '.join(presets)}."
        )
    for name, value in {**plain, **presets[preset]}.items():
        if getattr(recipe, name) is None:
            object.__setattr__(recipe, name, value)
