"""Calibration: what held-out images say about how sure a model may be of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from labelwise.errors import OptionError
from labelwise.measure import conformal, selective
from labelwise.measure.temperature import scaled, temperature_of

Limits = tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """What answers may rest on; of held-out images, each once.

    Attributes:
        temperature: divides the logits before the softmax.
        sets: method -> coverage -> the highest scores that a class of a conformal set may have
            (see `conformal.quantiles`), where there were images enough.
        answers: highest share of errors -> confidence from which on an image is answered, where
            one is known (see `selective.threshold`).
        count: how many images all of this rests on.
    """

    temperature: float
    sets: Mapping[str, Mapping[str, Limits]]
    answers: Mapping[str, float]
    count: int

    @classmethod
    def of(cls, labels: npt.ArrayLike, proba: npt.ArrayLike, parts: npt.ArrayLike) -> Calibration:
        """From labels (N,), probabilities (N, K) and the parts to cross-fit over, (N,)."""
        temperature = temperature_of(labels, proba, parts)
        proba = scaled(proba, temperature)
        return cls(
            temperature,
            conformal.all_quantiles(labels, proba),
            selective.thresholds(labels, proba),
            len(proba),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """The other way round."""
        sets = {
            method: {coverage: tuple(limits) for coverage, limits in of.items()}
            for method, of in values["sets"].items()
        }
        return cls(values["temperature"], sets, dict(values["answers"]), values["count"])

    def to_json(self) -> dict[str, Any]:
        """For model.json."""
        return {
            "temperature": self.temperature,
            "sets": {
                method: {coverage: list(limits) for coverage, limits in of.items()}
                for method, of in self.sets.items()
            },
            "answers": dict(self.answers),
            "count": self.count,
        }

    def limits(self, coverage: float, method: str) -> Limits:
        """Of the sets of a coverage; for `conformal.sets`.

        Raises:
            OptionError: there are none of such a coverage or method, or too few images were judged.
        """
        name = conformal.check_coverage(coverage)
        known = self.sets[conformal.check_method(method)]
        if name not in known:
            each = " of every class" if method == "per-class" else ""
            raise OptionError(
                f"coverage={coverage}: sets that hold the true class so often take at least "
                f"{conformal.needed(coverage)} held-out images{each}, and this model was judged "
                f"on {self.count}. {_able(known)} Label more images and train again."
            )
        return known[name]

    def confidence(self, error: float) -> float:
        """From which on an image is answered, so that at most such a share of answers is wrong.

        Raises:
            OptionError: there is no such share, or none is known that keeps it.
        """
        name = selective.check_error(error)
        if name not in self.answers:
            raise OptionError(
                f"max-error={error}: no confidence is known from which on so few answers are "
                f"wrong: too many of the {self.count} held-out images were wrong, or they are too "
                f"few to show it (without any error it takes {selective.fewest_answered(error)}). "
                f"{_able(self.answers)}"
            )
        return self.answers[name]


def _able(known: Mapping[str, Any]) -> str:
    return f"It knows {', '.join(known)}." if known else "It knows none."
