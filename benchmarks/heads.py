"""Seconds of the logistic path of `probe` against scikit-learn's LogisticRegressionCV.

    python benchmarks/heads.py --images 5000 --width 704 --rounds 3
    python benchmarks/heads.py --images 50000 --peer-images 5000 --rounds 1

Fits 8 strengths x 5 folds of a regression of 10 classes on synthetic correlated features, both in
turn. Where the peer gets fewer images than labelwise its seconds are multiplied by the ratio of the
images, which is marked as an extrapolation; labelwise is then timed at both numbers of images. Says
as well how far labelwise's objective is from scikit-learn's optimum (relative, float64), and how
many predictions differ, at every strength on the first fold.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from labelwise.nn.logistic import Heads, LogisticSolver

CLASSES, FOLDS = 10, 5
STRENGTHS = np.logspace(-3, 1, 8)


def main() -> None:
    """Print seconds, ratios and how far the solutions are apart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--peer-images", type=int)
    parser.add_argument("--width", type=int, default=704)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    peers = options.peer_images or options.images
    features, labels = embeddings_like(options.images, options.width)
    some, few = features[:peers], labels[:peers]
    ours, theirs, large = [], [], []
    for _ in range(options.rounds):
        ours.append(timed(lambda: path(some, few)))
        theirs.append(timed(lambda: scikit_learn(some, few)))
        if peers < options.images:
            large.append(timed(lambda: path(features, labels)))
    print(
        f"{peers} x {options.width}, {CLASSES} classes, {len(STRENGTHS)} strengths x {FOLDS} folds"
    )
    print(f"labelwise {spread(ours)}; LogisticRegressionCV {spread(theirs)}")
    print("ratio " + spread([b / a for a, b in zip(ours, theirs, strict=True)]))
    if large:
        scale = options.images / peers
        print(f"{options.images} images: labelwise {spread(large)}")
        found = [b * scale / a for a, b in zip(large, theirs, strict=True)]
        print(f"ratio (the peer's seconds extrapolated x {scale:g}) {spread(found)}")
    compare(some, few)


def embeddings_like(images: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features, not separable: float32 (images, width), int64 (images,)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, images)
    mix = rng.standard_normal((width, width)) * np.linspace(1, 0.02, width) / np.sqrt(width)
    centers = rng.standard_normal((CLASSES, width)) * 0.1
    noise = rng.standard_normal((images, width), dtype=np.float32)
    features = (centers[labels] + noise) @ mix.T.astype(np.float32)
    return ((features - features.mean(0)) / features.std(0)).astype(np.float32), labels


def folds(images: int) -> np.ndarray:
    """The fold of every image; int64 (images,)."""
    return np.arange(images) % FOLDS


def path(features: np.ndarray, labels: np.ndarray) -> list[Heads]:
    """All folds at once, from the strongest to the weakest; by strength."""
    dealt = torch.from_numpy(folds(len(labels)))
    weights = torch.stack([(dealt != fold).float() for fold in range(FOLDS)])
    solver = LogisticSolver(torch.from_numpy(features), CLASSES)
    return list(solver.path(torch.from_numpy(labels), weights, STRENGTHS[::-1].tolist()))[::-1]


def scikit_learn(features: np.ndarray, labels: np.ndarray) -> object:
    """The same by the peer, with its default solver, warm starts along the path and all cores."""
    dealt = folds(len(labels))
    parts = [
        (np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)) for fold in range(FOLDS)
    ]
    count = len(labels) * (FOLDS - 1) / FOLDS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegressionCV(
            Cs=1 / (STRENGTHS * count), cv=parts, max_iter=1000, refit=False
        ).fit(features, labels)


def compare(features: np.ndarray, labels: np.ndarray) -> None:
    """Print how far the solutions of the first fold are from scikit-learn's optimum."""
    heads, used = path(features, labels), folds(len(labels)) != 0
    inside, classes = features[used].astype(np.float64), labels[used]
    mean, deviation = inside.mean(0), inside.std(0)
    x, every = (inside - mean) / deviation, (features - mean) / deviation
    for number, strength in enumerate(STRENGTHS):
        raw, bias = (
            part[0].double().numpy() for part in (heads[number].weight, heads[number].bias)
        )
        weight, bias = raw * deviation[:, None], bias + mean @ raw
        model = LogisticRegression(C=1 / (strength * len(x)), tol=1e-8, max_iter=5000)
        model.fit(x, classes)
        mine = objective(x, classes, weight, bias, strength)
        theirs = objective(x, classes, model.coef_.T, model.intercept_, strength)
        apart = ((every @ weight + bias).argmax(1) != model.predict(every)).sum()
        print(
            f"strength {strength:.3g}: objective {mine / theirs - 1:+.1e} of scikit-learn's, "
            f"{apart} of {len(every)} predictions differ"
        )


def objective(
    x: np.ndarray, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray, strength: float
) -> float:
    """The mean cross-entropy and the penalty, from the formula."""
    logits = x @ weight + bias
    top = logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[range(len(x)), labels]
    return float(losses.mean() + strength / 2 * np.square(weight).sum())


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float]) -> str:
    """Median, and least to most."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
