"""Rows of a data set of `torchvision`, or of a Subset of one: pictures and class numbers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from labelwise.data.convert import convert
from labelwise.data.dataset import CONVERTED, USED
from labelwise.data.decode import Decoded, set_aside
from labelwise.data.target import refuse_target
from labelwise.errors import DataError


class VisionRows:
    """A data set's own pictures: its `transform` is left out, so that the pixels are raw."""

    target: str | None = None
    warnings: tuple[str, ...] = ()

    def __init__(self, dataset: Any, target: str | None) -> None:
        base, index = _unwrapped(dataset)
        self.name = type(base).__name__
        refuse_target(target, f"the {self.name}", only=None)
        if getattr(base, "target_transform", None) is not None:
            raise DataError(
                f"the {self.name} has a target_transform, so its labels are not those of its "
                "classes. Make it without one; to learn other classes, give a manifest."
            )
        if getattr(base, "transforms", None) or getattr(base, "transform", None):
            said = f"the transform of the {self.name} is left out: recipes prepare raw pixels"
            self.warnings = (said,)
        self._base = copy.copy(base)
        self._base.transform = self._base.transforms = None
        self._index = np.arange(len(base)) if index is None else index
        names = getattr(base, "classes", None)
        self.class_names = tuple(map(str, names)) if names else None

    def __len__(self) -> int:
        return len(self._index)

    def labels(self) -> Sequence[int | str | None]:
        """A class number per image."""
        known = getattr(self._base, "targets", None)
        if known is None:
            known = getattr(self._base, "labels", None)
        if known is None or len(known) != len(self._base):
            return [self._number(self._base[int(row)][1]) for row in self._index]
        return [self._number(known[int(row)]) for row in self._index]

    def encoded(self, row: int) -> Decoded:
        """The picture of a row; one that the data set cannot give is set aside."""
        try:
            return decided(self._base[int(self._index[row])][0])
        except Exception as error:  # whatever the data set's own loader raises
            return set_aside(f"unreadable: {' '.join(str(error).split()) or type(error).__name__}")

    def _number(self, label: Any) -> int:
        try:
            return int(label)
        except (TypeError, ValueError):
            raise DataError(
                f"the {self.name} has the label {str(label)[:50]!r}. Expected a class number for "
                "every image: a data set for classification."
            ) from None


def decided(picture: Any) -> Decoded:
    """A PIL image, or a uint8 array (H, W), (H, W, 1 or 3), (1 or 3, H, W), and the decision."""
    if not isinstance(picture, Image.Image):
        values = np.asarray(picture)
        if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
            values = values.transpose(1, 2, 0)
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[..., 0]
        if values.dtype != np.uint8 or values.shape[2:] not in ((), (3,)) or values.ndim < 2:
            return set_aside(f"not an image: {values.dtype} values of the shape {values.shape}")
        picture = Image.fromarray(np.ascontiguousarray(values))
    pixels, notes = convert(picture, bits=8)
    height, width = pixels.shape[:2]
    decision = CONVERTED if notes else USED
    mode = "L" if pixels.ndim == 2 else "RGB"
    return Decoded(pixels, decision, "; ".join(notes) or None, width, height, mode)


def _unwrapped(dataset: Any) -> tuple[Any, np.ndarray | None]:
    """The data set inside of Subsets, and the rows of it that are meant; None for all."""
    index = None
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        outer = np.asarray(dataset.indices, dtype=np.int64).reshape(-1)
        index = outer if index is None else outer[index]
        dataset = dataset.dataset
    return dataset, index
