"""Maps of fits: heat for the same few images from several fits, to see whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from labelwise.attribution.attribute import affordable, attribute
from labelwise.attribution.checks import cells, likeness
from labelwise.data.dataset import Dataset
from labelwise.features import stored_pixels
from labelwise.files import write_parquet
from labelwise.model import Model

FILE = "maps.parquet"
IMAGES = 16
FOLDS = (0, 1)  # of the first repeat, that keep theirs


def keep_maps(model: Model, dataset: Dataset, rows: np.ndarray, folder: Path) -> None:
    """Write maps.parquet: id, label and heat (cells of a grid, row by row) of IMAGES images.

    The heat is for the given label, so that fits which answer differently can be compared.

    Args:
        rows: labeled ones to take them from; nearly the same rows give nearly the same images.
    """
    if model.network.head is None or not len(rows):
        return
    order = np.random.default_rng(0).permutation(len(dataset.table))
    chosen = rows[np.argsort(order[rows])][: affordable(model, IMAGES)]
    write_parquet(folder / FILE, _maps(model, dataset, chosen))


def agreement(model: Model, dataset: Dataset, kept: Sequence[pd.DataFrame]) -> float | None:
    """Mean likeness of the maps of a model to those that other fits have kept; None without any."""
    found = []
    for table in kept:
        own = _maps(model, dataset, table["id"].to_numpy())
        found += likeness(_grids(own), _grids(table)).tolist()
    return float(np.mean(found)) if found else None


def _maps(model: Model, dataset: Dataset, rows: np.ndarray) -> pd.DataFrame:
    pixels = stored_pixels(dataset.images(rows), model.preprocessing)
    labels = dataset.labels[rows]
    heat = cells(attribute(model, pixels, labels).heat).reshape(len(rows), -1)
    return pd.DataFrame({"id": rows, "label": labels, "heat": list(heat)})


def _grids(table: pd.DataFrame) -> np.ndarray:
    flat = np.stack(table["heat"].to_list())
    side = round(flat.shape[1] ** 0.5)
    return flat.reshape(len(flat), side, side).astype(np.float32)
