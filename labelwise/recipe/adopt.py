"""Adopt: which unlabeled images get a pseudo-label in a round of self-training."""

from __future__ import annotations

import numpy as np

from labelwise.recipe.base import PseudoLabels

SMALLEST = 1e-6  # weight of a pseudo-label


def adopt(
    rows: np.ndarray,
    proba: np.ndarray,
    *,
    priors: np.ndarray | None,
    share: float,
    threshold: float,
) -> PseudoLabels:
    """The most confident images of every class.

    Args:
        rows: of the images, each once, ascending; int64 (M,).
        proba: their class probabilities, (M, K).
        priors: share of every class among the given labels, (K,): no class gets more than that part
            of what is adopted at most, so that an easy class cannot crowd out the others. None:
            classes get what they are predicted for.
        share: of the images that are adopted, at most.
        threshold: least confidence of an image that is adopted.
    """
    labels = proba.argmax(1)
    confidence = proba[np.arange(len(rows)), labels]
    sure = np.flatnonzero(confidence >= threshold)
    order = sure[np.argsort(-confidence[sure], kind="stable")]
    most = share * len(rows)
    if priors is None:
        kept = order[: int(np.ceil(most))]
    else:
        limits = np.ceil(most * priors).astype(np.int64)
        own = [order[labels[order] == k][:limit] for k, limit in enumerate(limits)]
        kept = np.concatenate(own)
    kept = np.sort(kept)
    weights = confidence[kept].clip(SMALLEST, 1).astype(np.float32)
    return PseudoLabels(rows[kept], labels[kept].astype(np.int64), weights)
