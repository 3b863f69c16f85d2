"""Retrieval: whether an embedding puts images next to others of their class.

Every image with another one of its class is a query, all others but copies of it are what it is
answered with, from the nearest to the farthest (Musgrave et al. 2020, arXiv:2003.08505, section 3).
With R others of its class, precision at R is the share of them among the R nearest, and MAP@R the
mean over the first R places of the precision there, places with another class counting as 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from labelwise.measure.intervals import Interval, bca

RECALL_AT = (1, 2, 4, 8)
BLOCK = 2**25  # distances, or numbers of points, in memory at once: 128 MB of floats


@dataclass(frozen=True)
class Retrieval:
    """What was found for every query.

    Attributes:
        queries: positions of the images that have another one of their class; int64 (Q,).
        groups: group of every query; int64 (Q,).
        values: by metric, one number from 0 to 1 per query; float64 (Q,).
    """

    queries: np.ndarray
    groups: np.ndarray
    values: Mapping[str, np.ndarray]

    @property
    def means(self) -> dict[str, float]:
        """Every metric over all queries; not a number if there is none."""
        return {n: float(v.mean()) if len(v) else np.nan for n, v in self.values.items()}

    def intervals(
        self, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Interval]:
        """Bootstrap intervals of the means over groups of queries; what they are answered with
        stays as it is.

        Raises:
            DataError: there is no query.
        """
        names, columns = list(self.values), np.stack(list(self.values.values()), axis=1)

        def means(weights: np.ndarray) -> dict[str, np.ndarray]:
            found = weights @ columns / weights.sum(1, keepdims=True)
            return dict(zip(names, found.T, strict=True))

        found: dict[str, Interval] = bca(
            means, self.groups, level=level, resamples=resamples, seed=seed, n=len(self.queries)
        )
        return found


def retrieval(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    recall_at: Sequence[int] = RECALL_AT,
) -> Retrieval:
    """How well some images find each other, by Euclidean distance, exactly.

    Metrics: recall@k (any of the k nearest is of the class), precision@k, r_precision, map@r, and
    prototype_accuracy (the nearest class mean, without the image itself, is its own; Snell et al.
    2017, arXiv:1703.05175). Accuracy of the nearest neighbor is recall@1.

    Args:
        embeddings: float (N, D).
        labels: int64 (N,), 0 or more.
        groups: int64 (N,); images of a group are copies, none of which is an answer to another.
            None: there are no copies.
        recall_at: the k, ascending.
    """
    points = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
    classes = torch.from_numpy(np.array(labels, dtype=np.int64))
    copies = np.arange(len(classes)) if groups is None else np.asarray(groups, dtype=np.int64)
    # Number of every pair of group and class: what a query and its copies take from their class.
    pairs = np.unique(np.stack([copies, classes.numpy()]), axis=1, return_inverse=True)[1]
    same = torch.from_numpy(pairs.reshape(-1))
    others = _sizes(classes) - _sizes(same)
    queries = (others > 0).nonzero()[:, 0]
    alike = torch.from_numpy(copies)
    found = [
        _found(nearest, classes[rows], others[rows], recall_at)
        for rows, nearest in _nearest(points, classes, alike, queries, others, max(recall_at))
    ]
    names = [f"{what}@{k}" for what in ("recall", "precision") for k in recall_at]
    names += ["r_precision", "map@r"]
    table = torch.cat(found).double().numpy() if found else np.zeros((0, len(names)))
    values = dict(zip(names, table.T, strict=True))
    right = _prototypes_right(points, classes, same, queries)
    values |= {"prototype_accuracy": right.double().numpy()}
    return Retrieval(queries.numpy(), copies[queries.numpy()], values)


def _sizes(members: torch.Tensor) -> torch.Tensor:
    """For everything, how many are with it; int64 (N,)."""
    return torch.bincount(members)[members] if len(members) else members


def _nearest(
    points: torch.Tensor,
    classes: torch.Tensor,
    alike: torch.Tensor,
    queries: torch.Tensor,
    others: torch.Tensor,
    least: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Some queries at a time, and the classes of what is nearest to each, int64 (q, k); -1 where
    all that is left are copies.
    """
    total = len(points)
    # Distances in what is centered are rounded least.
    points = points - points.mean(0) if total else points
    squares = points.square().sum(1)
    step = max(1, BLOCK // max(total, 1))
    for rows in torch.split(queries, step) if len(queries) else ():
        far = torch.addmm(squares[None], points[rows], points.T, alpha=-2)
        far[alike[rows][:, None] == alike[None]] = torch.inf
        count = min(max(int(others[rows].max()), least), total - 1)
        distances, places = far.topk(count, dim=1, largest=False)
        yield rows, classes[places].masked_fill(distances.isinf(), -1)


def _found(
    nearest: torch.Tensor, own: torch.Tensor, others: torch.Tensor, recall_at: Sequence[int]
) -> torch.Tensor:
    """float32 (q, metrics) of what is nearest to some queries."""
    right = nearest == own[:, None]
    place = torch.arange(1, right.shape[1] + 1)
    hits = right.cumsum(1)
    ks = [min(k, right.shape[1]) - 1 for k in recall_at]
    inside = right & (place <= others[:, None])
    precision = torch.where(inside, hits / place, 0.0).sum(1) / others
    columns = [
        *(hits[:, k] > 0 for k in ks),
        *(hits[:, k] / given for k, given in zip(ks, recall_at, strict=True)),
        inside.sum(1) / others,
        precision,
    ]
    return torch.stack([column.float() for column in columns], dim=1)


def _prototypes_right(
    points: torch.Tensor, classes: torch.Tensor, same: torch.Tensor, queries: torch.Tensor
) -> torch.Tensor:
    """Whether the nearest class mean is the query's own, which lacks the query and its copies.

    Sums are of doubles, of some points at a time.
    """
    present, number = torch.unique(classes, return_inverse=True)
    counts = torch.bincount(number, minlength=len(present)).double()
    step = max(1, BLOCK // max(points.shape[1], 1))
    sums = torch.zeros(len(present), points.shape[1], dtype=torch.float64)
    for place in torch.split(torch.arange(len(points)), step):
        sums.index_add_(0, number[place], points[place].double())
    found = [torch.zeros(0, dtype=torch.bool)]
    for rows in torch.split(queries, step):
        x, own = points[rows].double(), number[rows]
        taken, of = torch.unique(same[rows], return_inverse=True)
        copies = torch.isin(same, taken).nonzero()[:, 0]
        among = torch.searchsorted(taken, same[copies])
        lost = x.new_zeros(len(taken), x.shape[1])
        lost.index_add_(0, among, points[copies].double())
        left = counts[own] - torch.bincount(among, minlength=len(taken))[of]
        alone = (sums[own] - lost[of]) / left[:, None]
        far = torch.cdist(x, sums / counts[:, None])
        far[torch.arange(len(x)), own] = (x - alone).norm(dim=1)
        found.append(far.argmin(1) == own)
    return torch.cat(found)
