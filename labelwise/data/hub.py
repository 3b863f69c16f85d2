"""Rows of a `datasets.Dataset`: encoded images, read from its Arrow table when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelwise.data.decode import Decoded, read_bytes, set_aside
from labelwise.data.source import first_few
from labelwise.data.target import choose_target
from labelwise.errors import DataError


class HubRows:
    """The image column of a Dataset, undecoded, and one of its label columns."""

    warnings: tuple[str, ...] = ()

    def __init__(self, dataset: Any, target: str | None) -> None:
        import datasets

        dataset = dataset.with_format(None)  # what the user's format makes of a row is not raw
        self.name = str(dataset.info.dataset_name or "datasets.Dataset")
        column = _image_column(dataset.features)
        self.target = choose_target(_label_columns(dataset.features, target), target, self.name)
        feature = dataset.features.get(self.target)
        self.class_names = (
            tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None
        )
        self._labels = dataset.select_columns([self.target]) if self.target else None
        images = dataset.select_columns([column])
        self._column, self._images = (
            column,
            images.cast_column(column, datasets.Image(decode=False)),
        )

    def __len__(self) -> int:
        return len(self._images)

    def labels(self) -> Sequence[int | str | None]:
        """A class number or name per image; None where there is no label."""
        if self._labels is None:
            return [None] * len(self)
        values: list[Any] = self._labels.with_format("arrow")[:][self.target].to_pylist()
        return [int(value) if isinstance(value, bool) else value for value in values]

    def encoded(self, row: int) -> bytes | Decoded:
        """The bytes of an image, or of the file that the row names."""
        value = self._images[row][self._column] or {}
        if value.get("bytes") is None and value.get("path"):
            return read_bytes(Path(value["path"]))
        return value.get("bytes") or set_aside("empty: the row holds no image")


def _image_column(features: Any) -> str:
    import datasets

    columns = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        kinds = first_few([f"{name}: {type(kind).__name__}" for name, kind in features.items()])
        raise DataError(
            f"the Dataset has no column of images; its columns are {kinds or 'none'}. Expected one "
            "with the feature Image: dataset.cast_column(name, datasets.Image())."
        )
    return str(columns[0])


def _label_columns(features: Any, target: str | None) -> list[str]:
    """Columns of classes; where there are none, or another is asked for, numbers and texts too."""
    import datasets

    classes = [str(n) for n, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    values = [n for n, kind in features.items() if isinstance(kind, datasets.Value)]
    plain = [str(n) for n in values if features[n].dtype.startswith(("int", "uint", "bool", "str"))]
    return classes if classes and target not in plain else classes + plain
