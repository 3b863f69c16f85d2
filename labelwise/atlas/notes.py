"""Notes: what to know about a map, as sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelwise.atlas import layouts
from labelwise.atlas.arranging import enough
from labelwise.atlas.embedded import Embedded
from labelwise.atlas.projection import plane
from labelwise.atlas.stored import Stored
from labelwise.data.dataset import Dataset
from labelwise.plain import plain
from labelwise.report.text import count, counted, percent


def notes_of(
    dataset: Dataset,
    rows: np.ndarray,
    every: int,
    split: str | None,
    found: Embedded,
    stored: Stored,
    base: Stored | None,
) -> list[str]:
    """How many images, which layouts and how they were made, and what is missing.

    Args:
        every: number of images that these rows are of.
        split: the part of the data that these are, or None for all.
        found, stored: of these rows.
        base: the map that they were placed on, or None.
    """
    part = "" if split is None else f" in the part '{plain(split)}'"
    said = [f"{counted(len(rows), 'image')}{part} of {plain(Path(dataset.name).name)}."]
    if len(rows) < every:
        said[0] = f"A sample of {count(len(rows))} of the {count(every)} images{part}."
    if aside := len(dataset.table) - len(dataset.usable):
        said.append(f"{counted(aside, 'file')} could not be used and {_are(aside)} not on the map.")
    said += [_variance(found, stored), *_fitted(stored)] if base is None else _placed(base)
    if base is None and "umap" not in stored.layouts and not layouts.has_umap():
        said.append("UMAP needs umap-learn: pip install 'labelwise[map]'")
    if found.warning is not None:
        said.append(plain(found.warning))
    return said


def _variance(found: Embedded, stored: Stored) -> str:
    total = float(found.vectors.var(0, dtype=np.float64).sum())
    flat = plane(stored.projection(found.vectors))
    share = float(flat.var(0, dtype=np.float64).sum()) / total if total else 0.0
    return (
        f"PCA shows {percent(share)} % of the variance of the {count(found.vectors.shape[1])} "
        "numbers that stand for an image."
    )


def _fitted(stored: Stored) -> list[str]:
    names = _names(stored)
    if not names:
        few = not enough(stored.components)
        return [f"t-SNE and UMAP need {layouts.FEWEST} different images."] if few else []
    fitted, total = len(stored.components), len(stored.table)
    on = f"{names} of the first {stored.components.shape[1]} principal components"
    if fitted == total:
        return [f"{on}."]
    return [
        f"{on}, fitted on {count(fitted)} images, a share of every class; every other image lies "
        f"among the {layouts.AMONG} most similar of them, at the weighted mean of those that lie "
        "together."
    ]


def _placed(base: Stored) -> list[str]:
    said = [
        f"Placed on a map of {counted(len(base.table), 'image')} (gray), which stayed as it was: "
        "in PCA by projection"
    ]
    if names := _names(base):
        said[0] += f", in {names} among the {layouts.AMONG} most similar fitted images"
    return [f"{said[0]}."]


def _names(stored: Stored) -> str:
    """The layouts beside PCA, as a list in words."""
    titles = {"tsne": "t-SNE", "umap": "UMAP"}
    return " and ".join(title for name, title in titles.items() if name in stored.layouts)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
