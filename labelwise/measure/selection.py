"""Selection: how much each of several models counts in their mixture, by held-out answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelwise.errors import DataError
from labelwise.measure.scoring import Floats, Ints
from labelwise.measure.temperature import FEWEST, LEAST, parts_of, scaled, temperature_of

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

    Raises:
        DataError: there is no image.

    Source: Caruana et al. (2004), Ensemble Selection from Libraries of Models, section 2.
    """
    given = np.maximum(np.asarray(truth, dtype=np.float64), LEAST)
    if not given.size:
        raise DataError("There is no held-out image to choose weights by.")
    count = np.zeros(len(given))
    total = np.zeros(given.shape[1])
    best, weights = np.inf, np.full(len(given), 1 / len(given))
    for done in range(1, rounds + 1):
        losses = -np.log((total + given) / done).mean(axis=1)
        chosen = int(losses.argmin())
        count[chosen] += 1
        total += given[chosen]
        if losses[chosen] < best - 1e-12:
            best, weights = losses[chosen], count / done
    return weights


@dataclass(frozen=True)
class HeldOut:
    """What M models answered for N held-out images.

    Attributes:
        labels: int64 (N,), 0..K-1.
        probas: float64 (M, N, K), of images that the models have not learned from.
        parts: whose images are never weighed by each other; int64 (N,), two or more.
        groups: of images that belong together; int64 (N,).
        counting: whose answers say something of the models; bool (N,).
    """

    labels: Ints
    probas: Floats
    parts: Ints
    groups: Ints
    counting: npt.NDArray[np.bool_]

    @property
    def tempered(self) -> bool:
        """Whether every part is large enough to be left out and temperatures still be found."""
        names, sizes = np.unique(self.parts[self.counting], return_counts=True)
        return len(names) > 1 and bool(sizes.sum() - sizes.max() >= FEWEST)

    def mixture(self, some: npt.NDArray[np.bool_] | None = None) -> Mixture:
        """How to mix the models by some of the images, or by all that count."""
        rows = np.flatnonzero(self.counting if some is None else self.counting & some)
        labels, probas = self.labels[rows], self.probas[:, rows]
        temperatures = [1.0] * len(probas)
        if self.tempered:
            parts = parts_of(self.parts[rows], self.groups[rows])
            temperatures = [temperature_of(labels, proba, parts) for proba in probas]
        pairs = zip(probas, temperatures, strict=True)
        truth = [scaled(proba, heat)[np.arange(len(rows)), labels] for proba, heat in pairs]
        return Mixture(greedy_weights(truth), np.array(temperatures))

    def crossed(self) -> tuple[Floats, dict[int, Mixture]]:
        """Answers of mixtures that have not seen the images they answer for.

        Returns:
            float64 (N, K), and the mixture of every part, found on all others.
        """
        result = np.empty(self.probas.shape[1:])
        mixtures = {}
        for part in np.unique(self.parts):
            own = self.parts == part
            mixtures[int(part)] = mixture = self.mixture(~own)
            result[own] = mixture(self.probas[:, own])
        return result, mixtures
