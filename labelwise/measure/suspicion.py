"""Suspicion: how likely a given label is to be wrong, by out-of-fold answers and by neighbors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labelwise.measure.scoring import Floats, check_rows

NEIGHBORS = 10  # images that are asked


def doubt(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Floats:
    """How much more probable another class is than the given one; (N,), in [0, 1].

    (1 - margin) / 2 with margin = probability of the label minus the largest other one (normalized
    margin: Northcutt et al. 2021, arXiv:1911.00068, section 3.2). Above 0.5 another class is more
    probable.

    Args:
        labels: int (N,), 0..K-1.
        proba: float (N, K), of models that have not learned from these images.
    """
    labels, proba = check_rows(labels, proba)
    rows = np.arange(len(labels))
    others = proba.copy()
    others[rows, labels] = -np.inf
    largest = others.max(axis=1) if proba.shape[1] > 1 else np.zeros(len(labels))
    return np.asarray((1 - proba[rows, labels] + largest) / 2)


def disagreement(
    labels: npt.ArrayLike, neighbors: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Floats:
    """Share of an image's neighbors that have another label; (N,), in [0, 1].

    Args:
        labels: int (N,).
        neighbors: int (N, k), rows of the most similar other images.
        weights: float (N, k), what each counts; all the same by default.
    """
    labels, neighbors = np.asarray(labels), np.asarray(neighbors)
    other = labels[neighbors] != labels[:, None]
    count = np.ones(neighbors.shape) if weights is None else np.asarray(weights, np.float64)
    return np.asarray((other * count).sum(axis=1) / np.maximum(count.sum(axis=1), 1e-12))


def suspicion(doubts: npt.ArrayLike, disagreements: npt.ArrayLike | None = None) -> Floats:
    """Both together, (N,), in [0, 1]: their mean, or the doubt alone."""
    found = np.asarray(doubts, dtype=np.float64)
    return found if disagreements is None else (found + np.asarray(disagreements)) / 2
