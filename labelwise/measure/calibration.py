"""Calibration: whether a confidence of 0.9 is right nine times in ten, and one temperature for all
logits so that it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from labelwise.measure.metrics import BINS, brier, expected_calibration_error, log_loss
from labelwise.measure.scoring import Floats, Ints, Scorer, bin_of

COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are looked at
LEAST = 1e-38  # about the smallest probability that float32 holds with all digits
FEWEST = 30  # images below which no temperature is worth its uncertainty
PARTS = 5  # of held-out images, where they come from one part only


def scaled(proba: npt.ArrayLike, temperature: float) -> Floats:
    """softmax(logits / temperature) from softmax(logits); float64 (N, K), rows sum to 1."""
    logits = np.log(np.maximum(np.asarray(proba, dtype=np.float64), LEAST)) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def best_temperature(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """The temperature of least log loss: above 1 for a model that is too sure of itself.

    Args:
        labels: int (N,), 0..K-1.
        proba: float (N, K), of images that the model has not learned from.

    Source: Guo et al. (2017), arXiv:1706.04599, section 4.2. The loss is convex in 1 / temperature.
    """
    scorer = Scorer(labels, proba)
    logits = np.log(np.maximum(scorer.proba, LEAST))
    true = logits[np.arange(scorer.rows), scorer.labels]

    def loss(inverse: float) -> float:
        some = logits * inverse
        highest = some.max(axis=1)
        total = highest + np.log(np.exp(some - highest[:, None]).sum(axis=1))
        return float((total - true * inverse).mean())

    found = minimize_scalar(loss, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded")
    return float(1 / found.x)


@dataclass(frozen=True)
class Numbers:
    """How far probabilities are from frequencies, by several measures; all better when lower.

    Attributes:
        log_loss, brier: see the metrics of these names.
        ece: of confidence, BINS bins of equal width; see `expected_calibration_error`.
        ece_even: the same with as many images in every bin (Nguyen and O'Connor 2015,
            arXiv:1508.05154).
        ece_classes: mean over classes of the gaps between the probability of the class and its
            frequency, bins as in `ece` (Kull et al. 2019, arXiv:1910.12656, equation 3).
        by_chance: the `ece` that probabilities without any fault would stay below in 95 of 100
            samples of as many images.
    """

    log_loss: float
    brier: float
    ece: float
    ece_even: float
    ece_classes: float
    by_chance: float

    @classmethod
    def of(cls, labels: npt.ArrayLike, proba: npt.ArrayLike, seed: int = 0) -> Numbers:
        """Args: labels (N,), proba (N, K); seed of the simulation."""
        return cls(
            float(log_loss(labels, proba)),
            float(brier(labels, proba)),
            float(expected_calibration_error(labels, proba)),
            even_calibration_error(labels, proba),
            classwise_calibration_error(labels, proba),
            error_by_chance(proba, seed=seed),
        )


def even_calibration_error(labels: npt.ArrayLike, proba: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error of confidence, with as many images in every bin. In [0, 1]."""
    scorer = Scorer(labels, proba)
    confidence = scorer.proba.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    gaps = (confidence - scorer.correct)[order]
    parts = np.array_split(gaps, min(bins, scorer.rows))
    return float(sum(abs(part.sum()) for part in parts) / scorer.rows)


def classwise_calibration_error(
    labels: npt.ArrayLike, proba: npt.ArrayLike, bins: int = BINS
) -> float:
    """Mean over the classes of the gaps between probability and frequency of each. In [0, 1]."""
    scorer = Scorer(labels, proba)
    truth = scorer.labels[:, None] == np.arange(scorer.classes)
    gaps = [
        _binned(scorer.proba[:, k], scorer.proba[:, k] - truth[:, k], bins)
        for k in range(scorer.classes)
    ]
    return float(np.mean([np.abs(gap).sum() for gap in gaps]) / scorer.rows)


def error_by_chance(
    proba: npt.ArrayLike, *, level: float = 0.95, draws: int = 200, seed: int = 0
) -> float:
    """What the expected calibration error of perfect probabilities stays below, by simulation.

    Every image is right with the probability that its confidence says; even so, bins of few images
    have gaps. A measured error below this number is no sign of a fault.

    Args:
        level: share of the simulated samples that stay below.
    """
    confidence = np.asarray(proba, dtype=np.float64).max(axis=1)
    right = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    errors = [np.abs(_binned(confidence, confidence - row, BINS)).sum() for row in right]
    return float(np.quantile(errors, level) / len(confidence))


@dataclass(frozen=True)
class Reliability:
    """Accuracy by confidence; arrays of the bins that have images, (B,).

    Attributes:
        confidence, accuracy: means over the images of a bin.
        count: how many these are; int64.
    """

    confidence: Floats
    accuracy: Floats
    count: Ints


def reliability(labels: npt.ArrayLike, proba: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """What a reliability diagram shows (Niculescu-Mizil and Caruana 2005)."""
    scorer = Scorer(labels, proba)
    confidence = scorer.proba.max(axis=1)
    count = _binned(confidence, np.ones(scorer.rows), bins)
    used = count > 0
    return Reliability(
        _binned(confidence, confidence, bins)[used] / count[used],
        _binned(confidence, scorer.correct.astype(np.float64), bins)[used] / count[used],
        count[used].astype(np.int64),
    )


def crossed(labels: npt.ArrayLike, proba: npt.ArrayLike, parts: npt.ArrayLike) -> Floats:
    """Probabilities at temperatures found without the images they are for; float64 (N, K).

    Args:
        parts: (N,); the temperature for the images of a part is found on all others.
    """
    labels, proba, parts = np.asarray(labels), np.asarray(proba, np.float64), np.asarray(parts)
    result = np.empty_like(proba)
    for part in np.unique(parts):
        own = parts == part
        result[own] = scaled(proba[own], best_temperature(labels[~own], proba[~own]))
    return result


def parts_of(folds: npt.ArrayLike, groups: npt.ArrayLike, seed: int = 0) -> Ints:
    """Parts to cross-fit over: the folds, or where there is only one, PARTS drawn by group."""
    folds, groups = np.asarray(folds), np.asarray(groups)
    if len(np.unique(folds)) > 1:
        return folds.astype(np.int64)
    names, own = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(names)) % PARTS
    return np.asarray(dealt[own], dtype=np.int64)


def temperature_of(labels: npt.ArrayLike, proba: npt.ArrayLike, parts: npt.ArrayLike) -> float:
    """The temperature to use: 1 unless another one has less log loss on images it is not found on.

    Args:
        labels, proba: of held-out images, each once.
        parts: as in `crossed`.
    """
    count = len(np.asarray(labels))
    if count < FEWEST or len(np.unique(np.asarray(parts))) < 2:
        return 1.0
    if log_loss(labels, crossed(labels, proba, parts)) >= log_loss(labels, proba):
        return 1.0
    return best_temperature(labels, proba)


def _binned(places: Floats, values: Floats, bins: int) -> Floats:
    """Sums of values by the bin that a place is in; (bins,)."""
    return np.asarray(np.bincount(bin_of(places, bins), values, minlength=bins), np.float64)
