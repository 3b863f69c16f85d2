"""Held-out answers of a run's folds, and what a final model takes from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labelwise.measure.calibration import Calibration
from labelwise.measure.novelty import Novelty
from labelwise.measure.scoring import SMALLEST_PROBABILITY
from labelwise.measure.temperature import parts_of

NEVER_SEEN = SMALLEST_PROBABILITY  # of a class that has no image in the train part


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """p_0..p_{K-1} of predictions; float64 (N, K), rows sum to 1."""
    columns = [name for name in table.columns if name.startswith("p_")]
    proba = table[columns].to_numpy(dtype=np.float64)
    return proba / proba.sum(axis=1, keepdims=True)


def without_absent(proba: np.ndarray, absent: Sequence[int]) -> np.ndarray:
    """Probabilities (N, K) with NEVER_SEEN for classes that had no image to learn from."""
    if not len(absent):
        return proba
    result = proba.copy()
    result[:, list(absent)] = NEVER_SEEN
    return result / result.sum(axis=1, keepdims=True)


def by_image(ids: np.ndarray, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids, ascending, and the mean over repeats of each; int64 (N,) and float64 (N, K)."""
    mean = pd.DataFrame(proba).groupby(ids).mean()
    return mean.index.to_numpy(np.int64), mean.to_numpy()


def of_one_repeat(
    table: pd.DataFrame, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every image once: labels int64 (N,), probabilities (N, K), and parts to cross-fit over (N,).

    Left out are images of a class that their fold could not learn, since all other images of it
    were held out as well: such answers say nothing about a model that knows the class.

    Args:
        table: predictions of folds: repeat, id, fold, label, p_0..p_{K-1}.
        groups: of the data set, by id.
    """
    once = table[table["repeat"] == 0].sort_values("id", ignore_index=True)
    once = once[learnable(once)].reset_index(drop=True)
    parts = parts_of(once["fold"], groups[once["id"]])
    return once["label"].to_numpy(np.int64), probabilities(once), parts


def learnable(table: pd.DataFrame) -> np.ndarray:
    """Whether the class of an image could be learned by the fold that judged it; bool (N,).

    A class that a fold has not seen has the same tiny probability in all of its answers.
    """
    labels, proba = table["label"].to_numpy(np.int64), probabilities(table)
    known = np.ones(len(table), dtype=bool)
    for fold in table["fold"].unique():
        own = (table["fold"] == fold).to_numpy()
        # Larger where the network had given it more, before the others were brought to sum to 1.
        low, high = proba[own].min(axis=0), proba[own].max(axis=0)
        never = (low >= NEVER_SEEN / 2) & (high <= 100 * NEVER_SEEN)
        known[own] = ~never[labels[own]]
    return known


def calibration_of(judged: Sequence[pd.DataFrame], groups: np.ndarray) -> Calibration | None:
    """How sure a model may be by held-out answers; None where nothing was judged.

    Args:
        judged, groups: as in `of_one_repeat`.
    """
    if not judged:
        return None
    labels, proba, parts = of_one_repeat(pd.concat(judged), groups)
    return Calibration.of(labels, proba, parts) if len(labels) else None


def novelty_of(judged: Sequence[pd.DataFrame]) -> Novelty | None:
    """From when on an image is unlike those of known classes; None where nothing was judged.

    Args:
        judged: of the folds: id, energy and distance.
    """
    if not judged:
        return None
    found = pd.concat(judged).groupby("id")[["energy", "distance"]].mean()
    return Novelty.of(found["energy"], found["distance"])
