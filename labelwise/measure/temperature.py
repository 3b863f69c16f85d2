"""Temperature: one number that divides all logits, so that a model is as sure as it is right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from labelwise.measure.metrics import log_loss
from labelwise.measure.scoring import Floats, Ints, Scorer

COLDEST, HOTTEST = 0.02, 50.0  # temperatures that are looked at
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
    As in Platt (1999), one of N + 2 labels counts as spread over all classes: N images without an
    error do not show that there will be none.
    """
    scorer = Scorer(labels, proba)
    logits = np.log(np.maximum(scorer.proba, LEAST))
    doubt = 1 / (scorer.rows + 2)
    truth = (1 - doubt) * logits[np.arange(scorer.rows), scorer.labels] + doubt * logits.mean(
        axis=1
    )

    def loss(inverse: float) -> float:
        some = logits * inverse
        highest = some.max(axis=1)
        total = highest + np.log(np.exp(some - highest[:, None]).sum(axis=1))
        return float((total - truth * inverse).mean())

    found = minimize_scalar(loss, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded")
    return min(max(float(1 / found.x), COLDEST), HOTTEST)


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
