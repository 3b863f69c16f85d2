"""How good predictions are: labels and probabilities in, numbers out.

Every metric takes `labels` (N,), `proba` (N, K) and `weights`: None for the plain number, or an
array (..., N) with one weight per row, and returns an array of shape (...): a matrix of bootstrap
weights (B, N) gives all B numbers at once. One implementation serves the estimate and its interval.

Conventions, the same everywhere:

* The predicted class is the one with the highest probability; of equal ones, the lowest index.
* A class without labels (of zero total weight) has no recall and no F: NaN per class. Macro
  averages run over the classes that have labels, as scikit-learn's balanced accuracy does.
* The precision of a class that is never predicted is 0, scikit-learn's convention.
* What is undefined altogether, such as the AUROC of a single class, is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from labelwise.errors import DataError, OptionError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Average = Literal["micro", "macro", "weighted"]

SMALLEST_PROBABILITY = 1e-7  # log loss counts any probability below as this one
BINS = 15  # of the calibration error, as in Guo et al. (2017)


@dataclass(frozen=True)
class Metric:
    """What a reader has to know about a metric besides its value."""

    label: str  # as shown to people
    higher_is_better: bool = True
    low: float = 0.0  # the range it can take
    high: float = 1.0

    @property
    def is_fraction(self) -> bool:
        """Whether it lies in [0, 1], so that a difference reads well in percentage points."""
        return (self.low, self.high) == (0.0, 1.0)


#: Every metric with a name, in the order in which they are shown.
METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy"),
    "balanced_accuracy": Metric("balanced accuracy"),
    "top_3": Metric("top-3 accuracy"),
    "top_5": Metric("top-5 accuracy"),
    "macro_precision": Metric("macro precision"),
    "macro_recall": Metric("macro recall"),
    "macro_f1": Metric("macro F1"),
    "weighted_precision": Metric("weighted precision"),
    "weighted_recall": Metric("weighted recall"),
    "weighted_f1": Metric("weighted F1"),
    "micro_f1": Metric("micro F1"),
    "macro_specificity": Metric("macro specificity"),
    "macro_fall_out": Metric("macro fall-out", higher_is_better=False),
    "mcc": Metric("Matthews correlation", low=-1.0),
    "kappa": Metric("Cohen's kappa", low=-1.0),
    "log_loss": Metric("log loss", higher_is_better=False, high=-float(np.log(1e-7))),
    "brier": Metric("Brier score", higher_is_better=False, high=2.0),
    "ece": Metric("calibration error", higher_is_better=False),
    "auroc": Metric("AUROC"),
    "average_precision": Metric("average precision"),
}


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


@dataclass(frozen=True)
class Ranking:
    """One class against the rest, sorted once by its probability, highest first.

    Equal probabilities form a block, entered as a whole: no order inside it is to be rewarded.
    Only what lies between the blocks of the class's own rows matters: the ranking is cut there.
    """

    positives: npt.NDArray[np.intp]  # (P,) rows of the class, most probable first
    pieces: csr_array  # (S, N) sums the rows between one cut and the next
    start: npt.NDArray[np.intp]  # (P,) how many pieces come before the block of each
    end: npt.NDArray[np.intp]  # (P,) the same including the block
    last: npt.NDArray[np.intp]  # (P,) index among the positives of the last one of its block

    @classmethod
    def of(cls, score: Floats, positive: npt.NDArray[np.bool_]) -> Ranking:
        rows = len(score)
        order = np.argsort(-score, kind="stable")
        values = score[order]
        edges = np.flatnonzero(values[1:] != values[:-1]) + 1
        starts, ends = np.append(0, edges), np.append(edges, rows)  # of the blocks
        places = np.flatnonzero(positive[order])
        block = np.searchsorted(starts, places, side="right") - 1
        cuts = np.unique(np.concatenate([[0, rows], starts[block], ends[block]]))
        return cls(
            positives=order[places],
            pieces=csr_array(
                (np.ones(rows), order.astype(np.int32), cuts.astype(np.int32)),
                shape=(len(cuts) - 1, rows),
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


class Scorer:
    """Labels and probabilities, with everything that does not depend on weights computed once."""

    def __init__(self, labels: npt.ArrayLike, proba: npt.ArrayLike) -> None:
        self.labels, self.proba = check_rows(labels, proba)
        self.rows, self.classes = self.proba.shape
        self._bins: dict[int, csr_array] = {}

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
        """What sums confidence minus accuracy over the rows of each bin of confidence.

        Bins are open below and closed above, as in the paper: (0, 1/bins], ..., (.., 1].
        """
        if count not in self._bins:
            confidence = self.proba.max(axis=1)
            edges = np.linspace(0, 1, count + 1)
            index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, count - 1)
            self._bins[count] = selector(index, count, confidence - self.correct)
        return self._bins[count]

    @cached_property
    def rankings(self) -> list[Ranking]:
        """One per class that has labels; with two classes only that of class 1."""
        classes = [1] if self.classes == 2 else np.unique(self.labels).tolist()
        return [Ranking.of(self.proba[:, k], self.labels == k) for k in classes]

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
        s = self.scorer
        return Counts(
            right=self.sums(s.selectors[0]),
            labeled=self.sums(s.selectors[1]),
            predicted=self.sums(s.selectors[2]),
            total=self.total[:, None],
        )

    @cached_property
    def areas(self) -> tuple[Floats, Floats]:
        """AUROC and average precision, averaged over the classes where they are defined; (B,)."""
        pairs = [ranking.areas(self.columns) for ranking in self.scorer.rankings]
        auroc, precision = (np.stack(values, axis=-1) for values in zip(*pairs, strict=True))
        return mean_defined(auroc, np.ones(1)), mean_defined(precision, np.ones(1))

    def gaps(self, bins: int) -> Floats:
        """Confidence minus accuracy, summed over each bin, per total weight; (B, bins)."""
        return divide(self.sums(self.scorer.bins(bins)), self.total[:, None])

    def calibration_error(self, bins: int) -> Floats:
        """(B,)"""
        return np.asarray(np.abs(self.gaps(bins)).sum(axis=-1))


_FORMULAS: dict[str, Callable[[Sample], Floats]] = {
    "accuracy": lambda s: s.mean(s.scorer.correct),
    "balanced_accuracy": lambda s: s.counts.average("recall", "macro"),
    "top_3": lambda s: s.mean(s.scorer.place < 3),
    "top_5": lambda s: s.mean(s.scorer.place < 5),
    "macro_precision": lambda s: s.counts.average("precision", "macro"),
    "macro_recall": lambda s: s.counts.average("recall", "macro"),
    "macro_f1": lambda s: s.counts.average("f_beta", "macro"),
    "weighted_precision": lambda s: s.counts.average("precision", "weighted"),
    "weighted_recall": lambda s: s.counts.average("recall", "weighted"),
    "weighted_f1": lambda s: s.counts.average("f_beta", "weighted"),
    "micro_f1": lambda s: s.counts.average("f_beta", "micro"),
    "macro_specificity": lambda s: s.counts.average("specificity", "macro"),
    "macro_fall_out": lambda s: s.counts.average("fall_out", "macro"),
    "mcc": lambda s: s.counts.mcc(),
    "kappa": lambda s: s.counts.kappa(),
    "log_loss": lambda s: s.mean(s.scorer.log_losses),
    "brier": lambda s: s.mean(s.scorer.squares),
    "ece": lambda s: s.calibration_error(BINS),
    "auroc": lambda s: s.areas[0],
    "average_precision": lambda s: s.areas[1],
}

#: Metrics that sort the rows once per class: the slow ones.
RANKED = ("auroc", "average_precision")


def metric_names(classes: int) -> list[str]:
    """Names of METRICS that say something about K classes: top-k needs more than k of them."""
    needed = {"top_3": 4, "top_5": 6}
    return [name for name in METRICS if classes >= needed.get(name, 1)]


def check_metric(name: str, classes: int | None = None) -> Metric:
    """The metric of that name; OptionError if unknown or, for top-k, without meaning."""
    if name not in METRICS:
        raise OptionError(f"there is no metric '{name}'; choose one of: {', '.join(METRICS)}")
    if classes is not None and name not in metric_names(classes):
        raise OptionError(
            f"metric '{name}' says nothing about {classes} classes: it needs more classes than "
            f"guesses. Choose one of: {', '.join(metric_names(classes))}"
        )
    return METRICS[name]


def sample_values(sample: Sample, names: Iterable[str]) -> dict[str, Floats]:
    """Several metrics of the same sample, each (B,)."""
    return {name: _FORMULAS[name](sample) for name in names}


def metric_values(
    name: str, labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """A metric by its name in METRICS.

    Args:
        name: a key of METRICS.
        labels: int (N,), 0..K-1.
        proba: float (N, K), rows sum to 1.
        weights: None, or (..., N), finite and not negative.

    Returns:
        A scalar, or an array of shape (...) for weights (..., N); NaN where undefined.

    Raises:
        OptionError: the metric is unknown, or a top-k with k not below K.
        DataError: labels, proba or weights cannot be used.

    >>> metric_values("accuracy", [0, 1], [[0.9, 0.1], [0.6, 0.4]]).item()
    0.5
    """
    check_metric(name)
    scorer = Scorer(labels, proba)
    check_metric(name, scorer.classes)
    flat, shape = check_weights(weights, scorer.rows)
    return _FORMULAS[name](scorer.sample(flat)).reshape(shape)[()]


def accuracy(
    labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """Fraction of rows whose predicted class is the label. In [0, 1]."""
    return metric_values("accuracy", labels, proba, weights)


def balanced_accuracy(
    labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """Mean recall of the classes that have labels. In [0, 1]; guessing gives 1 / classes."""
    return metric_values("balanced_accuracy", labels, proba, weights)


def top_k_accuracy(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    k: int,
) -> Any:
    """Fraction of rows whose label is among the k most probable classes. In [0, 1].

    Raises:
        OptionError: k is not in 1..K-1; with k = K every row would count.
    """
    scorer = Scorer(labels, proba)
    if not 1 <= k < scorer.classes:
        raise OptionError(
            f"k is {k}; expected 1 to {scorer.classes - 1}, below the number of classes."
        )
    flat, shape = check_weights(weights, scorer.rows)
    return scorer.sample(flat).mean(scorer.place < k).reshape(shape)[()]


def _per_class(
    name: str,
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None,
    average: Average | None,
    beta: float = 1.0,
) -> Any:
    """A per-class metric (..., K), or one of its averages (...)."""
    if average not in (None, "micro", "macro", "weighted"):
        raise OptionError(f"average is '{average}'; expected None, micro, macro or weighted.")
    scorer = Scorer(labels, proba)
    flat, shape = check_weights(weights, scorer.rows)
    counts = scorer.sample(flat).counts
    if average is None:
        return counts.per_class(name, beta).reshape(*shape, scorer.classes)
    return counts.average(name, average, beta).reshape(shape)[()]


def precision(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    average: Average | None = None,
) -> Any:
    """Of the rows predicted as a class, the fraction that is; 0 if none is predicted so.

    Returns (..., K), or (...) with an average. In [0, 1]. The same holds for the next four.
    """
    return _per_class("precision", labels, proba, weights, average)


def recall(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    average: Average | None = None,
) -> Any:
    """Of the rows of a class, the fraction predicted as it; NaN for a class without labels."""
    return _per_class("recall", labels, proba, weights, average)


def f_beta(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    beta: float = 1.0,
    average: Average | None = None,
) -> Any:
    """Harmonic mean of precision and recall; recall counts beta times as much.

    NaN for a class without labels. Source: van Rijsbergen (1979), chapter 7.

    Raises:
        OptionError: beta is not a positive number.
    """
    if not (np.isfinite(beta) and beta > 0):
        raise OptionError(f"beta is {beta}; expected a positive number, such as 1 or 2.")
    return _per_class("f_beta", labels, proba, weights, average, beta)


def specificity(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    average: Average | None = None,
) -> Any:
    """Of the rows of other classes, the fraction not predicted as this one; NaN if no others."""
    return _per_class("specificity", labels, proba, weights, average)


def fall_out(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    average: Average | None = None,
) -> Any:
    """False positive rate, 1 - specificity; 0 is best."""
    return _per_class("fall_out", labels, proba, weights, average)


def mcc(labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Any:
    """Correlation of labels and predictions (Matthews). In [-1, 1]; 0 is no better than chance.

    Source: Gorodkin (2004), "Comparing two K-category assignments by a K-category correlation
    coefficient". 0 where labels or predictions are all of one class.
    """
    return metric_values("mcc", labels, proba, weights)


def cohen_kappa(
    labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """Agreement beyond chance. In [-1, 1]; 0 is chance. Source: Cohen (1960).

    NaN where labels and predictions are all of one and the same class.
    """
    return metric_values("kappa", labels, proba, weights)


def log_loss(
    labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """Mean of -log(probability of the true class), natural logarithm. In [0, 16.12]; 0 is best.

    A probability below 1e-7 counts as 1e-7, so that one sure mistake cannot make it infinite.
    """
    return metric_values("log_loss", labels, proba, weights)


def brier(labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Any:
    """Mean squared distance of the probabilities from the one-hot label. In [0, 2]; 0 is best.

    The sum over all classes, as in Brier (1950): for two classes twice the number that
    counts class 1 only.
    """
    return metric_values("brier", labels, proba, weights)


def expected_calibration_error(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    bins: int = BINS,
) -> Any:
    """How far confidence (the highest probability) is from accuracy, on average. In [0, 1].

    Confidence is divided into equal bins, each open below and closed above; 0 is best. With few
    rows per bin, even perfect probabilities give a number above 0.

    Raises:
        OptionError: bins is below 1.

    Source: Guo et al. (2017), arXiv:1706.04599, section 2.

    >>> expected_calibration_error([0, 1], [[0.9, 0.1], [0.6, 0.4]]).round(2).item()
    0.35
    """
    if bins < 1:
        raise OptionError(f"bins is {bins}; expected 1 or more.")
    scorer = Scorer(labels, proba)
    flat, shape = check_weights(weights, scorer.rows)
    return scorer.sample(flat).calibration_error(bins).reshape(shape)[()]


def auroc(labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Any:
    """Chance that a row of a class gets a higher probability for it than a row of another class.

    Area under the receiver operating characteristic, ties counted half: with two classes that of
    class 1, otherwise the mean over the classes that have labels, each against the rest. In
    [0, 1]; 0.5 is chance; NaN if all labels are equal. Source: Hanley and McNeil (1982).
    """
    return metric_values("auroc", labels, proba, weights)


def average_precision(
    labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """Area under the precision-recall steps: sum of precision times gain in recall. In [0, 1].

    With two classes that of class 1 (NaN if it has no labels), otherwise the mean over the
    classes that have labels, each against the rest. Chance is the fraction of the class.
    """
    return metric_values("average_precision", labels, proba, weights)


def confusion_matrix(
    labels: npt.ArrayLike, proba: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """Weight of the rows with each label (first K) and prediction (second K); (..., K, K)."""
    scorer = Scorer(labels, proba)
    flat, shape = check_weights(weights, scorer.rows)
    k = scorer.classes
    cells = selector(scorer.labels * k + scorer.predicted, k * k)
    return scorer.sample(flat).sums(cells).reshape(*shape, k, k)
