"""Novelty: how unlike what was learned an image is, from when on it is unknown, and how well
that tells images of known classes from others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from labelwise.errors import OptionError
from labelwise.measure.intervals import Interval, bca
from labelwise.measure.metrics import auroc
from labelwise.measure.scoring import Floats

SHARES = (0.1, 0.05, 0.02, 0.01)  # of known images that may be called unknown
USUAL = 0.05
LEAST = -1.0  # deviations: a part that is lower still does not make up for the other one


class Scale(NamedTuple):
    """What is subtracted, and what divides then."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Novelty:
    """From energy and distance of images to one number, and its thresholds.

    Both are brought to mean 0 and deviation 1 on held-out images of known classes, and added:
    energy tells well what is between known classes, the distance to what was learned from tells
    well what is far from all, and their sum both (docs/results.md). Far from all, logits are often
    huge and the energy therefore low, which must not make up for the distance.

    Attributes:
        energy, distance: mean and deviation of held-out images.
        thresholds: by the share of known images that lie above, as text ("0.05"); a share that is
            too small for the number of held-out images has none.
    """

    energy: Scale
    distance: Scale
    thresholds: Mapping[str, float]

    @classmethod
    def of(cls, energy: npt.ArrayLike, distance: npt.ArrayLike) -> Novelty:
        """From held-out images of known classes, each once; both (N,), N at least 1.

        A threshold is the smallest value that an exchangeable new image of a known class exceeds
        with at most the given probability (Vovk et al. 2005, inductive conformal prediction).
        """
        rule = cls(_scale(energy), _scale(distance), {})
        found = np.sort(rule.scores(energy, distance))
        places = {share: math.ceil((len(found) + 1) * (1 - share) - 1e-9) for share in SHARES}
        thresholds = {
            str(share): float(found[place - 1])
            for share, place in places.items()
            if place <= len(found)
        }
        return cls(rule.energy, rule.distance, thresholds)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Novelty:
        """The other way round."""
        return cls(
            Scale(**values["energy"]), Scale(**values["distance"]), dict(values["thresholds"])
        )

    def to_json(self) -> dict[str, Any]:
        """For model.json."""
        return {
            "energy": self.energy._asdict(),
            "distance": self.distance._asdict(),
            "thresholds": dict(self.thresholds),
        }

    def scores(self, energy: npt.ArrayLike, distance: npt.ArrayLike) -> Floats:
        """The more, the more unlike; both (N,) -> float64 (N,)."""
        parts = ((energy, self.energy), (distance, self.distance))
        found = [(_floats(v) - mean) / width for v, (mean, width) in parts]
        return np.sum([np.maximum(part, LEAST) for part in found], axis=0)

    def threshold(self, share: float) -> float:
        """Above which an image is unknown; infinity for the share 0.

        Raises:
            OptionError: there is no threshold for such a share.
        """
        if share == 0:
            return math.inf
        if share not in SHARES:
            known = ", ".join(map(str, SHARES))
            raise OptionError(f"unknown={share}: expected one of {known}, or 0 for never.")
        if str(share) not in self.thresholds:
            raise OptionError(
                f"unknown={share}: this model was judged on too few images to know what only "
                f"{share:.0%} of them exceed. {self._able}"
            )
        return self.thresholds[str(share)]

    @property
    def _able(self) -> str:
        known = ", ".join(self.thresholds)
        return f"It knows {known}; 0 is never." if known else "Give 0: never."


def detection(
    known: npt.ArrayLike, unknown: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """How well scores tell unknown images from known ones, with bootstrap intervals over images.

    auroc: chance that an unknown image has a higher score than a known one.
    fpr@95: share of unknown images that pass where 95 % of the known ones do (Hendrycks and Gimpel
        2017, arXiv:1610.02136; Liang et al. 2018, arXiv:1706.02690).

    Args:
        known, unknown: scores, (N,) and (M,), the more, the more unlike.
    """
    ins, outs = _floats(known), _floats(unknown)
    labels = np.repeat([0, 1], [len(ins), len(outs)])
    scores = np.concatenate([ins, outs])
    levels, level = np.unique(scores, return_inverse=True)
    place = (level + 1) / (len(levels) + 1)  # in (0, 1), ties kept
    proba = np.stack([1 - place, place], axis=1)
    order = np.argsort(scores, kind="stable")

    def statistic(weights: Floats) -> dict[str, Floats]:
        return {
            "auroc": auroc(labels, proba, weights),
            "fpr@95": _passing(scores[order], labels[order], weights[:, order]),
        }

    found: dict[str, Interval] = bca(
        statistic, np.arange(len(labels)), resamples=resamples, seed=seed
    )
    return found


def _passing(scores: Floats, labels: npt.NDArray[np.int_], weights: Floats) -> Floats:
    """Weight of unknown ones up to the 95 % quantile of known ones; ascending scores, (B,)."""
    ins = np.cumsum(weights * (labels == 0), axis=1)
    outs = np.cumsum(weights * (labels == 1), axis=1)
    with np.errstate(invalid="ignore"):
        last = np.argmax(ins >= 0.95 * ins[:, -1:] - 1e-9, axis=1)
        end = np.searchsorted(scores, scores[last], side="right") - 1  # ties pass together
        return np.take_along_axis(outs, end[:, None], axis=1)[:, 0] / outs[:, -1]


def _scale(values: npt.ArrayLike) -> Scale:
    found = _floats(values)
    return Scale(float(found.mean()), float(found.std()) or 1.0)


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
