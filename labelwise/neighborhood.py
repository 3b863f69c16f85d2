"""Neighborhood: which rows of a data set are most like some images, exactly, a part at a time."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from labelwise.data.dataset import Dataset, Images
from labelwise.features import AT_ONCE
from labelwise.nn.graph import nearest

MUCH = 2**22  # products of a part with all queries, from which faiss is worth its import

#: Embeddings of some images, float32 (N, D), and how many were embedded before them.
Vectors = Callable[[Images, int], np.ndarray]


class Alike(NamedTuple):
    """The most similar rows of every query, best first.

    Attributes:
        rows: of the data set, int64 (Q, at most count).
        cosines: of their embeddings with the query's, float32; -inf where there is no further row.
    """

    rows: np.ndarray
    cosines: np.ndarray


def most_alike(
    queries: Images, dataset: Dataset, rows: np.ndarray, vectors: Vectors, count: int
) -> Alike:
    """The rows that are most similar to each query, which itself and its copies are not.

    Memory does not grow with the number of rows. By faiss where that is installed
    (`labelwise[search]`) and there is much to compare.

    Args:
        rows: of the data set that are looked through, int64 (N,).
        vectors: told 0 images before the queries, and those of `rows` from there on.
    """

    def directions(images: Images, before: int) -> torch.Tensor:
        return normalize(torch.from_numpy(vectors(images, before)), dim=1)

    points = directions(queries, 0)
    own, contents = np.array(queries.contents, dtype=object), dataset.contents
    cosines = np.zeros((len(points), 0), np.float32)
    found = np.zeros((len(points), 0), np.int64)
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        copies = own[:, None] == contents[some]
        most = min(count + int(copies.sum(1).max(initial=0)), len(some))
        near, places = _largest(points, directions(dataset.images(some), start), most)
        near[np.take_along_axis(copies, places, 1)] = -np.inf
        cosines = np.concatenate([cosines, near], axis=1)
        found = np.concatenate([found, some[places]], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        cosines, found = np.take_along_axis(cosines, best, 1), np.take_along_axis(found, best, 1)
    return Alike(found, cosines)


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
