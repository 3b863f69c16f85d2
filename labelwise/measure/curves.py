"""ROC and precision-recall curves: per class against the rest, and averaged.

All are exact, ties included: equal probabilities pass the threshold together. Conventions:

* A ROC curve has fall-out as x and recall as y; between two thresholds it is a straight line, what
  a coin between the two decides (Fawcett 2006). Its area is the AUROC.
* A precision-recall curve has recall as x and precision as y; it is made of steps: each recall has
  the precision of the first threshold that reaches it. Straight lines would promise what no
  threshold gives (Davis and Goadrich 2006). Its area is the average precision.
* "micro" takes every pair of a row and a class as a decision of its own. "macro" is the mean of
  the classes' curves at every x; its area is the mean of their areas, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from labelwise.errors import DataError, OptionError
from labelwise.measure.scoring import Floats, Scorer

Of = int | Literal["micro", "macro"]

TOLERANCE = 0.002  # how far a thinned curve may lie from the whole one; half a pixel on a page


@dataclass(frozen=True)
class Curve:
    """What all thresholds give, the strictest first.

    Attributes:
        x, y: fractions, float64 (T,); x never falls.
        thresholds: at or above which a row is taken for the class, float64 (T,), the first of them
            infinite; None for a macro average, where every class has its own.
        area: under the curve; NaN does not occur.
    """

    x: Floats
    y: Floats
    thresholds: Floats | None
    area: float


def roc_curve(labels: npt.ArrayLike, proba: npt.ArrayLike, of: Of) -> Curve:
    """Recall over fall-out, from (0, 0) to (1, 1).

    Args:
        labels: int (N,), 0..K-1.
        proba: float (N, K), rows sum to 1.
        of: a class, or "micro" or "macro".

    Raises:
        DataError: labels or proba cannot be used, or the class has no labels or all of them.
        OptionError: there is no such class or average.

    >>> curve = roc_curve([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], of=1)
    >>> curve.x.tolist(), curve.y.tolist(), curve.area
    ([0.0, 0.0, 0.0, 1.0], [0.0, 0.5, 1.0, 1.0], 1.0)
    """
    return roc_of(Scorer(labels, proba), of)


def pr_curve(labels: npt.ArrayLike, proba: npt.ArrayLike, of: Of) -> Curve:
    """Precision over recall, from recall 0 to 1; by convention it begins at (0, 1).

    Precision holds to the left: up to a recall of x[t], above x[t - 1], it is y[t].

    Args, raises: as in `roc_curve`; a class may have all labels.
    """
    return pr_of(Scorer(labels, proba), of)


def roc_of(scorer: Scorer, of: Of) -> Curve:
    """`roc_curve` of what a Scorer holds."""
    if of == "macro":
        return _mean_roc([roc_of(scorer, k) for k in _told_apart(scorer)])
    threshold, own, every = _counted(scorer, of)
    x, y = (every - own) / (every - own)[-1], own / own[-1]
    return Curve(x, y, threshold, float(np.trapezoid(y, x)))


def pr_of(scorer: Scorer, of: Of) -> Curve:
    """`pr_curve` of what a Scorer holds."""
    if of == "macro":
        return _mean_pr([pr_of(scorer, k) for k in np.unique(scorer.labels).tolist()])
    threshold, own, every = _counted(scorer, of, alone=True)
    x, y = own / own[-1], own / np.maximum(every, 1)
    y[0] = 1.0
    return Curve(x, y, threshold, float(np.diff(x) @ y[1:]))


def _told_apart(scorer: Scorer) -> list[int]:
    """The classes that have labels and are not alone."""
    found = np.unique(scorer.labels).tolist()
    if len(found) == 1:
        raise DataError(
            f"all labels are of class {found[0]}: there is no ROC curve. Expected images of two "
            "classes or more."
        )
    return found


def _counted(scorer: Scorer, of: Of, *, alone: bool = False) -> tuple[Floats, Floats, Floats]:
    """Per threshold, the strictest first: itself, rows of the class at or above it, and all."""
    score, positive = _decisions(scorer, of)
    if not positive.any():
        raise DataError(f"class {of} has no labels: it has no curve. Choose a class with labels.")
    if positive.all() and not alone:
        raise DataError(
            f"all labels are of class {of}: it has no ROC curve. Expected images of others as well."
        )
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)  # of equal ones
    begin = np.zeros(1)
    return (
        np.append(np.inf, score[last]),
        np.concatenate([begin, hits[last]]),
        np.concatenate([begin, last + 1]),
    )


def _decisions(scorer: Scorer, of: Of) -> tuple[Floats, npt.NDArray[np.bool_]]:
    if of == "micro":
        own = scorer.labels[:, None] == np.arange(scorer.classes)
        return scorer.proba.ravel(), own.ravel()
    if not isinstance(of, int | np.integer) or not 0 <= of < scorer.classes:
        raise OptionError(
            f"there is no curve of {of!r}; expected a class, 0 to {scorer.classes - 1}, 'micro' or "
            "'macro'."
        )
    return scorer.proba[:, of], scorer.labels == of


def _mean_roc(curves: list[Curve]) -> Curve:
    """Mean of lines; where one rises upright, the mean has a lower and an upper end at that x."""
    parts = [corners(np.column_stack([curve.x, curve.y])).T for curve in curves]
    grid = np.unique(np.concatenate([x for x, _ in parts]))
    # np.interp takes the last of equal x, so that mirrored it takes the first.
    low = np.mean([np.interp(-grid, -x[::-1], y[::-1]) for x, y in parts], axis=0)
    high = np.mean([np.interp(grid, x, y) for x, y in parts], axis=0)
    x, y = np.repeat(grid, 2), np.column_stack([low, high]).ravel()
    return Curve(x, y, None, float(np.trapezoid(y, x)))


def _mean_pr(curves: list[Curve]) -> Curve:
    """Mean of steps."""
    grid = np.unique(np.concatenate([curve.x for curve in curves]))
    y = np.mean([curve.y[np.searchsorted(curve.x, grid)] for curve in curves], axis=0)
    return Curve(grid, y, None, float(np.diff(grid) @ y[1:]))


def steps(curve: Curve) -> Floats:
    """The corners of a precision-recall curve as it is drawn, float64 (P, 2)."""
    rises = np.flatnonzero(np.diff(curve.x) > 0) + 1  # at equal recall the first threshold counts
    x, y = curve.x[rises], curve.y[rises]
    begins = np.append(0.0, x[:-1])
    return np.column_stack([np.column_stack([begins, x]).ravel(), np.repeat(y, 2)])


def corners(points: Floats) -> Floats:
    """A line without the points that lie upright or level between their neighbors; (P, 2)."""
    equal = points[1:] == points[:-1]  # (P - 1, 2): whether a coordinate stays
    between = (equal[1:] & equal[:-1]).any(axis=1)
    return points[np.concatenate([[True], ~between, [True]])]


def thinned(points: Floats, tolerance: float = TOLERANCE) -> Floats:
    """A line with fewer points, none of the old line further than `tolerance` from the new one.

    Source: Douglas and Peucker (1973); with the distance to the chord, not to its extension.

    Args:
        points: float64 (P, 2), P of 2 or more; their first and last stay.
    """
    points = corners(points)
    keep = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    open_ = [(0, len(points) - 1)]
    while open_:
        first, last = open_.pop()
        if last - first < 2:
            continue
        away = _distances(points[first + 1 : last], points[first], points[last])
        worst = first + 1 + int(away.argmax())
        if away[worst - first - 1] > tolerance:
            keep[worst] = True
            open_ += pairwise((first, worst, last))
    return points[keep]


def _distances(points: Floats, begin: Floats, end: Floats) -> Floats:
    """Of points (P, 2) from the stretch between two points; (P,)."""
    along = end - begin
    length = float(along @ along)
    share = np.clip((points - begin) @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.asarray(np.hypot(*(points - begin - share[:, None] * along).T))
