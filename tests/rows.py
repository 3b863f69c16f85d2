"""Makes data sets that are a table only, or a table and arrays, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labelwise.data.dataset import COLUMNS, Dataset


@dataclass(frozen=True)
class Arrays:
    """Pixels in memory."""

    images: Sequence[np.ndarray]

    def read(self, row: int, at_least: object = None) -> np.ndarray:
        return self.images[row]


def dataset_of(
    labels: Sequence[int],
    groups: Sequence[str | None] | None = None,
    splits: Sequence[str | None] | None = None,
    images: Sequence[np.ndarray] | None = None,
) -> Dataset:
    """A data set with these labels (-1: none); classes are named a, b, c, ..."""
    count = len(labels)
    if images is None:
        images = [np.full((8, 8), row % 256, np.uint8) for row in range(count)]
    values = {
        "id": range(count),
        "content": [
            hashlib.sha256(f"{i.shape}".encode() + i.tobytes()).hexdigest() for i in images
        ],
        "path": [f"{row}.png" for row in range(count)],
        "label": [None if label < 0 else label for label in labels],
        "split": splits or [None] * count,
        "group": groups or [None] * count,
        "width": [image.shape[1] for image in images],
        "height": [image.shape[0] for image in images],
        "mode": ["L" if image.ndim == 2 else "RGB" for image in images],
        "decision": ["used"] * count,
        "reason": [None] * count,
    }
    table = pd.DataFrame(
        {name: pd.array(values[name], dtype=kind) for name, kind in COLUMNS.items()}
    )
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: max([1, *labels]) + 1])
    return Dataset(table, names, Arrays(images), "test data")
