"""Estimate: seconds that a run takes, from what its protocol asks for and what things cost here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.data.dataset import Dataset
from labelwise.data.split import FINAL, Protocol, Split
from labelwise.measure import evaluate
from labelwise.recipe.base import EVERY_FIT, Cost

AGAIN = 10_000  # images that a model has learned from and answers for to tell overfitting, at most
REHEARSED = 500  # made-up answers that are judged to see how fast that is
# Answers that the checks of the recommended model's heat maps take.
EXAMINED = 500
# The report, the files and the end of the process, in images whose judging takes as long.
AROUND = 15_000


@dataclass(frozen=True)
class Fit:
    """What one fit goes through.

    Attributes:
        weight: how often it is done; below 1 if only the winner among several variants does it.
        portion: labeled images it learns from, as a fraction of the largest fit's.
        validation: images it decides on after every epoch.
        answered: images that its model answers for when it is done.
        everything: images it learns from, labeled or not, as a fraction of the largest fit's.
    """

    weight: float
    portion: float
    validation: int
    answered: float
    everything: float = 1.0

    def seconds(self, cost: Cost, passes: float, epochs: int) -> float:
        """Seconds of the fit and of its model's answers."""
        base = min(cost.fit, EVERY_FIT)
        portion = self.everything if cost.everything else self.portion
        epoch = cost.fixed + portion * (cost.epoch - cost.fixed)
        learning = portion * (cost.fit - base) + epoch * passes
        answers = cost.validate * epochs * self.validation + cost.answer * self.answered
        return self.weight * (base + learning + answers)


@dataclass(frozen=True)
class Workload:
    """What a run does with every one of its variants.

    Attributes:
        fits: of all folds, and final ones.
        read: images that are read, as a fraction of all labeled ones.
        judged: images judged with intervals.
    """

    fits: tuple[Fit, ...]
    read: float
    judged: int

    def seconds(self, cost: Cost, passes: float, epochs: int) -> float:
        """Seconds of a variant's fits."""
        read = 1.0 if cost.everything else self.read
        return read * cost.once + sum(fit.seconds(cost, passes, epochs) for fit in self.fits)


def largest(splits: Sequence[Split]) -> Split:
    """The split whose fit goes through most images."""
    return max(splits, key=lambda split: learned(split) + len(split.validation))


def learned(split: Split) -> int:
    """Images that the weights of a fit are moved by; without labels, all there are."""
    return len(split.train) or len(split.unlabeled)


def _every(split: Split) -> int:
    """Images that a fit may learn from, labeled or not."""
    return len(split.train) + len(split.unlabeled)


def workload(dataset: Dataset, protocol: Protocol, *, variants: int, finals: bool) -> Workload:
    """What a run of some variants does with each of them.

    Args:
        finals: every variant gets a final fit; else only the one that wins.
    """
    splits = protocol.fitted(finals)
    greatest = largest(splits)
    most, all_ = max(learned(greatest), 1), max(_every(greatest), 1)
    last = [split for split in splits if split.fold == FINAL]
    wanted = last if finals else [s for s in last if s.labels == largest(last).labels]
    folds = [split for split in splits if split.fold != FINAL]
    tested, share = len(protocol.test), 1.0 if finals else 1 / max(variants, 1)

    def fit(split: Split, weight: float, judged: float) -> Fit:
        again = min(len(split.train) + len(split.validation), AGAIN)
        portion, everything = learned(split) / most, _every(split) / all_
        return Fit(weight, portion, len(split.validation), again + judged, everything)

    # Few labels and one held-out part leave most of a large data set unread.
    roles = [rows for s in protocol.splits for rows in (s.train, s.validation, s.held_out)]
    read = len(np.unique(np.concatenate([*roles, protocol.test])))
    labeled = len(dataset.labeled)
    return Workload(
        (
            *(fit(split, 1.0, len(split.held_out)) for split in folds),
            *(fit(split, share, tested + EXAMINED / max(variants, 1) / share) for split in wanted),
        ),
        read / labeled if labeled else 1.0,
        sum(len(split.held_out) for split in folds) + len(wanted) * tested,
    )


def judging_seconds(classes: int) -> float:
    """Seconds to judge an image, with all intervals; measured on made-up answers."""
    random = np.random.default_rng(0)
    labels = np.arange(REHEARSED) % max(classes, 2)
    answers = random.dirichlet(np.ones(max(classes, 2)), REHEARSED)
    started = time.perf_counter()
    evaluate(labels, answers)
    return (time.perf_counter() - started) / REHEARSED


def seconds_after(load: Workload, variants: int, per_image: float) -> float:
    """Seconds from the last fit to the end: every variant and pair is judged, the report written.

    Args:
        per_image: see `judging_seconds`.
    """
    judgements = variants + max(variants - 1, 0)  # each other variant is paired with the best
    return per_image * (judgements * load.judged + AROUND)
