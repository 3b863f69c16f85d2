"""Metrics from counts alone: what is left of predictions whose probabilities were not kept."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt

from labelwise.errors import DataError
from labelwise.measure.metrics import check_beta
from labelwise.measure.scoring import Average, Counts, Floats

AVERAGES: tuple[Average, ...] = get_args(Average)
COUNTED = ("precision", "recall", "f_beta", "specificity", "fall_out")


def counts_of(confusion: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """TP, FP and FN of each class, (..., K) each, from confusion matrices (..., K, K), rows true.

    >>> [part.tolist() for part in counts_of([[5, 1], [2, 4]])]
    [[5.0, 4.0], [2.0, 1.0], [1.0, 2.0]]
    """
    cells = np.asarray(confusion, dtype=np.float64)
    if cells.ndim < 2 or cells.shape[-1] != cells.shape[-2]:
        raise DataError(
            f"confusion matrices have shape {cells.shape}; expected (..., K, K), rows true."
        )
    tp = np.diagonal(cells, axis1=-2, axis2=-1).copy()
    return tp, cells.sum(axis=-2) - tp, cells.sum(axis=-1) - tp


def averages_of(
    tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, *, beta: float = 1.0
) -> dict[str, Floats]:
    """Micro, macro and weighted averages of COUNTED, by the conventions of `metrics`.

    Args:
        tp, fp, fn: of each class, (..., K), where every row has one label and one prediction.
        beta: of F: recall counts beta times as much as precision.

    Returns:
        "micro_precision", ..., "weighted_fall_out", each (...); NaN where undefined.

    Raises:
        DataError: the shapes differ, or the counts cannot be those of one label per row.
        OptionError: beta is not a positive number.
    """
    counts = _counts(tp, fp, fn, beta)
    return {
        f"{how}_{name}": counts.average(name, how, beta) for how in AVERAGES for name in COUNTED
    }


def per_class_of(
    tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, *, beta: float = 1.0
) -> dict[str, Floats]:
    """COUNTED of each class, (..., K) each. Arguments and errors as in `averages_of`."""
    counts = _counts(tp, fp, fn, beta)
    return {name: counts.per_class(name, beta) for name in COUNTED}


def _counts(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, beta: float) -> Counts:
    check_beta(beta)
    tp, fp, fn = (np.asarray(part, dtype=np.float64) for part in (tp, fp, fn))
    if not tp.shape == fp.shape == fn.shape or tp.ndim == 0:
        raise DataError(
            f"tp, fp and fn have shapes {tp.shape}, {fp.shape} and {fn.shape}; expected the same, "
            "one number per class in the last place."
        )
    if (fp.sum(axis=-1) != fn.sum(axis=-1)).any():
        raise DataError(
            "fp and fn have different sums over the classes; with one label and one prediction per "
            "row each mistake counts once in either."
        )
    labeled = tp + fn
    return Counts(tp, labeled, tp + fp, labeled.sum(axis=-1, keepdims=True))
