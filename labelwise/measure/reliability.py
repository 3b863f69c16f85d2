"""Reliability: whether a confidence of 0.9 is right nine times in ten, by several measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelwise.measure.metrics import BINS, brier, expected_calibration_error, log_loss
from labelwise.measure.scoring import Floats, Ints, Scorer, bin_of


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
    rng, place = np.random.default_rng(seed), bin_of(confidence, BINS)

    def error() -> float:
        gaps = confidence - (rng.random(len(confidence)) < confidence)
        return float(np.abs(np.bincount(place, gaps, minlength=BINS)).sum())

    errors = [error() for _ in range(draws)]
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


def _binned(places: Floats, values: Floats, bins: int) -> Floats:
    """Sums of values by the bin that a place is in; (bins,)."""
    return np.asarray(np.bincount(bin_of(places, bins), values, minlength=bins), np.float64)
