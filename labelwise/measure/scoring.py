"""Scoring: rows sorted, counted and binned once, then summed under any weights.

What every metric is made of. A `Scorer` holds what does not depend on weights, a `Sample` is a
Scorer under B sets of weights; each sum is computed once, however many metrics need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from labelwise.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Average = Literal["micro", "macro", "weighted"]

SMALLEST_PROBABILITY = 1e-7  # log loss counts any probability below as this one


def check_rows(labels: npt.ArrayLike, proba: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Labels as int64 (N,) and probabilities as float64 (N, K), or a DataError that says why not.

    Raises:
        DataError: no rows; shapes that do not fit; a label outside 0..K-1; a probability that is
            not finite or not in [0, 1]; a row that does not sum to 1 within 0.001.
    """
    labels, proba = np.asarray(labels), np.asarray(proba)
    if proba.ndim != 2 or labels.ndim != 1 or len(labels) != len(proba):
        raise DataError(
            f"labels have shape {labels.shape} and probabilities {proba.shape}; expected (N,) and "
            "(N, K). Give one label and one row of K class probabilities per image."
        )
    if proba.size == 0:
        raise DataError(
            f"there is nothing to measure: the probabilities have shape {proba.shape}. "
            "Give at least one labeled image and one class."
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"labels are of type {labels.dtype}; expected integers, the index of each class. "
            "Turn names into indices of class_names first."
        )
    classes = proba.shape[1]
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        raise DataError(
            f"{len(outside)} of {len(labels)} labels are outside 0..{classes - 1}; the first is "
            f"{labels[outside[0]]}, in row {outside[0]}. Leave out images without a label (-1), "
            f"or give a probability for every class ({classes} given)."
        )
    if proba.dtype.kind not in "fiub":
        raise DataError(f"probabilities are of type {proba.dtype}; expected real numbers.")
    values = proba.astype(np.float64, copy=False)
    # Written so that NaN fails the comparison as well.
    sound = ((values >= -1e-3) & (values <= 1 + 1e-3)).all(axis=1)
    sound &= np.abs(values.sum(axis=1) - 1) <= 1e-3
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        shown = ", ".join(f"{value:.4g}" for value in values[row, :5]) + ", ..." * (classes > 5)
        raise DataError(
            f"{int((~sound).sum())} of {len(values)} rows are not probabilities; the first is row "
            f"{row}: [{shown}], sum {values[row].sum():.4g}. Expected finite numbers in [0, 1] "
            "that sum to 1 within 0.001. Apply softmax to logits first."
        )
    return labels.astype(np.int64, copy=False), values


def check_weights(weights: npt.ArrayLike | None, rows: int) -> tuple[Floats, tuple[int, ...]]:
    """Weights as (B, N), and the shape (...) the results are to have."""
    if weights is None:
        return np.ones((1, rows)), ()
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != rows:
        raise DataError(
            f"weights have shape {array.shape}; expected (..., {rows}), one weight for every row."
        )
    if not np.isfinite(array).all() or (array < 0).any():
        raise DataError("weights must be finite and not negative; leave out a row by weight 0.")
    return array.reshape(-1, rows), array.shape[:-1]


def divide(numerator: Floats, denominator: Floats, *, undefined: float = np.nan) -> Floats:
    """Their ratio, and `undefined` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(denominator.shape, undefined)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def mean_defined(values: Floats, weights: Floats) -> Floats:
    """Weighted mean over the last axis of what is not NaN; NaN if nothing is left."""
    weights = np.where(np.isnan(values), 0.0, weights)
    return divide((np.nan_to_num(values) * weights).sum(axis=-1), weights.sum(axis=-1))


@dataclass(frozen=True)
class Counts:
    """Per class, the weight of the rows that are right, labeled so, and predicted so; (B, K)."""

    right: Floats
    labeled: Floats
    predicted: Floats
    total: Floats  # (B, 1)

    @property
    def negatives(self) -> Floats:
        """Weight of the rows of all other classes; exactly 0 where there are none."""
        rest = self.total - self.labeled
        return np.where(rest > 1e-12 * self.total, rest, 0.0)  # rounding of fractional weights

    def parts(self, name: str, beta: float = 1.0) -> tuple[Floats, Floats]:
        """A per-class metric as numerator and denominator; micro averages sum each first."""
        wrong = np.maximum(self.predicted - self.right, 0.0)
        if name == "precision":
            return self.right, self.predicted
        if name == "recall":
            return self.right, self.labeled
        if name == "specificity":
            return np.maximum(self.negatives - wrong, 0.0), self.negatives
        if name == "fall_out":
            return np.minimum(wrong, self.negatives), self.negatives
        square = beta * beta
        return (1 + square) * self.right, square * self.labeled + self.predicted

    def per_class(self, name: str, beta: float = 1.0) -> Floats:
        """(B, K), by the conventions in the module's docstring."""
        top, bottom = self.parts(name, beta)
        if name == "precision":
            return divide(top, bottom, undefined=0.0)
        values = divide(top, bottom)
        return np.where(self.labeled > 0, values, np.nan) if name == "f_beta" else values

    def average(self, name: str, how: Average, beta: float = 1.0) -> Floats:
        """(B,)"""
        if how == "micro":
            top, bottom = self.parts(name, beta)
            return divide(top.sum(axis=-1), bottom.sum(axis=-1))
        present = (self.labeled > 0).astype(np.float64)
        return mean_defined(self.per_class(name, beta), present if how == "macro" else self.labeled)

    def mcc(self) -> Floats:
        """Gorodkin (2004); 0 where labels or predictions are all of one class, as scikit-learn."""
        total = self.total[:, 0]
        together = (self.labeled * self.predicted).sum(axis=-1)
        covariance = self.right.sum(axis=-1) * total - together
        labels = total**2 - (self.labeled**2).sum(axis=-1)
        predictions = total**2 - (self.predicted**2).sum(axis=-1)
        spread = labels * predictions
        return divide(
            covariance,
            np.sqrt(np.where(spread > 1e-12 * total**4, spread, 0.0)),
            undefined=0.0,
        )

    def kappa(self) -> Floats:
        """Cohen (1960); NaN where labels and predictions are all of the same class."""
        total = self.total[:, 0]
        expected = divide((self.labeled * self.predicted).sum(axis=-1), total**2)
        seen = divide(self.right.sum(axis=-1), total)
        rest = 1 - expected
        return divide(seen - expected, np.where(rest > 1e-12, rest, 0.0))


def selector(index: npt.NDArray[Any], size: int, values: Floats | None = None) -> csr_array:
    """The matrix (size, N) that sums the rows at each index, each times its value.

    Multiplying it with weights (N, B) is several times faster than a bincount for each of B.
    """
    rows = len(index)
    entries = np.ones(rows) if values is None else values
    return csr_array((entries, (index, np.arange(rows))), shape=(size, rows))


def bin_of(values: Floats, count: int) -> npt.NDArray[np.intp]:
    """Bins of equal width that values in [0, 1] are in, open below and closed above; (N,).

    As in Guo et al. (2017), arXiv:1706.04599: (0, 1 / count], ..., (.., 1].
    """
    place = np.searchsorted(np.linspace(0, 1, count + 1), values, side="left") - 1
    return np.clip(place, 0, count - 1)


@dataclass(frozen=True)
class Ranking:
    """One class against the rest, sorted once by its probability, highest first.

    Or, for micro averages, every pair of a row and a class, the label's being the class's own.

    Equal probabilities form a block, entered as a whole: no order inside it is to be rewarded.
    Only what lies between the blocks of the class's own rows matters: the ranking is cut there.
    """

    positives: npt.NDArray[np.intp]  # (P,) rows of the class, most probable first
    pieces: csr_array  # (S, N) sums the rows between one cut and the next
    start: npt.NDArray[np.intp]  # (P,) how many pieces come before the block of each
    end: npt.NDArray[np.intp]  # (P,) the same including the block
    last: npt.NDArray[np.intp]  # (P,) index among the positives of the last one of its block

    @classmethod
    def of(cls, proba: Floats, positive: npt.NDArray[np.bool_]) -> Ranking:
        """Rows by their probability, (N,), or pairs of row and class by theirs, (N, K)."""
        score, positive = proba.ravel(), positive.ravel()
        rows, each = len(score), len(score) // len(proba)
        order = np.argsort(-score, kind="stable")
        values = score[order]
        edges = np.flatnonzero(values[1:] != values[:-1]) + 1
        starts, ends = np.append(0, edges), np.append(edges, rows)  # of the blocks
        places = np.flatnonzero(positive[order])
        block = np.searchsorted(starts, places, side="right") - 1
        cuts = np.unique(np.concatenate([[0, rows], starts[block], ends[block]]))
        row = order // each
        return cls(
            positives=row[places],
            pieces=csr_array(
                (np.ones(rows), row.astype(np.int32), cuts.astype(np.int32)),
                shape=(len(cuts) - 1, len(proba)),
            ),
            start=np.searchsorted(cuts, starts[block]),
            end=np.searchsorted(cuts, ends[block]),
            last=np.searchsorted(block, block, side="right") - 1,
        )

    def areas(self, columns: Floats) -> tuple[Floats, Floats]:
        """AUROC and average precision of the class under weights (N, B), each (B,)."""
        pieces = self.pieces @ columns
        above = np.zeros((len(pieces) + 1, columns.shape[1]))
        np.cumsum(pieces, axis=0, out=above[1:])
        before, through, total = above[self.start], above[self.end], above[-1]
        weight = columns[self.positives]  # (P, B)
        own = np.einsum("pb->b", weight)  # faster than sum(axis=0) when B is small
        rest = total - own
        rest = np.where(rest > 1e-12 * total, rest, 0.0)
        # For each positive the weight below it, ties counted half. This includes the other
        # positives, which together make own**2 / 2 whatever their order.
        below = total * own - np.einsum("pb,pb->b", weight, before + through) / 2
        auroc = divide(below - own**2 / 2, own * rest)
        hits = np.cumsum(weight, axis=0)[self.last]
        # Where nothing has weight so far, hits are 0 as well, and so must be the precision.
        precision = hits / np.where(through > 0, through, 1.0)
        return np.clip(auroc, 0.0, 1.0), divide(np.einsum("pb,pb->b", weight, precision), own)

    def above(self, columns: Floats) -> tuple[Floats, Floats]:
        """Weight (N, B) of the class's own rows, and of all, above each cut; each (S + 1, B)."""
        own = np.zeros((len(self.positives) + 1, columns.shape[1]))
        np.cumsum(columns[self.positives], axis=0, out=own[1:])
        pieces = self.pieces @ columns
        every = np.zeros((len(pieces) + 1, columns.shape[1]))
        np.cumsum(pieces, axis=0, out=every[1:])
        return own[np.searchsorted(self.end, np.arange(len(every)), side="right")], every


class Scorer:
    """Labels and probabilities, with everything that does not depend on weights computed once."""

    def __init__(self, labels: npt.ArrayLike, proba: npt.ArrayLike) -> None:
        self.labels, self.proba = check_rows(labels, proba)
        self.rows, self.classes = self.proba.shape
        self._bins: dict[int, csr_array] = {}
        self._rankings: dict[int, Ranking] = {}

    @cached_property
    def predicted(self) -> Ints:
        """(N,)"""
        return np.asarray(self.proba.argmax(axis=1), dtype=np.int64)

    @cached_property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(N,)"""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def truth(self) -> Floats:
        """Probability given to the true class, (N,)."""
        return np.asarray(self.proba[np.arange(self.rows), self.labels])

    @cached_property
    def place(self) -> Ints:
        """How many classes are ranked before the true one; of equal ones the lowest index first."""
        truth = self.truth[:, None]
        higher = (self.proba > truth).sum(axis=1)
        earlier = np.arange(self.classes) < self.labels[:, None]
        return np.asarray(higher + ((self.proba == truth) & earlier).sum(axis=1), dtype=np.int64)

    @cached_property
    def log_losses(self) -> Floats:
        """(N,)"""
        return -np.log(np.clip(self.truth, SMALLEST_PROBABILITY, 1.0))

    @cached_property
    def squares(self) -> Floats:
        """Squared distance of each row from its one-hot label, (N,)."""
        return np.asarray((self.proba**2).sum(axis=1) - 2 * self.truth + 1)

    @cached_property
    def selectors(self) -> tuple[csr_array, csr_array, csr_array]:
        """What sums the rows of each class: those that are right, labeled so, predicted so."""
        return (
            selector(self.labels, self.classes, self.correct.astype(np.float64)),
            selector(self.labels, self.classes),
            selector(self.predicted, self.classes),
        )

    def bins(self, count: int) -> csr_array:
        """What sums confidence minus accuracy over the rows of each bin of confidence."""
        if count not in self._bins:
            confidence = self.proba.max(axis=1)
            self._bins[count] = selector(
                bin_of(confidence, count), count, confidence - self.correct
            )
        return self._bins[count]

    def ranking(self, k: int) -> Ranking:
        """Class k against the rest."""
        if k not in self._rankings:
            self._rankings[k] = Ranking.of(self.proba[:, k], self.labels == k)
        return self._rankings[k]

    @cached_property
    def micro(self) -> Ranking:
        """All pairs of a row and a class at once: the label's pair against the others."""
        return Ranking.of(self.proba, self.labels[:, None] == np.arange(self.classes))

    @property
    def averaged(self) -> list[int]:
        """The classes whose areas are averaged: of two classes only class 1."""
        return [1] if self.classes == 2 else np.unique(self.labels).tolist()

    def sample(self, weights: Floats) -> Sample:
        """The same rows under weights (B, N)."""
        return Sample(self, weights)


@dataclass(frozen=True)
class Sample:
    """A Scorer under B sets of weights; parts shared by several metrics are computed once."""

    scorer: Scorer
    weights: Floats  # (B, N)

    @cached_property
    def columns(self) -> Floats:
        """The weights as (N, B), the layout in which sums over rows are fast."""
        return np.ascontiguousarray(self.weights.T)

    def sums(self, matrix: csr_array) -> Floats:
        """Total weight of the rows that a selector (size, N) puts together, (B, size)."""
        return np.asarray((matrix @ self.columns).T)

    def mean(self, values: npt.NDArray[Any]) -> Floats:
        """Weighted mean of one value per row, (B,)."""
        return divide(self.weights @ values.astype(np.float64, copy=False), self.total)

    @cached_property
    def total(self) -> Floats:
        """(B,)"""
        return np.asarray(self.weights.sum(axis=-1))

    @cached_property
    def counts(self) -> Counts:
        """Right, labeled and predicted weight of every class."""
        s = self.scorer
        return Counts(
            right=self.sums(s.selectors[0]),
            labeled=self.sums(s.selectors[1]),
            predicted=self.sums(s.selectors[2]),
            total=self.total[:, None],
        )

    @cached_property
    def _class_areas(self) -> dict[int, tuple[Floats, Floats]]:
        return {}

    def class_areas(self, k: int) -> tuple[Floats, Floats]:
        """AUROC and average precision of class k against the rest; (B,)."""
        if k not in self._class_areas:
            self._class_areas[k] = self.scorer.ranking(k).areas(self.columns)
        return self._class_areas[k]

    @cached_property
    def areas(self) -> tuple[Floats, Floats]:
        """AUROC and average precision, averaged over the classes where they are defined; (B,)."""
        pairs = [self.class_areas(k) for k in self.scorer.averaged]
        auroc, precision = (np.stack(values, axis=-1) for values in zip(*pairs, strict=True))
        return mean_defined(auroc, np.ones(1)), mean_defined(precision, np.ones(1))

    @cached_property
    def micro_areas(self) -> tuple[Floats, Floats]:
        """AUROC and average precision of all pairs of a row and a class; (B,)."""
        return self.scorer.micro.areas(self.columns)

    def gaps(self, bins: int) -> Floats:
        """Confidence minus accuracy, summed over each bin, per total weight; (B, bins)."""
        return divide(self.sums(self.scorer.bins(bins)), self.total[:, None])

    def calibration_error(self, bins: int) -> Floats:
        """(B,)"""
        return np.asarray(np.abs(self.gaps(bins)).sum(axis=-1))
