"""Counts and metrics per epoch, from the confusion matrices that history.parquet keeps.

history = pd.read_parquet("RUN/trials/cnn/labels-all_repeat-0_fold-0/history.parquet")
epoch_metrics(history, beta=2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from labelwise.errors import DataError
from labelwise.measure.counts import averages_of, counts_of
from labelwise.measure.scoring import Floats

PARTS = ("train", "validation")


@dataclass(frozen=True)
class Epochs:
    """What one part of the data came to in each epoch of one training.

    Attributes:
        epoch: from 1, int64 (E,).
        tp, fp, fn: of each class, float64 (E, K).
    """

    epoch: np.ndarray
    tp: Floats
    fp: Floats
    fn: Floats

    @property
    def tn(self) -> Floats:
        """Of each class, float64 (E, K)."""
        total = (self.tp + self.fn).sum(axis=-1, keepdims=True)
        return np.asarray(total - self.tp - self.fp - self.fn)


def epochs_of(history: pd.DataFrame, part: str) -> Epochs | None:
    """The counts of "train" or "validation"; None where the history has none of this part.

    Raises:
        DataError: the history is not one of epochs.
    """
    if "epoch" not in history:
        raise DataError(
            f"the history has no column 'epoch', but: {', '.join(map(str, history.columns))}. "
            "Expected the history.parquet of a recipe that trains in epochs, such as cnn or mlp."
        )
    names = [f"{part}_{name}" for name in ("tp", "fp", "fn")]
    flat = f"{part}_confusion"
    needed = [flat] if flat in history else names
    if not set(needed) <= set(history.columns):
        return None
    rows = history.dropna(subset=needed)
    if not len(rows):
        return None
    cells = [np.stack([np.asarray(value, dtype=np.float64) for value in rows[n]]) for n in needed]
    if flat in history:
        side = int(np.sqrt(cells[0].shape[1]))
        cells = list(counts_of(cells[0].reshape(-1, side, side)))
    return Epochs(rows["epoch"].to_numpy(np.int64), *cells)


def epoch_counts(history: pd.DataFrame) -> pd.DataFrame:
    """TP, FP, TN and FN of each epoch, part and class.

    Args:
        history: of one training, as in history.parquet.

    Returns:
        epoch, part ("train" or "validation"), class (its number), tp, fp, tn, fn.

    Raises:
        DataError: the history is not one of epochs.
    """
    tables = []
    for part in PARTS:
        found = epochs_of(history, part)
        if found is None:
            continue
        count, k = found.tp.shape
        values = {name: getattr(found, name) for name in ("tp", "fp", "tn", "fn")}
        tables.append(
            pd.DataFrame(
                {
                    "epoch": np.repeat(found.epoch, k),
                    "part": part,
                    "class": np.tile(np.arange(k), count),
                    **{name: cells.ravel().astype(np.int64) for name, cells in values.items()},
                }
            )
        )
    return _together(tables)


def epoch_metrics(history: pd.DataFrame, beta: float = 1.0) -> pd.DataFrame:
    """Micro, macro and weighted averages of each epoch and part.

    Args:
        history: of one training, as in history.parquet.
        beta: of F: recall counts beta times as much as precision.

    Returns:
        epoch, part, and `averages_of` the counts: micro_precision, ..., weighted_fall_out.

    Raises:
        DataError: the history is not one of epochs.
        OptionError: beta is not a positive number.
    """
    found = {part: epochs_of(history, part) for part in PARTS}
    return _together(
        [
            pd.DataFrame(
                {
                    "epoch": counts.epoch,
                    "part": part,
                    **averages_of(counts.tp, counts.fp, counts.fn, beta=beta),
                }
            )
            for part, counts in found.items()
            if counts is not None
        ]
    )


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    if not tables:
        raise DataError("the history holds no counts; expected a confusion matrix per epoch.")
    return pd.concat(tables, ignore_index=True)
