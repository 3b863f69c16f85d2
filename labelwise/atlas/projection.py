"""Projection: principal components of embeddings, and where other embeddings lie on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COMPONENTS = 50  # at most: what t-SNE and UMAP see of an embedding
FLAT = 1e-12  # share of the largest squared length below which points are one and the same


@dataclass(frozen=True)
class Projection:
    """A fitted principal component analysis.

    Attributes:
        center: float32 (D,).
        axes: of length 1, by decreasing variance; float32 (C, D). Of each the entry farthest from
            0 is positive.
    """

    center: np.ndarray
    axes: np.ndarray

    @staticmethod
    def of(vectors: np.ndarray) -> Projection:
        """Fitted to embeddings, float32 (N, D); C is 0 where all are equal."""
        from sklearn.decomposition import PCA

        center = vectors.mean(0, dtype=np.float64).astype(np.float32)
        # Centered before, or the solver would subtract large numbers from each other.
        centered = vectors - center
        count = min(COMPONENTS, len(vectors) - 1, vectors.shape[1])
        if count < 1 or (centered**2).max() <= FLAT * max((vectors**2).max(), FLAT):
            return Projection(center, np.zeros((0, len(center)), np.float32))
        tall = len(vectors) >= vectors.shape[1]
        fitted = PCA(count, svd_solver="covariance_eigh" if tall else "full").fit(centered)
        return Projection(center, fitted.components_.astype(np.float32))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Principal components of embeddings; float32 (N, C)."""
        return (vectors - self.center) @ self.axes.T


def plane(components: np.ndarray) -> np.ndarray:
    """The first two components; float32 (N, 2), with zeros where there are fewer."""
    flat = np.zeros((len(components), 2), np.float32)
    flat[:, : components.shape[1]] = components[:, :2]
    return flat
