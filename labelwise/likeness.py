"""similar: which images of a data set are most like some others, by a model's embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from labelwise.data.dataset import SET_ASIDE, Dataset
from labelwise.data.load import Loadable, load
from labelwise.data.memory import nameless_dataset
from labelwise.data.source import Advance
from labelwise.embedding import embedder, label_names
from labelwise.errors import DataError, OptionError
from labelwise.model import Model
from labelwise.neighborhood import most_alike


def similar(
    model: Model | str | Path,
    queries: Iterable[str | Path] | str | Path,
    data: Loadable,
    *,
    count: int = 10,
    target: str | None = None,
    progress: Advance | None = None,
) -> pd.DataFrame:
    """The images of a data set that are most similar to each query, exactly.

    All are compared, a part at a time, so that memory does not grow with their number; by faiss
    where that is installed (`labelwise[search]`) and there is much to compare. An image with the
    very pixels of the query is left out.

    Args:
        model: a Model, the folder of one or of a run, or the name of a backbone.
        queries: image files.
        data: what `load` takes; labels are not needed.
        count: images for each query.

    Returns:
        Rows with query (its path), rank (from 1), id (row of the Dataset), path, label (class name
        or null) and similarity (cosine of the embeddings, -1 to 1, float32); best first.

    Raises:
        BackboneError, BundleError: there is no such model.
        DataError: the data, or a query, cannot be used.
        OptionError: count is not positive.
    """
    if count < 1:
        raise OptionError(f"count={count}: expected at least 1.")
    files = [queries] if isinstance(queries, str | Path) else list(queries)
    asked = _asked([str(file) for file in files])
    dataset = load(data, target=target, progress=progress)
    vectors = embedder(model, dataset, len(dataset.usable), progress)

    found, near = most_alike(asked.images(asked.usable), dataset, dataset.usable, vectors, count)
    query, place = np.nonzero(np.isfinite(near))
    chosen = found[query, place]
    return pd.DataFrame(
        {
            "query": asked.table["path"].to_numpy()[query],
            "rank": place + 1,
            "id": chosen,
            "path": dataset.table["path"].to_numpy()[chosen],
            "label": label_names(dataset, chosen),
            "similarity": near[query, place],
        }
    )


def _asked(files: list[str]) -> Dataset:
    """The queries as a Dataset, every one of which can be used."""
    if not files:
        raise DataError("There is no query. Give the file of an image.")
    asked = nameless_dataset(files)
    aside = asked.table[asked.table["decision"] == SET_ASIDE]
    if len(aside):
        raise DataError(f"{aside['path'].iloc[0]!r} cannot be used: {aside['reason'].iloc[0]}.")
    return asked
