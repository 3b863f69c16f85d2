"""Conformal sets: classes that cannot be excluded, so that the true one is among them as often as
was asked for, whatever the model.

The guarantee: if the images to come are like those the quantiles come from (exchangeable) and the
same model answers, the true class is in the set with at least the wanted probability, on average
over images and over draws of the calibration images (Vovk et al. 2005; Angelopoulos and Bates 2021,
arXiv:2107.07511). The quantiles of a run come from its folds' models, and its final model has
learned from more images: for it the guarantee is a good guess, and what was seen is reported
(`crossed_coverage`). A set may be empty: then no class comes near what the model is used to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelwise.errors import OptionError
from labelwise.measure.scoring import Floats, check_rows

COVERAGES = (0.8, 0.9, 0.95, 0.98, 0.99)  # that a model keeps quantiles for
#: How a class is scored; the less, the sooner it is in the set.
METHODS = {
    "lac": "one minus the probability of the class (Sadinle et al. 2019, arXiv:1609.00451)",
    "aps": "probability of the class and all more probable ones (Romano et al. 2020, "
    "arXiv:2006.02544)",
    "raps": "the same and a penalty for every class beyond the second (Angelopoulos et al. 2021, "
    "arXiv:2009.14193)",
    "per-class": "as lac, with a quantile for every class, so that the coverage holds in each",
}
USUAL = "lac"
PENALTY, FREE = 0.05, 2  # of raps: per rank beyond so many


def scores(proba: npt.ArrayLike, method: str, luck: npt.ArrayLike = 0.0) -> Floats:
    """How little every class fits; float64 (N, K), of probabilities (N, K).

    Args:
        luck: uniform on [0, 1), one per image (N,): so much of a class's own probability does not
            count in the sums of aps and raps. Without it the last class always has the sum 1, so
            that of two classes none can be excluded where one in ten answers is wrong.
    """
    check_method(method)
    values = np.asarray(proba, dtype=np.float64)
    if method in ("lac", "per-class"):
        return 1 - values
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    total = np.cumsum(ranked, axis=1) - np.asarray(luck).reshape(-1, 1) * ranked
    if method == "raps":
        total = total + PENALTY * np.maximum(np.arange(1, values.shape[1] + 1) - FREE, 0)
    result = np.empty_like(values)
    np.put_along_axis(result, order, total, axis=1)
    return result


def quantile(found: npt.ArrayLike, coverage: float) -> float:
    """The smallest score that a new one exceeds with a probability of at most 1 - coverage.

    Infinite where there are too few to say so: fewer than coverage / (1 - coverage).
    """
    values = np.sort(np.asarray(found, dtype=np.float64))
    place = math.ceil((len(values) + 1) * coverage - 1e-9)
    return float(values[place - 1]) if place <= len(values) else math.inf


def needed(coverage: float) -> int:
    """The fewest images that a quantile can come from."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def quantiles(
    labels: npt.ArrayLike, proba: npt.ArrayLike, coverage: float, method: str
) -> tuple[float, ...]:
    """Of held-out images: one for all classes, or with "per-class" one each; infinite if too few.

    Args:
        labels: int (N,), 0..K-1.
        proba: float (N, K), of images that the model has not learned from.
    """
    labels, proba = check_rows(labels, proba)
    own = scores(proba, method, lucks(len(labels)))[np.arange(len(labels)), labels]
    if method != "per-class":
        return (quantile(own, coverage),)
    return tuple(quantile(own[labels == k], coverage) for k in range(proba.shape[1]))


def lucks(images: int, seed: int = 0) -> Floats:
    """What chance adds to the scores of some images; float64 (N,), uniform on [0, 1)."""
    return np.random.default_rng(seed).random(images)


def sets(
    proba: npt.ArrayLike, limits: tuple[float, ...], method: str, luck: npt.ArrayLike
) -> npt.NDArray[np.bool_]:
    """Whether a class is in the set of an image; (N, K).

    Args:
        limits: what `quantiles` gives; beyond an infinite one nothing can be excluded.
        luck: as in `scores`, drawn apart from that of the images the limits come from.
    """
    # Sums of probabilities that are equal but for rounding count as equal.
    return scores(proba, method, luck) <= np.asarray(limits) + 1e-12


@dataclass(frozen=True)
class Coverage:
    """What sets come to on images that their quantiles do not come from.

    Attributes:
        covered: share of images whose class is in their set.
        size: mean number of classes in a set.
        empty: share of empty sets.
        single: share of sets of one class.
        worst: the smallest share covered among the classes that have FEWEST_OF_CLASS images; not a
            number if none has.
    """

    covered: float
    size: float
    empty: float
    single: float
    worst: float


FEWEST_OF_CLASS = 10


def crossed_coverage(
    labels: npt.ArrayLike, proba: npt.ArrayLike, parts: npt.ArrayLike, coverage: float, method: str
) -> Coverage:
    """Coverage and size of sets, for the images of every part with quantiles of all others.

    Args:
        labels, proba: of held-out images, each once; (N,) and (N, K).
        parts: (N,), two or more.
    """
    labels, proba = check_rows(labels, proba)
    parts = np.asarray(parts)
    inside, luck = np.empty(proba.shape, dtype=bool), lucks(len(labels), seed=1)
    for part in np.unique(parts):
        own = parts == part
        limits = quantiles(labels[~own], proba[~own], coverage, method)
        inside[own] = sets(proba[own], limits, method, luck[own])
    hit, size = inside[np.arange(len(labels)), labels], inside.sum(axis=1)
    classes = [hit[labels == k] for k in range(proba.shape[1])]
    many = [of.mean() for of in classes if len(of) >= FEWEST_OF_CLASS]
    return Coverage(
        float(hit.mean()),
        float(size.mean()),
        float((size == 0).mean()),
        float((size == 1).mean()),
        float(min(many, default=math.nan)),
    )


def check_coverage(coverage: float) -> str:
    """The name of a coverage among COVERAGES, as it stands in model.json.

    Raises:
        OptionError: it is none of them.
    """
    if coverage not in COVERAGES:
        known = ", ".join(map(str, COVERAGES))
        raise OptionError(f"coverage={coverage}: expected one of {known}.")
    return str(coverage)


def check_method(method: str) -> str:
    """Raises OptionError if there is no such way to score classes."""
    if method not in METHODS:
        raise OptionError(f"sets={method!r}: expected one of {', '.join(METHODS)}.")
    return method


def all_quantiles(
    labels: npt.ArrayLike, proba: npt.ArrayLike
) -> Mapping[str, Mapping[str, tuple[float, ...]]]:
    """Of every method and coverage, where there are images enough for every class of it."""
    return {
        method: {
            str(coverage): found
            for coverage in COVERAGES
            if all(map(math.isfinite, found := quantiles(labels, proba, coverage, method)))
        }
        for method in METHODS
    }
