"""Data sets that come with an installed package and are asked for by name: digits, elpv."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from labelwise.data.source import FilePixels, Source, first_few
from labelwise.errors import DataError, MissingExtraError

NAMES = ("digits", "elpv")

_ELPV_COLUMNS = ("defective", "probability", "type")
_PROBABILITIES = {"0": 0.0, "1/3": 1 / 3, "2/3": 2 / 3, "1": 1.0}
_ELPV_CONTEXT = (
    "The images are the solar cells of the ELPV data set (electroluminescence photos of "
    "photovoltaic cells), licensed CC BY-NC-SA 4.0."
)
_ELPV_PUBLISHED = (
    "Deitsch et al. (2019) report 82.44 % (hand-made features and SVM) and 88.42 % (fine-tuned "
    "CNN) accuracy on their own 25 % test split of these cells: context, not the same split."
)


def digits() -> tuple[np.ndarray, list[str | None]]:
    """scikit-learn's 1,797 digits: uint8 (N, 8, 8), scaled from 0..16, and their class names."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    return images, [str(label) for label in found.target]


def read_elpv(target: str | None) -> Source:
    """The 2,624 solar cells of the package elpv-dataset.

    Args:
        target: `defective` (default; a defect probability of 0.5 or more), `probability` or `type`.

    Raises:
        MissingExtraError: the package is not installed.
        DataError: there is no such label column.
    """
    target = target or _ELPV_COLUMNS[0]
    if target not in _ELPV_COLUMNS:
        raise DataError(
            f"'elpv' has no label column {target!r}. "
            f"Its label columns are {first_few(_ELPV_COLUMNS)}."
        )
    folder = _elpv_folder()
    lines = [line.split() for line in (folder / "labels.csv").read_text("utf-8").splitlines()]
    rows = [(path, float(probability), kind) for path, probability, kind in filter(None, lines)]
    return Source(
        name="elpv",
        paths=[path for path, _, _ in rows],
        labels=[_elpv_label(target, probability, kind) for _, probability, kind in rows],
        pixels=FilePixels(tuple(str(folder / path) for path, _, _ in rows)),
        class_names=tuple(_PROBABILITIES) if target == "probability" else None,
        target=target,
        context=(_ELPV_CONTEXT, _ELPV_PUBLISHED) if target == "defective" else (_ELPV_CONTEXT,),
    )


def _elpv_label(target: str, probability: float, kind: str) -> str:
    if target == "type":
        return kind
    if target == "defective":
        return "defective" if probability >= 0.5 else "functional"
    return min(_PROBABILITIES, key=lambda name: abs(_PROBABILITIES[name] - probability))


def _elpv_folder() -> Path:
    spec = find_spec("elpv_dataset")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise MissingExtraError("elpv-dataset", "demo", "The data set 'elpv'")
    return Path(spec.origin).parent / "data"
