"""Inner: what answers for held labels say about the steps of a recipe with pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labelwise.measure.verdicts import mcnemar
from labelwise.nn.supervised import answer_columns
from labelwise.recipe.base import PseudoLabels

LEAST = 1e-7  # probability, so that a loss is finite
SURE = 0.05  # p of a step that is called better or worse than the twin lies below it


def judgement(proba: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Loss, accuracy and confusion matrix of answers (N, K), as history columns validation_*."""
    own = proba[np.arange(len(labels)), labels].clip(LEAST)
    return {
        "validation_loss": float(-np.log(own).mean()),
        **answer_columns("validation", labels, proba.argmax(1), proba.shape[1]),
    }


def adopted(found: Sequence[Sequence[PseudoLabels]], classes: int) -> dict[str, Any]:
    """How many images have a pseudo-label, and how many of every class, mean over fits."""
    counts = np.zeros(classes)
    for given in found:
        for pseudo in given[-1:]:
            counts += np.bincount(pseudo.labels, minlength=classes)
    counts /= max(1, len(found))
    return {"adopted": float(counts.sum()), "adopted_per_class": counts.tolist()}


def verdict(twin: np.ndarray, student: np.ndarray) -> dict[str, Any]:
    """What a paired test on held labels says about the step against the twin."""
    p = mcnemar(student, twin)
    gain = float(student.mean() - twin.mean())
    word = "cannot tell" if p >= SURE else "helped" if gain > 0 else "hurt"
    return {"verdict": word, "gain": gain, "p": p, "held": len(twin)}
