"""Selective answers: how many images can be answered at which rate of errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from labelwise.errors import OptionError
from labelwise.measure.scoring import Floats, check_rows

ERRORS = (0.1, 0.05, 0.02, 0.01)  # rates that a model keeps thresholds for
STEPS = 50  # shares of the images that are tried as answered
DOUBT = 0.05  # probability that a threshold lets through more errors than it says, at most


@dataclass(frozen=True)
class RiskCoverage:
    """Errors among the images answered, by how many are: the surest first.

    Attributes:
        coverage: share of images answered, ascending; float64 (N,).
        risk: share of errors among them; float64 (N,).
        area: under the curve (AURC), in [0, 1]; 0 is best.
        best: the area that the same errors would have if they were the least sure images.
    """

    coverage: Floats
    risk: Floats
    area: float
    best: float


def risk_coverage(labels: npt.ArrayLike, proba: npt.ArrayLike) -> RiskCoverage:
    """The risk-coverage curve of confidence (Geifman and El-Yaniv 2017, arXiv:1705.08500).

    Images of the same confidence are answered together: each of them counts with their mean.

    Args:
        labels: int (N,), 0..K-1.
        proba: float (N, K).
    """
    confidence, wrong = _answers(labels, proba)
    order = np.argsort(-confidence, kind="stable")
    _, of, count = np.unique(-confidence[order], return_inverse=True, return_counts=True)
    even = (np.bincount(of, wrong[order]) / count)[of]
    number = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(even) / number
    sorted_ = np.cumsum(np.sort(wrong)) / number
    return RiskCoverage(number / len(wrong), risk, float(risk.mean()), float(sorted_.mean()))


def threshold(labels: npt.ArrayLike, proba: npt.ArrayLike, error: float) -> float | None:
    """The lowest confidence from which on answers are wrong at most so often; None if unknown.

    Thresholds are tested from strict ones on, each by an exact binomial bound, until one fails: all
    before it hold together with a probability of 1 - DOUBT (fixed-sequence testing from several
    starts that share the doubt: Angelopoulos et al. 2021, arXiv:2110.01052, section 3.2). One start
    with the fewest images that can show the rate would end at the first error among them. There is
    no threshold where too few images were judged: without any error it takes 149 for 0.02.

    Args:
        labels, proba: of held-out images, each once; (N,) and (N, K).
        error: highest share of wrong answers, in (0, 1).
    """
    confidence, wrong = _answers(labels, proba)
    order = np.argsort(-confidence, kind="stable")
    confidence, errors = confidence[order], np.cumsum(wrong[order])
    starts = _starts(len(confidence), error)
    answered = 0
    for start in starts:
        for count in np.unique(np.linspace(start, len(confidence), STEPS).astype(int)):
            # Equal confidences are answered together.
            last = int(np.searchsorted(-confidence, -confidence[count - 1], side="right"))
            if _error_at_most(int(errors[last - 1]), last, DOUBT / len(starts)) > error:
                break
            answered = max(answered, last)
    if not answered:
        return None
    return float(confidence[answered - 1]) if answered < len(confidence) else 0.0


def _starts(images: int, error: float) -> list[int]:
    """Numbers of answers that tests begin with, each four times the one before."""
    count = 1
    while fewest_answered(error, DOUBT / (count + 1)) * 4**count <= images:
        count += 1
    first = fewest_answered(error, DOUBT / count)
    return [first * 4**number for number in range(count)] if first <= images else []


def _error_at_most(errors: int, answers: int, doubt: float) -> float:
    """Upper limit of an error rate, at level 1 - doubt (Clopper and Pearson 1934)."""
    if errors == answers:
        return 1.0
    return float(betaincinv(errors + 1, answers - errors, 1 - doubt))


def fewest_answered(error: float, doubt: float = DOUBT) -> int:
    """Images without an error that the rate can be shown on."""
    return int(np.ceil(np.log(doubt) / np.log1p(-error)))


def thresholds(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Mapping[str, float]:
    """Of every rate of ERRORS, as text ("0.02"), where one is known."""
    found = {str(error): threshold(labels, proba, error) for error in ERRORS}
    return {error: value for error, value in found.items() if value is not None}


@dataclass(frozen=True)
class Answered:
    """What a threshold comes to on images that it does not come from.

    Attributes:
        share: of images answered.
        error: share of wrong ones among them; not a number if none is.
    """

    share: float
    error: float


def crossed_answers(
    labels: npt.ArrayLike, proba: npt.ArrayLike, parts: npt.ArrayLike, error: float
) -> Answered:
    """For the images of every part with the threshold of all others; see `crossed_coverage`."""
    labels, proba = check_rows(labels, proba)
    confidence, wrong = _answers(labels, proba)
    parts = np.asarray(parts)
    said = np.zeros(len(labels), dtype=bool)
    for part in np.unique(parts):
        own = parts == part
        found = threshold(labels[~own], proba[~own], error)
        said[own] = found is not None and confidence[own] >= found
    return Answered(float(said.mean()), float(wrong[said].mean()) if said.any() else np.nan)


def check_error(error: float) -> str:
    """The name of a rate among ERRORS, as it stands in model.json.

    Raises:
        OptionError: it is none of them.
    """
    if error not in ERRORS:
        known = ", ".join(map(str, ERRORS))
        raise OptionError(f"max-error={error}: expected one of {known}.")
    return str(error)


def _answers(labels: npt.ArrayLike, proba: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Confidence, and 1 where the most probable class is not the label; both (N,)."""
    labels, proba = check_rows(labels, proba)
    return proba.max(axis=1), (proba.argmax(axis=1) != labels).astype(np.int64)
