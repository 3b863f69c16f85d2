"""Stored: the table beside a map's page, from which the same map is drawn again or added to."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from labelwise import __version__
from labelwise.atlas.projection import Projection
from labelwise.errors import OptionError
from labelwise.files import intact, write_file

FORMAT = 1
KEY = b"labelwise map"  # of the entry among the metadata of the Parquet file
LAYOUTS = ("pca", "tsne", "umap")


@dataclass(frozen=True)
class Stored:
    """A map: where the images lie, and what places others among them.

    Attributes:
        table: a row per image: id, path, content, label, split, predicted, confidence, fitted
            (whether the layouts were fitted on it), and x and y of every layout, as in pca_x.
        components: principal components of the fitted images, in their order; float32 (F, C).
        projection: from embeddings to components.
        model: hash of what made the embeddings.
        drawn: hash of model and images: equal for equal maps.
        onto: whether the images were placed on another map; none can be placed on this one.
    """

    table: pd.DataFrame
    components: np.ndarray
    projection: Projection
    model: str
    drawn: str
    onto: bool = False

    @property
    def layouts(self) -> dict[str, np.ndarray]:
        """Coordinates by layout, float32 (N, 2); those that there are."""
        return {
            name: self.table[[f"{name}_x", f"{name}_y"]].to_numpy(np.float32)
            for name in LAYOUTS
            if f"{name}_x" in self.table
        }


def coordinate_columns(layouts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of the table from coordinates, float32 (N, 2)."""
    return {
        f"{name}_{axis}": found[:, place]
        for name, found in layouts.items()
        for place, axis in enumerate("xy")
    }


def write_stored(file: Path, stored: Stored) -> None:
    """Publish the table of a map as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    components: list[np.ndarray | None] = [None] * len(stored.table)
    for row, values in zip(np.flatnonzero(stored.table["fitted"]), stored.components, strict=True):
        components[row] = values
    table = pa.Table.from_pandas(stored.table, preserve_index=False)
    table = table.append_column("components", pa.array(components, pa.list_(pa.float32())))
    facts = {
        "format": FORMAT,
        "labelwise": __version__,
        "model": stored.model,
        "drawn": stored.drawn,
        "onto": stored.onto,
        "shape": list(stored.projection.axes.shape),
        "center": _text(stored.projection.center),
        "axes": _text(stored.projection.axes),
    }
    known = {**(table.schema.metadata or {}), KEY: json.dumps(facts).encode()}
    write_file(file, lambda stream: pq.write_table(table.replace_schema_metadata(known), stream))


def read_stored(file: Path, option: str, advice: str) -> Stored:
    """The map of a Parquet file.

    Args:
        option: that named the file, for the message.
        advice: what to do if it is damaged.

    Raises:
        DataError: the file is damaged.
        OptionError: it is not the table of a map.
    """
    import pyarrow.parquet as pq

    with intact(file, advice):
        read = pq.read_table(file)
        said = (read.schema.metadata or {}).get(KEY)
    if said is None:
        raise OptionError(f"{option}: {file} is a table, but not of a map. Give another name.")
    with intact(file, advice):
        facts = json.loads(said)
        if facts["format"] != FORMAT:
            raise ValueError(f"its format is {facts['format']!r}, expected {FORMAT}")
        count, width = map(int, facts["shape"])
        axes = _numbers(facts["axes"]).reshape(count, width)
        table = read.drop_columns(["components"]).to_pandas()
        rows = [row for row in read["components"].to_pylist() if row is not None]
        components = np.array(rows, np.float32).reshape(len(rows), count)
        projection = Projection(_numbers(facts["center"]).reshape(width), axes)
        stored = Stored(
            table, components, projection, facts["model"], facts["drawn"], bool(facts["onto"])
        )
        finite = all(np.isfinite(found).all() for found in stored.layouts.values())
        if not finite or int(table["fitted"].sum()) != len(components):
            raise ValueError("its coordinates are not those of a map")
    return stored


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
