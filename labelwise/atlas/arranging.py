"""Arranging: coordinates of embedded images, fitted anew, kept, or placed on another map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd

from labelwise.atlas import layouts
from labelwise.atlas.embedded import Embedded
from labelwise.atlas.projection import Projection, plane
from labelwise.atlas.stored import Stored, coordinate_columns
from labelwise.data.dataset import Dataset
from labelwise.embedding import label_names
from labelwise.errors import OptionError

#: principal components, float32 (N, C) -> coordinates, float32 (N, 2)
Fit = Callable[[np.ndarray], np.ndarray]


def fingerprint(found: Embedded, contents: list[str]) -> str:
    """Equal for maps of the same images by the same model."""
    return hashlib.sha256("\n".join([found.model, *contents]).encode()).hexdigest()


def arranged(
    dataset: Dataset,
    rows: np.ndarray,
    found: Embedded,
    kept: Stored | None,
    begin: Callable[[str], object],
) -> Stored:
    """The map of some rows of a data set.

    Args:
        found: these rows as the model sees them.
        kept: a map that was drawn before; if it is of the same images, its coordinates are taken.
        begin: told what is done next.
    """
    drawn = fingerprint(found, dataset.images(rows).contents)
    if kept is not None and kept.drawn == drawn and not kept.onto:
        projection, fitted = kept.projection, kept.table["fitted"].to_numpy(bool)
        points, coordinates = projection(found.vectors), kept.layouts
    else:
        begin("PCA")
        projection = Projection.of(found.vectors)
        fitted = layouts.sample(dataset.labels[rows])
        points = projection(found.vectors)
        coordinates = {"pca": plane(points)}
    for name, title, fit in _nonlinear():
        if name not in coordinates and enough(points[fitted]):
            begin(f"{title} of {int(fitted.sum()):,} images")
            coordinates[name] = _between(points, fitted, fit(points[fitted]))
    table = _facts(dataset, rows, found).assign(fitted=fitted, **coordinate_columns(coordinates))
    return Stored(table, points[fitted], projection, found.model, drawn)


def placed(
    dataset: Dataset, rows: np.ndarray, found: Embedded, base: Stored, option: str
) -> Stored:
    """Some rows of a data set on the map of other images.

    Args:
        option: that named the map, for the message.

    Raises:
        OptionError: the map was made by another model.
    """
    theirs, ours = len(base.projection.center), found.vectors.shape[1]
    if base.model != found.model or theirs != ours:
        widths = f" ({theirs} numbers an image, here {ours})" if theirs != ours else ""
        raise OptionError(
            f"{option}: its images were embedded by another model, or at another size{widths}. "
            "Give the model of that map, or draw a map of its own without --onto."
        )
    points = base.projection(found.vectors)
    anchors = base.table["fitted"].to_numpy(bool)
    coordinates = {
        name: plane(points)
        if name == "pca"
        else layouts.placed(points, base.components, all_[anchors])
        for name, all_ in base.layouts.items()
    }
    table = _facts(dataset, rows, found).assign(fitted=False, **coordinate_columns(coordinates))
    drawn = fingerprint(found, [base.drawn, *dataset.images(rows).contents])
    none = points[:0]
    return Stored(table, none, base.projection, found.model, drawn, onto=True)


def enough(points: np.ndarray) -> bool:
    """Whether there are different images enough to lay out."""
    return len(np.unique(points, axis=0)) >= layouts.FEWEST


def _nonlinear() -> list[tuple[str, str, Fit]]:
    """Key, name and function of the layouts that are fitted."""
    found: list[tuple[str, str, Fit]] = [("tsne", "t-SNE", layouts.tsne)]
    if layouts.has_umap():
        found.append(("umap", "UMAP", layouts.umap))
    return found


def _between(points: np.ndarray, fitted: np.ndarray, layout: np.ndarray) -> np.ndarray:
    """Coordinates of all images from those of the fitted ones."""
    coordinates = np.empty((len(points), 2), np.float32)
    coordinates[fitted] = layout
    coordinates[~fitted] = layouts.placed(points[~fitted], points[fitted], layout)
    return coordinates


def _facts(dataset: Dataset, rows: np.ndarray, found: Embedded) -> pd.DataFrame:
    """The table of a map but for its coordinates."""
    table = dataset.table.iloc[rows]
    predicted: list[str | None] = [None] * len(rows)
    if found.predicted is not None:
        predicted = [found.class_names[number] for number in found.predicted]
    unknown = np.full(len(rows), np.nan, np.float32)
    return pd.DataFrame(
        {
            "id": rows,
            "path": table["path"].array,
            "content": table["content"].array,
            "label": label_names(dataset, rows),
            "split": table["split"].array,
            "predicted": pd.array(predicted, dtype="string"),
            "confidence": unknown if found.confidence is None else found.confidence,
        }
    )
