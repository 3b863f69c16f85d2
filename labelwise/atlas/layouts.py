"""Layouts: t-SNE and UMAP of components, fitted on a sample, and other images placed on them.

What is fitted grows faster than the number of images, and a fitted layout cannot take another point
in. All other images, also those that come later, are therefore placed among their nearest fitted
ones.
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import torch

from labelwise.nn.graph import nearest

FITTED = 5_000  # images that a layout is fitted on, at most
FEWEST = 5  # images below which there is nothing to lay out
PERPLEXITY = 30.0  # of t-SNE; that of its paper
UMAP_NEIGHBORS = 15  # umap-learn's own default
AMONG = 10  # fitted images that another one is placed among
TINY = 1e-9  # share of the mean squared distance that counts as none
SEED = 0


def sample(labels: np.ndarray, count: int = FITTED) -> np.ndarray:
    """Which images a layout is fitted on: a share of every class alike, bool (N,).

    Args:
        labels: int64 (N,); images without one are a class as well.
    """
    chosen = np.zeros(len(labels), bool)
    if len(labels) <= count:
        chosen[:] = True
        return chosen
    # In an order by class, every step of N / count images takes one.
    order = np.random.default_rng(SEED).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    chosen[order[(np.arange(count) * len(labels)) // count]] = True
    return chosen


def tsne(components: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) that begins with the first two components.

    Args:
        components: float32 (N, C), N at least FEWEST.

    Returns:
        float32 (N, 2).
    """
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(components) - 1) / 3)
    layout = TSNE(2, perplexity=perplexity, init=_beginning(components, 1e-4), random_state=SEED)
    return layout.fit_transform(components).astype(np.float32)


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def umap(components: np.ndarray) -> np.ndarray:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426) that begins with the first two components.

    Args:
        components: float32 (N, C), N at least FEWEST.

    Returns:
        float32 (N, 2).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of TensorFlow, which this does not need
        from umap import UMAP

    layout = UMAP(
        n_neighbors=min(UMAP_NEIGHBORS, len(components) - 1),
        init=_beginning(components, 10.0),
        random_state=SEED,
        n_jobs=1,  # the only way to the same layout twice
    )
    return layout.fit_transform(components).astype(np.float32)


def placed(components: np.ndarray, fitted: np.ndarray, layout: np.ndarray) -> np.ndarray:
    """Where images lie on a layout: among the nearest fitted ones, weighted by closeness.

    The weight is one over the squared distance (Shepard 1968), so that a copy of a fitted image
    lies on it. Where the nearest lie in several places, the mean of all would lie in none: only the
    half around the most central one counts.

    Args:
        components: of the images, float32 (N, C).
        fitted: of the fitted images, float32 (F, C).
        layout: of the fitted images, float32 (F, 2).

    Returns:
        float32 (N, 2).
    """
    if not len(components):
        return np.zeros((0, 2), np.float32)
    points, others = torch.from_numpy(fitted), torch.from_numpy(components)
    # The largest x y - y y / 2 belongs to the smallest distance.
    lengths = -points.square().sum(1, keepdim=True) / 2
    index, _ = nearest(
        torch.cat([others, torch.ones(len(others), 1)], 1),
        torch.cat([points, lengths], 1),
        AMONG,
    )
    # From differences: what is left of large products would be no distance of a copy.
    squared = np.stack(
        [np.square(components - fitted[column]).sum(1) for column in index.numpy().T], axis=1
    ).astype(np.float64)
    weights = 1 / np.maximum(squared, TINY * max(squared.mean(), np.finfo(np.float32).tiny))
    near = layout[index.numpy()].astype(np.float64)  # (N, k, 2)
    apart = np.linalg.norm(near[:, :, None] - near[:, None], axis=3)
    central = np.einsum("nij,nj->ni", apart, weights).argmin(1)
    apart = apart[np.arange(len(near)), central]  # (N, k), from the central one
    weights *= apart <= np.median(apart, axis=1, keepdims=True)
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("nk,nkd->nd", weights, near).astype(np.float32)


def _beginning(components: np.ndarray, spread: float) -> np.ndarray:
    """The first two components, the first with a standard deviation of `spread`."""
    first = components[:, :2].astype(np.float32)
    if first.shape[1] < 2:
        first = np.concatenate([first, np.zeros_like(first)], axis=1)
    return first / first[:, 0].std() * np.float32(spread)
