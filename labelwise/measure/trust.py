"""Trust: what temperatures, sets and thresholds come to on images that they do not come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelwise.measure.conformal import METHODS, Coverage, crossed_coverage
from labelwise.measure.reliability import Numbers
from labelwise.measure.selective import ERRORS, Answered, crossed_answers, risk_coverage
from labelwise.measure.temperature import crossed, temperature_of

COVERAGE = 0.9  # of the sets that are reported


@dataclass(frozen=True)
class Trust:
    """How far answers can be relied on.

    Attributes:
        temperature: of all images together; 1 where another one helps nothing.
        before, after: errors of the probabilities as they are, and at temperatures found without
            the images they are for.
        sets: method -> what conformal sets come to that were asked to hold the true class in
            COVERAGE of the images.
        answers: highest share of errors, as text -> what answering only sure images comes to.
        area, best_area: see `RiskCoverage`.
        count: images.
    """

    temperature: float
    before: Numbers
    after: Numbers
    sets: Mapping[str, Coverage]
    answers: Mapping[str, Answered]
    area: float
    best_area: float
    count: int

    @classmethod
    def of(cls, labels: npt.ArrayLike, proba: npt.ArrayLike, parts: npt.ArrayLike) -> Trust:
        """From held-out images, each once.

        Args:
            labels: int (N,), 0..K-1.
            proba: float (N, K).
            parts: to cross-fit over, (N,).
        """
        temperature = temperature_of(labels, proba, parts)
        tempered = proba if temperature == 1 else crossed(labels, proba, parts)
        before, curve = Numbers.of(labels, proba), risk_coverage(labels, tempered)
        several = len(np.unique(np.asarray(parts))) > 1
        return cls(
            temperature,
            before,
            before if temperature == 1 else Numbers.of(labels, tempered),
            {m: crossed_coverage(labels, tempered, parts, COVERAGE, m) for m in METHODS}
            if several
            else {},
            {str(e): crossed_answers(labels, tempered, parts, e) for e in ERRORS}
            if several
            else {},
            curve.area,
            curve.best,
            len(curve.risk),
        )

    def to_json(self) -> dict[str, Any]:
        """For leaderboard.json; what is undefined is None."""
        return json_safe({**asdict(self), "coverage": COVERAGE})


def json_safe(value: Any) -> Any:
    """NaN becomes None: JSON has no word for it."""
    if isinstance(value, Mapping):
        return {name: json_safe(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
