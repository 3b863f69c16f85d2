"""similar: which images of a data set are most like some others, by a model's embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from labelwise.data.dataset import SET_ASIDE, Dataset, Images
from labelwise.data.load import Loadable, load
from labelwise.data.memory import nameless_dataset
from labelwise.embedding import AT_ONCE, Advance, embedder, label_names
from labelwise.errors import DataError, OptionError
from labelwise.model import Model
from labelwise.nn.graph import nearest

MUCH = 2**22  # products of a part with all queries, from which faiss is worth its import


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
    vectors = embedder(model, dataset, progress)

    def directions(images: Images, before: int) -> torch.Tensor:
        return normalize(torch.from_numpy(vectors(images, before)), dim=1)

    points = directions(asked.images(asked.usable), 0)
    own, contents = asked.contents[asked.usable], dataset.contents
    found = np.zeros((len(points), 0), np.float32)
    rows = np.zeros((len(points), 0), np.int64)
    for start in range(0, len(dataset.usable), AT_ONCE):
        some = dataset.usable[start : start + AT_ONCE]
        copies = own[:, None] == contents[some]
        most = min(count + int(copies.sum(1).max()), len(some))
        near, places = _largest(points, directions(dataset.images(some), start), most)
        near[np.take_along_axis(copies, places, 1)] = -np.inf
        found = np.concatenate([found, near], axis=1)
        rows = np.concatenate([rows, some[places]], axis=1)
        best = np.argsort(-found, axis=1, kind="stable")[:, :count]
        found, rows = np.take_along_axis(found, best, 1), np.take_along_axis(rows, best, 1)
    query, place = np.nonzero(np.isfinite(found))
    chosen = rows[query, place]
    return pd.DataFrame(
        {
            "query": asked.table["path"].to_numpy()[query],
            "rank": place + 1,
            "id": chosen,
            "path": dataset.table["path"].to_numpy()[chosen],
            "label": label_names(dataset, chosen),
            "similarity": found[query, place],
        }
    )


def _largest(
    queries: torch.Tensor, points: torch.Tensor, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The largest products of each query (Q, D) with points (N, D), and whose they are.

    Returns:
        float32 (Q, most) and int64 (Q, most).
    """
    if len(queries) * len(points) >= MUCH and find_spec("faiss") is not None:
        import faiss

        metric = faiss.METRIC_INNER_PRODUCT
        values, places = faiss.knn(queries.numpy(), points.numpy(), most, metric=metric)
        return values, places
    index, products = nearest(queries, points, most)
    return products.numpy(), index.numpy()


def _asked(files: list[str]) -> Dataset:
    """The queries as a Dataset, every one of which can be used."""
    if not files:
        raise DataError("There is no query. Give the file of an image.")
    asked = nameless_dataset(files)
    aside = asked.table[asked.table["decision"] == SET_ASIDE]
    if len(aside):
        raise DataError(f"{aside['path'].iloc[0]!r} cannot be used: {aside['reason'].iloc[0]}.")
    return asked
