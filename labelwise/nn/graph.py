"""Label propagation on the graph of nearest neighbors (Zhou et al. 2004; Iscen et al. 2019,
arXiv:1904.04717, section 4.2).

Images are nodes, joined to those nearest by angle with the weight max(cosine, 0) ** SHARPNESS. With
the symmetric normalized weights S, the labels of some nodes, one-hot Y, spread to the solution F of

    (I - ALPHA S) F = Y,

which conjugate gradients find without the inverse, for all classes and all sets of labels at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

NEIGHBORS = 20
SHARPNESS = 3.0  # what cosines are raised to
ALPHA = 0.9  # how far labels spread: share of a node that comes from its neighbors
BLOCK = 2**22  # cosines in memory at once: 16 MB, which stay in a processor's cache
GROUP = 64  # cosines whose largest is looked at first
STEPS, TOLERANCE = 200, 1e-5  # of conjugate gradients; the residual's length over that of Y


def spread_out(embeddings: torch.Tensor, dimensions: int = 256) -> torch.Tensor:
    """Points on the unit sphere whose angles a graph is made of; float32 (N, at most `dimensions`).

    Centered, since all embeddings of a network share a large part, and in few dimensions (principal
    components), which keeps the neighbors and saves most of the work.

    Args:
        embeddings: float32 (N, D).
    """
    x = embeddings - embeddings.mean(0)
    if min(x.shape) > dimensions:
        few = len(x) < x.shape[1]  # the same from the smaller matrix, which has full rank
        values, vectors = torch.linalg.eigh((x @ x.T if few else x.T @ x).double())
        values, vectors = values[-dimensions:].float(), vectors[:, -dimensions:].float()
        x = vectors * values.clamp(min=0).sqrt() if few else x @ vectors
    return torch.nn.functional.normalize(x, dim=1)


def neighbors(points: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest other points by angle, exactly, in blocks of bounded memory.

    Args:
        points: float32 (N, D) of length 1.
        count: k, at most N - 1 of which are found.

    Returns:
        Their numbers, int64 (N, k), and cosines, float32 (N, k), best first.
    """
    return nearest(points, points, min(count, len(points) - 1), others=True)


def nearest(
    queries: torch.Tensor, points: torch.Tensor, count: int, *, others: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The points with the largest inner products, exactly, in blocks of bounded memory.

    Args:
        queries: float32 (N, D).
        points: float32 (M, D).
        count: k, at most M of which are found.
        others: the queries are the points, and none is to be found itself.

    Returns:
        Their numbers, int64 (N, k), and products, float32 (N, k), largest first.
    """
    count = min(count, len(points))
    index = torch.empty(len(queries), count, dtype=torch.int64)
    product = torch.empty(len(queries), count)
    width = -(-len(points) // GROUP) * GROUP
    rows = max(16, BLOCK // max(width, 1))
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows]
        found = torch.full((len(some), width), -torch.inf)
        found[:, : len(points)] = some @ points.T
        if others:
            own = torch.arange(len(found))
            found[own, own + start] = -torch.inf
        index[start : start + rows], product[start : start + rows] = _largest(found, count)
    return index, product


def _largest(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places and values of the largest in every row of (N, whole groups), largest first.

    The k largest lie in the k groups with the largest maxima: looking there only is several times
    faster than looking everywhere.
    """
    groups = values.view(len(values), -1, GROUP)
    chosen = groups.amax(2).topk(min(count, groups.shape[1])).indices  # (N, k)
    inside = groups.gather(1, chosen[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    best = inside.topk(count)
    place = chosen.gather(1, best.indices // GROUP) * GROUP + best.indices % GROUP
    return place, best.values


@dataclass(frozen=True)
class Graph:
    """Symmetric normalized weights between N nodes, float32 (N, N), sparse."""

    weights: scipy.sparse.csr_array

    @staticmethod
    def of(points: torch.Tensor, count: int = NEIGHBORS) -> Graph:
        """The graph of some points of length 1, float32 (N, D), each with its nearest ones."""
        index, cosine = neighbors(points, count)
        total, count = index.shape
        values = cosine.clamp(min=0).pow(SHARPNESS).numpy().ravel()
        rows = np.repeat(np.arange(total), count)
        shape = (total, total)
        one_way = scipy.sparse.csr_array((values, (rows, index.numpy().ravel())), shape=shape)
        both = (one_way + one_way.T).tocsr()
        degree = np.asarray(both.sum(axis=1)).ravel()
        scale = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
        scaling = scipy.sparse.diags_array(scale)
        return Graph((scaling @ both @ scaling).tocsr().astype(np.float32))

    def spread(self, sources: np.ndarray) -> np.ndarray:
        """Solve (I - ALPHA S) F = Y for every column of Y by itself.

        Args:
            sources: Y, float32 (N, C).

        Returns:
            F, float32 (N, C), not negative.
        """
        solution = np.zeros_like(sources)
        residual = sources.copy()
        direction = residual.copy()
        squared = (residual**2).sum(0)
        enough = squared * TOLERANCE**2
        for _ in range(STEPS):
            if (squared <= enough).all():
                break
            moved = direction - ALPHA * (self.weights @ direction)
            length = _ratio(squared, (direction * moved).sum(0))
            solution += length * direction
            residual -= length * moved
            before, squared = squared, (residual**2).sum(0)
            direction = residual + _ratio(squared, before) * direction
        return solution.clip(min=0)


def confidence(spread: np.ndarray) -> np.ndarray:
    """How sure rows of scores are: 1 minus their entropy over the largest; float32 (N,), 0 to 1.

    A node that no label has reached has confidence 0.

    Args:
        spread: not negative, float32 (N, K), K at least 2.
    """
    total = spread.sum(1, keepdims=True)
    share = np.divide(spread, total, out=np.full_like(spread, 1 / spread.shape[1]), where=total > 0)
    entropy = -(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(1)
    return (1 - entropy / np.log(spread.shape[1])).clip(0, 1).astype(np.float32)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotients, 0 where the divisor is 0: a column that is solved does not move any more."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
