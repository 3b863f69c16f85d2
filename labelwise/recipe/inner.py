"""Inner: what validation labels say about a recipe with unlabeled images and its twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import stdtr

from labelwise.measure.verdicts import SURE
from labelwise.nn.supervised import answer_columns
from labelwise.recipe.base import PseudoLabels
from labelwise.recipe.heads import LOWEST, best_temperature

# One-sided p of a model that is returned lies below it. A wrong choice between a model and its twin
# costs little either way, so that four to one is enough; otherwise the cheaper twin is returned.
LIKELY = 0.2

STUDENT, TWIN = "student", "twin"


@dataclass(frozen=True)
class Judged:
    """Answers for validation labels, at the temperature that suits them best: how sure a model is
    of itself is set right afterwards, and is no reason to choose another.

    Attributes:
        losses: log loss of every image; float64 (N,).
        right: bool (N,).
        record: history columns validation_*, and the temperature.
    """

    losses: np.ndarray
    right: np.ndarray
    record: dict[str, Any]

    @classmethod
    def of(cls, proba: np.ndarray, labels: np.ndarray) -> Judged:
        """
        Args:
            proba: float (N, K).
            labels: int64 (N,).
        """
        logits = torch.from_numpy(np.log(proba.clip(np.exp(LOWEST)))).double()
        truth = torch.from_numpy(labels)
        temperature, loss = best_temperature(logits, truth)
        logp = (logits / temperature).log_softmax(1).gather(1, truth[:, None])[:, 0]
        answers = proba.argmax(1)
        record = {
            "temperature": temperature,
            "validation_loss": loss,
            **answer_columns("validation", labels, answers, proba.shape[1]),
        }
        return cls(-logp.clamp(min=LOWEST).numpy(), answers == labels, record)


def verdict(twin: Judged, student: Judged) -> dict[str, Any]:
    """What a paired t test of the log losses says about the student against its twin, and which of
    the two is returned.

    The losses tell with fewer validation labels than right and wrong answers do; a student that is
    right less often is not returned for its losses alone.
    """
    saved = twin.losses - student.losses
    worse, p = paired_t(saved)
    gain = float(student.right.mean() - twin.right.mean())
    word = "cannot tell" if p >= SURE else "helped" if saved.mean() > 0 else "hurt"
    return {
        "verdict": word,
        "returned": STUDENT if worse < LIKELY and gain >= 0 else TWIN,
        "gain": gain,
        "p": p,
        "p_not_better": worse,
        "held": len(saved),
    }


def paired_t(differences: np.ndarray) -> tuple[float, float]:
    """Student's test of differences (N,): p that their mean is not above 0, and two-sided p of 0;
    0.5 and 1 if there are too few."""
    count = len(differences)
    if count < 2 or not differences.any():
        return 0.5, 1.0
    error = differences.std(ddof=1) / np.sqrt(count)
    mean = differences.mean()
    t = mean / error if error else np.copysign(np.inf, mean)
    return float(stdtr(count - 1, -t)), float(2 * stdtr(count - 1, -abs(t)))


def fallbacks(chosen: Sequence[Mapping[str, Any]]) -> str | None:
    """In a sentence, in how many fits validation labels had the twin returned, and why."""
    found = []
    for word, what in (("hurt", "hurt"), ("cannot tell", "helped too little to tell")):
        count = sum(v.get("returned") == TWIN and v["verdict"] == word for v in chosen)
        if count:
            found.append(f"{what} in {count}")
    if not found:
        return None
    return (
        f"unlabeled images {' and '.join(found)} of {len(chosen)} fits, on validation labels: "
        "there the model without them is returned"
    )


def adopted(
    found: Sequence[Sequence[PseudoLabels]], classes: int, truth: np.ndarray
) -> dict[str, Any]:
    """How many images have a pseudo-label, how many of every class, and of those whose label the
    data knows (though nobody learned from it) how many are right; means over fits.

    Args:
        truth: labels of all images of the data set, -1 where there is none; int64 (N,).
    """
    counts, known, right = np.zeros(classes), 0, 0
    for given in found:
        for pseudo in given[-1:]:
            counts += np.bincount(pseudo.labels, minlength=classes)
            known += int((truth[pseudo.rows] >= 0).sum())
            right += int((truth[pseudo.rows] == pseudo.labels).sum())
    fits = max(1, len(found))
    return {
        "adopted": float(counts.sum()) / fits,
        "adopted_per_class": (counts / fits).tolist(),
        "adopted_known": known / fits,
        "adopted_right": right / fits,
    }
