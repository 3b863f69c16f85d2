"""Which pairs of thumbnails show the same picture: a proposal that misses none, then proof.

Every thumbnail is brought to 64 x 64 pixels, mean 0 and variance 1. For such pictures a
correlation of at least c is the same as a distance of at most sqrt(2 (1 - c)), and a projection
onto fewer dimensions never makes a distance longer. So the pairs that are close in 32 dimensions
(the principal components of 16 x 16 block means) contain every pair that is close in all 4,096.
They are few; these are compared in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from labelwise.data.scan import THUMB_SIDE, threads

#: Correlation of two aligned pictures from which they may be the same.
CORRELATION = 0.98
#: Greatest difference of a block of 4 x 4 pixels, in standard deviations of the picture.
LOCAL_DIFFERENCE = 0.5
#: From this many images on, what all of them share is taken away before the second comparison.
ENOUGH_FOR_A_MEAN = 100
#: Pictures with less contrast than this (standard deviation, of 255) are only ever equal.
FLAT = 2.0
#: Up to this many images every pair is considered; above, the WINDOW next ones in three orders.
COMPLETE_UP_TO = 200_000
WINDOW = 4096

_BLOCKS = 16  # per side
_SKETCH = 32  # dimensions
_ROWS = 1024  # images brought to 64 x 64 at once
_SWEEP_ROWS, _SWEEP_COLUMNS = 256, 2048  # a block of distances that stays in the cache (2 MB)
_REACH = 2 * (1 - CORRELATION) + 1e-4  # squared distance, with room for float32 rounding


@dataclass(frozen=True)
class Pairs:
    """Confirmed pairs, the lower index first, int64 (P, 2), and their correlation, (P,).

    `complete` is False if not every pair of images was considered.
    """

    index: np.ndarray
    correlation: np.ndarray
    complete: bool


def alike(thumbs: Sequence[np.ndarray]) -> Pairs:
    """The pairs of thumbnails (uint8, up to 64 x 64) that show the same picture.

    A pair is confirmed if the correlation is at least CORRELATION, also after what all images
    share was taken away (solar cells of one make share most of what there is to see), and no
    block of 4 x 4 pixels differs by more than LOCAL_DIFFERENCE (two hand-written ones correlate
    well and differ in one place).
    """
    if not len(thumbs):
        return Pairs(np.empty((0, 2), np.int64), np.empty(0), True)
    with threadpool_limits(1, user_api="blas"):  # the threads here are ours: see _in_threads
        return _alike(thumbs)


def _alike(thumbs: Sequence[np.ndarray]) -> Pairs:
    blocks, contrast, mean = _features(thumbs)
    rows = np.flatnonzero(contrast >= FLAT)
    blocks = blocks[rows]
    limit = 20 * len(rows) + 100_000
    found: list[np.ndarray] = []
    complete = len(rows) <= COMPLETE_UP_TO
    for pairs in _propose(blocks):
        found.append(pairs[_locally_alike(blocks, pairs)])
        if sum(map(len, found)) > limit:  # a film, say: its groups are too large to enforce
            complete = False
            break
    index = np.concatenate([np.empty((0, 2), np.int64), *found])
    index = np.unique(np.sort(rows[index], axis=1), axis=0)
    shared = mean if len(thumbs) >= ENOUGH_FOR_A_MEAN else np.zeros_like(mean)
    correlation = _correlation(thumbs, index, shared)
    sure = correlation >= CORRELATION
    return Pairs(index[sure], correlation[sure], complete)


def normalized(thumbs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails at 64 x 64, mean 0 and variance 1: float32 (N, 4096); and their contrast (N,)."""
    large = np.empty((len(thumbs), THUMB_SIDE, THUMB_SIDE), dtype=np.float32)
    for shape, rows in _by_shape(thumbs).items():
        images = np.stack([thumbs[row] for row in rows]).astype(np.float32)
        down, across = _stretch(shape[0]), _stretch(shape[1])
        large[rows] = np.matmul(down, images @ across.T)
    flat = large.reshape(len(thumbs), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    contrast = np.sqrt(np.einsum("np,np->n", flat, flat) / flat.shape[1])
    flat /= np.maximum(contrast, 1e-6)[:, None]
    return flat, contrast


def _by_shape(thumbs: Sequence[np.ndarray]) -> dict[tuple[int, int], list[int]]:
    rows: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, thumb in enumerate(thumbs):
        rows[thumb.shape[0], thumb.shape[1]].append(row)
    return rows


def _stretch(length: int) -> np.ndarray:
    """Linear interpolation from `length` samples to 64: float32 (64, length)."""
    places = (np.arange(THUMB_SIDE) + 0.5) * length / THUMB_SIDE - 0.5
    places = np.clip(places, 0, length - 1)
    left = np.floor(places).astype(int)
    right = np.minimum(left + 1, length - 1)
    weights = np.zeros((THUMB_SIDE, length), dtype=np.float32)
    np.add.at(weights, (np.arange(THUMB_SIDE), left), 1 - (places - left))
    np.add.at(weights, (np.arange(THUMB_SIDE), right), places - left)
    return weights


def _features(thumbs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Block means (N, 256), contrasts (N,) and the mean normalized picture (4096,)."""
    blocks = np.empty((len(thumbs), _BLOCKS**2), dtype=np.float32)
    contrasts = np.empty(len(thumbs), dtype=np.float32)
    total = np.zeros(THUMB_SIDE**2)
    step = THUMB_SIDE // _BLOCKS

    def fill(start: int) -> np.ndarray:
        here = slice(start, start + _ROWS)
        pictures, contrasts[here] = normalized(thumbs[here])
        tiles = pictures.reshape(-1, _BLOCKS, step, _BLOCKS, step)
        blocks[here] = tiles.mean(axis=(2, 4)).reshape(len(pictures), -1)
        sums: np.ndarray = pictures.sum(axis=0)
        return sums

    for sums in _in_threads(fill, range(0, len(thumbs), _ROWS)):
        total += sums
    return blocks, contrasts, total / len(thumbs)


def _propose(blocks: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of rows, int64 (P, 2), that are close in the space of the sketch."""
    if len(blocks) < 2:
        return
    scaled = (blocks - blocks.mean(axis=0)) / _BLOCKS  # distances as those of unit vectors
    _, directions = np.linalg.eigh(scaled.T @ scaled)
    sketch = scaled @ directions[:, ::-1][:, :_SKETCH]
    complete = len(blocks) <= COMPLETE_UP_TO
    for component in range(1 if complete else 3):
        order = np.argsort(sketch[:, component], kind="stable")
        yield from _sweep(sketch[order], component, order, len(blocks) if complete else WINDOW)


def _sweep(
    sketch: np.ndarray, component: int, order: np.ndarray, window: int
) -> Iterator[np.ndarray]:
    """Close pairs in one order: what is too far along one component alone is not looked at.

    With two more columns the product of two rows is minus half their squared distance, so that
    one multiplication and one comparison answer for every pair of a block.
    """
    along, half = sketch[:, component], np.einsum("nd,nd->n", sketch, sketch)[:, None] / 2
    left = np.hstack([sketch, half, np.ones_like(half)]).astype(np.float32)
    right = np.hstack([sketch, -np.ones_like(half), -half]).astype(np.float32)
    far = np.searchsorted(along, along + np.sqrt(_REACH), side="right")

    def close(start: int) -> np.ndarray:
        end = min(start + _SWEEP_ROWS, len(sketch))
        last = min(int(far[end - 1]), end + window)
        found = [np.empty((2, 0), dtype=np.int64)]
        for other in range(start, last, _SWEEP_COLUMNS):
            block = left[start:end] @ right[other : min(other + _SWEEP_COLUMNS, last)].T
            hits = np.flatnonzero(block >= -_REACH / 2)
            first, second = np.divmod(hits, block.shape[1])
            later = second + other > first + start
            found.append(np.stack([first[later] + start, second[later] + other]))
        return order[np.hstack(found).T]

    yield from _in_threads(close, range(0, len(sketch), _SWEEP_ROWS))


def _in_threads(work: Callable[[int], np.ndarray], starts: range) -> Iterator[np.ndarray]:
    """Map over blocks, in order. One block is too small for a matrix library's own threads."""
    with ThreadPoolExecutor(threads(), "labelwise-alike") as pool:
        try:
            yield from pool.map(work, starts)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _locally_alike(blocks: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """True for pairs without a block that differs much, bool (P,)."""
    result = np.empty(len(pairs), dtype=bool)
    for start in range(0, len(pairs), 16 * _ROWS):
        some = pairs[start : start + 16 * _ROWS]
        difference = np.abs(blocks[some[:, 0]] - blocks[some[:, 1]])
        result[start : start + 16 * _ROWS] = difference.max(axis=1) <= LOCAL_DIFFERENCE
    return result


def _correlation(thumbs: Sequence[np.ndarray], pairs: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """The lower of the two correlations of every pair, as they are and without what is shared."""
    result = np.empty(len(pairs))
    for start in range(0, len(pairs), _ROWS):
        some = pairs[start : start + _ROWS]
        first, _ = normalized([thumbs[row] for row in some[:, 0]])
        second, _ = normalized([thumbs[row] for row in some[:, 1]])
        plain = np.einsum("np,np->n", first, second) / first.shape[1]
        first, second = first - shared, second - shared
        own = np.einsum("np,np->n", first, second) / np.maximum(
            np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1), 1e-9
        )
        result[start : start + _ROWS] = np.minimum(plain, own)
    return result
