"""Selection: how much each of several models counts in their mixture, by held-out answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelwise.measure.scoring import Floats
from labelwise.measure.temperature import LEAST, scaled, temperature_of

ROUNDS = 50  # weights are multiples of one part in so many, or in fewer


@dataclass(frozen=True)
class Mixture:
    """Weights of models, and the temperatures at which they answer.

    Attributes:
        weights: float64 (M,), in [0, 1], sum 1; a model of weight 0 is not needed.
        temperatures: float64 (M,).
    """

    weights: Floats
    temperatures: Floats

    def __call__(self, probas: Floats) -> Floats:
        """Probabilities of the models (M, N, K), as they were before any temperature -> (N, K)."""
        pairs = zip(probas, self.temperatures, strict=True)
        answers = np.stack([scaled(proba, temperature) for proba, temperature in pairs])
        return np.asarray(np.tensordot(self.weights, answers, axes=1))


def greedy_weights(truth: npt.ArrayLike, rounds: int = ROUNDS) -> Floats:
    """Weights of models whose mixture has little log loss; float64 (M,), sum 1.

    Every round adds the model, with replacement, after which the mean of all that were added has
    the least log loss; the best of all rounds is taken. Equal ones go to the first model.

    Args:
        truth: float (M, N), what each of M models gives to the true class of N images.

    Source: Caruana et al. (2004), Ensemble Selection from Libraries of Models, section 2.
    """
    given = np.maximum(np.asarray(truth, dtype=np.float64), LEAST)
    count = np.zeros(len(given))
    total = np.zeros(given.shape[1])
    best, weights = np.inf, count
    for done in range(1, rounds + 1):
        losses = -np.log((total + given) / done).mean(axis=1)
        chosen = int(losses.argmin())
        count[chosen] += 1
        total += given[chosen]
        if losses[chosen] < best - 1e-12:
            best, weights = losses[chosen], count / done
    return weights


def mixture_of(labels: npt.ArrayLike, probas: npt.ArrayLike, parts: npt.ArrayLike) -> Mixture:
    """How to mix models by their answers for held-out images.

    Args:
        labels: int (N,), 0..K-1.
        probas: float (M, N, K), of images that the models have not learned from.
        parts: (N,), over which temperatures are cross-fitted to see whether they help.
    """
    labels, probas = np.asarray(labels), np.asarray(probas, dtype=np.float64)
    temperatures = [temperature_of(labels, proba, parts) for proba in probas]
    pairs = zip(probas, temperatures, strict=True)
    rows = np.arange(len(labels))
    truth = np.stack([scaled(proba, temperature)[rows, labels] for proba, temperature in pairs])
    return Mixture(greedy_weights(truth), np.array(temperatures))


def crossed_mixture(
    labels: npt.ArrayLike, probas: npt.ArrayLike, parts: npt.ArrayLike
) -> tuple[Floats, Sequence[Mixture]]:
    """Answers of mixtures that have not seen the images they answer for.

    Returns:
        float64 (N, K), and the mixture of every part, found on all others.
    """
    labels, probas = np.asarray(labels), np.asarray(probas, dtype=np.float64)
    parts = np.asarray(parts)
    result = np.empty(probas.shape[1:])
    mixtures = []
    for part in np.unique(parts):
        own = parts == part
        mixture = mixture_of(labels[~own], probas[:, ~own], parts[~own])
        result[own] = mixture(probas[:, own])
        mixtures.append(mixture)
    return result, mixtures
