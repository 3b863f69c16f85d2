"""Bands around ROC and precision-recall curves: how far chance in the images moves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelwise.measure.curves import Of
from labelwise.measure.evaluation import rank_resamples
from labelwise.measure.intervals import check_level, check_resamples, resampled_weights
from labelwise.measure.scoring import Floats, Scorer

GRID = np.linspace(0, 1, 41)


@dataclass(frozen=True)
class Band:
    """Limits of y at every x of GRID; float64 (G,) each."""

    low: Floats
    high: Floats


def curve_bands(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 500,
    level: float = 0.95,
) -> dict[Of, tuple[Band, Band]]:
    """The bands of the ROC and of the precision-recall curve, of every class and average.

    Vertical and pointwise: at each x of GRID the quantiles of y over bootstrap resamples of the
    groups, widened to hold the curve itself. A whole curve leaves such a band more often than
    1 - level. Where all resamples agree, as around a perfect curve, the band has no width: look at
    the interval of the area there.

    Args:
        labels: int (N,), 0..K-1.
        proba: float (N, K), rows sum to 1.
        groups: (N,) what belongs together, such as the rows of an image and its duplicates; by
            default every row alone.
        seed, resamples, level: as in `evaluate`; fewer resamples on large data.

    Returns:
        Under every class that has labels and is not alone, "micro" and "macro"; empty if there are
        labels of one class only.

    Raises:
        DataError: labels or proba cannot be used.
        OptionError: level or resamples cannot be used.
    """
    check_level(level)
    check_resamples(resamples)
    scorer = Scorer(labels, proba)
    index = np.arange(scorer.rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    if len(np.unique(scorer.labels)) == 1:
        return {}
    resamples = rank_resamples(scorer.rows, 2 * scorer.classes, resamples)
    drawn = [
        _heights(scorer, np.ascontiguousarray(weights[:, index].T))
        for weights in resampled_weights(int(index.max()) + 1, resamples, seed, scorer.rows)
    ]
    own = _heights(scorer, np.ones((scorer.rows, 1)))
    return {
        of: (
            _band(own[of][0], np.concatenate([part[of][0] for part in drawn]), level),
            _band(own[of][1], np.concatenate([part[of][1] for part in drawn]), level),
        )
        for of in own
    }


def _band(own: Floats, values: Floats, level: float) -> Band:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Band(np.minimum(low, own[0]), np.maximum(high, own[0]))


def _heights(scorer: Scorer, columns: Floats) -> Mapping[Of, tuple[Floats, Floats]]:
    """Recall at each fall-out, and precision at each recall, of GRID; (B, G) each.

    NaN where a resample lacks the class, or all others; a macro average leaves the class out.
    """
    found: dict[Of, tuple[Floats, Floats]] = {
        k: _read(*scorer.ranking(k).above(columns)) for k in np.unique(scorer.labels).tolist()
    }
    macro = tuple(_mean(np.stack([pair[i] for pair in found.values()])) for i in (0, 1))
    return {**found, "micro": _read(*scorer.micro.above(columns)), "macro": (macro[0], macro[1])}


def _mean(values: Floats) -> Floats:
    """Over the first axis, of what is not NaN."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _read(own: Floats, every: Floats) -> tuple[Floats, Floats]:
    """The curves of each column at GRID, from the weights above each cut, (S + 1, B)."""
    roc = np.full((own.shape[1], len(GRID)), np.nan)
    pr = roc.copy()
    for b, (hits, taken) in enumerate(zip(own.T, every.T, strict=True)):
        total, rest = hits[-1], taken[-1] - hits[-1]
        if total <= 0 or rest <= 0:
            continue
        roc[b] = np.interp(GRID, (taken - hits) / rest, hits / total)
        # A little less than the recall asked for, more than none: sums are rounded.
        first = np.searchsorted(hits, np.maximum(GRID - 1e-9, 1e-9) * total)
        pr[b] = hits[first] / taken[first]
    return roc, pr
