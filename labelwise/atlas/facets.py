"""Facets: what the points of a map can be colored by, each a division into named parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labelwise.plain import plain

NO_LABEL, NO_SPLIT = "no label", "not in a part"
SPLITS = ("train", "val", "test")
# Limits of confidence: what is below the first can only be one of many classes.
LIMITS = (0.5, 0.7, 0.9, 0.99)
CONFIDENCES = ("below 50 %", "50 to 70 %", "70 to 90 %", "90 to 99 %", "99 % and more")
RIGHT, WRONG, UNKNOWN = range(3)
OUTCOMES = ("right", "wrong", "cannot tell")


@dataclass(frozen=True)
class Facet:
    """A division of the points.

    Attributes:
        key, title: what it is called in the page, and on it.
        names: of the parts.
        parts: of every point; int64 (N,).
        colors: the set of colors: classes, splits, confidence or outcome.
        rest: number of the part that stands for nothing known, or None; it is gray.
    """

    key: str
    title: str
    names: tuple[str, ...]
    parts: np.ndarray
    colors: str
    rest: int | None = None

    def embedded(self, packed: Any) -> dict[str, Any]:
        """What the page gets; `packed` makes text of an array."""
        about = {name: getattr(self, name) for name in ("key", "title", "colors", "rest")}
        return {**about, "names": list(self.names), "parts": packed(self.parts)}


def facets(table: pd.DataFrame, class_names: Sequence[str]) -> list[Facet]:
    """By label, prediction, mistake, confidence and split, as far as they are known.

    Args:
        table: of a map, as in `Stored`.
        class_names: in the order of their colors; every label and prediction is one of them.
    """
    place = {name: number for number, name in enumerate(class_names)}
    shown = tuple(map(plain, class_names))
    labels = _numbers(table["label"], place)
    found = [
        Facet("label", "Label", (*shown, NO_LABEL), labels, "classes", len(shown)),
    ]
    if table["predicted"].notna().any():
        predicted = _numbers(table["predicted"], place)
        answered = (*shown, "no prediction")
        found.append(Facet("predicted", "Prediction", answered, predicted, "classes", len(shown)))
        if table["label"].notna().any():
            outcome = np.where(labels == predicted, RIGHT, WRONG)
            outcome[labels == len(shown)] = UNKNOWN
            found.append(Facet("outcome", "Mistake", OUTCOMES, outcome, "outcome", UNKNOWN))
        sure = np.searchsorted(LIMITS, table["confidence"].to_numpy(np.float64), side="right")
        found.append(Facet("confidence", "Confidence", CONFIDENCES, sure, "confidence"))
    if table["split"].notna().any():
        parts = _numbers(table["split"], {name: number for number, name in enumerate(SPLITS)})
        found.append(Facet("split", "Split", (*SPLITS, NO_SPLIT), parts, "splits", len(SPLITS)))
    return found


def _numbers(names: pd.Series, place: dict[str, int]) -> np.ndarray:
    """Numbers of names, the next one for null; int64 (N,)."""
    return np.array([len(place) if pd.isna(name) else place[name] for name in names], np.int64)
