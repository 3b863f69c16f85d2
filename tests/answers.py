"""Makes probabilities as a model might answer, for tests."""

from __future__ import annotations

import numpy as np


def predictions(
    n: int, k: int, seed: int = 0, signal: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, int64 (n,), and probabilities, float64 (n, k), that favor them by `signal`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += signal
    proba = np.exp(logits)
    return labels, proba / proba.sum(axis=1, keepdims=True)
