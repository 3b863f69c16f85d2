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
from typing import Any

import numpy as np
import numpy.typing as npt

from labelwise.errors import OptionError
from labelwise.measure.scoring import (
    SMALLEST_PROBABILITY,
    Average,
    Floats,
    Sample,
    Scorer,
    check_weights,
    selector,
)

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
    "log_loss": Metric(
        "log loss", higher_is_better=False, high=-float(np.log(SMALLEST_PROBABILITY))
    ),
    "brier": Metric("Brier score", higher_is_better=False, high=2.0),
    "ece": Metric("calibration error", higher_is_better=False),
    "auroc": Metric("AUROC"),
    "average_precision": Metric("average precision"),
    "micro_auroc": Metric("micro AUROC"),
    "micro_average_precision": Metric("micro average precision"),
}


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
    "micro_auroc": lambda s: s.micro_areas[0],
    "micro_average_precision": lambda s: s.micro_areas[1],
}

_PER_CLASS: dict[str, Callable[[Sample, int], Floats]] = {
    "f1": lambda s, k: s.counts.per_class("f_beta")[:, k],
    "auroc": lambda s, k: s.class_areas(k)[0],
    "average_precision": lambda s, k: s.class_areas(k)[1],
}

#: Metrics that sort the rows once per class, and those that sort all of that together: slow ones.
BY_CLASS = ("auroc", "average_precision")
MICRO = ("micro_auroc", "micro_average_precision")
RANKED = BY_CLASS + MICRO


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


def class_values(sample: Sample, names: Iterable[str]) -> dict[tuple[str, int], Floats]:
    """F1, AUROC or average precision of every class, each (B,), under (name, class)."""
    classes = range(sample.scorer.classes)
    return {(name, k): _PER_CLASS[name](sample, k) for name in names for k in classes}


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


def check_beta(beta: float) -> float:
    """The weight of recall in F-beta, if it can be one."""
    if not (np.isfinite(beta) and beta > 0):
        raise OptionError(f"beta is {beta}; expected a positive number, such as 1 or 2.")
    return beta


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
    check_beta(beta)
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
