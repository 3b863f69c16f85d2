"""Heads on frozen embeddings: which stages they see, of which kind and how strong, chosen inside.

A head has zero weights for the stages that it does not see, so that all heads on a backbone have
one shape. Everything is decided within the images of one train part, by cross-validated log loss at
each choice's best temperature (Guo et al. 2017, arXiv:1706.04599): weak regularization often ranks
classes best and is only too sure of itself. Where there are too few labels for that a rule decides;
docs/results.md has the tables behind the rules.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import torch

from labelwise.data.split import VALIDATION_FROM, deal
from labelwise.measure.scoring import SMALLEST_PROBABILITY
from labelwise.nn.logistic import LogisticSolver
from labelwise.nn.nearest import nearest_means
from labelwise.nn.supervised import answer_columns

Stages = Literal["last", "inner", "all"]
HeadName = Literal["logistic", "mean"]

SEEN: dict[str, slice] = {"last": slice(-1, None), "inner": slice(-5, -1), "all": slice(None)}
STRENGTHS = tuple(float(f"{value:.3g}") for value in np.logspace(-3, 1, 8))
FEW_STRENGTH = 1.0  # where there are too few labels to choose
INNER_FOLDS = 5
JUDGING = 1_000  # held-out images that tell one choice from another
ENOUGH = 0.01  # log loss, below which no better choice is worth its seconds
CLOSE = 1e-3  # part of the loss that may be left in a head that is only judged
# Log-probability: a class absent from an inner fold has none lower.
LOWEST = float(np.log(SMALLEST_PROBABILITY))


@dataclass(frozen=True)
class Part:
    """Images that a head learns from; all arrays (n,).

    Attributes:
        places: in the embeddings.
        labels, groups: class, and number of the group of duplicates.
        weights: in the loss; float32.
        pseudo: whether the label is a guess, which decides nothing.
    """

    places: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    pseudo: np.ndarray


@dataclass(frozen=True)
class Choice:
    """What was decided for a part, and a record per choice that was tried."""

    head: HeadName
    stages: Stages
    strength: float | None
    temperature: float
    history: list[dict[str, Any]]

    @property
    def decided(self) -> dict[str, Any]:
        """For trial.json."""
        names = ("head", "stages", "strength", "temperature")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class HeadSolver:
    """Chooses and fits heads on embeddings, those of all images of some parts."""

    def __init__(
        self,
        embeddings: torch.Tensor,
        widths: Sequence[int],
        classes: int,
        few: Stages = "all",
    ) -> None:
        """
        Args:
            embeddings: float32 (N, D).
            widths: of the stages that they consist of, with sum D.
            classes: K.
            few: stages that are seen where there are too few labels to choose.
        """
        self.embeddings, self.widths, self.classes = embeddings, tuple(widths), classes
        self.few = few
        self._solvers: dict[Stages, LogisticSolver] = {}

    def choose(
        self,
        part: Part,
        seed: int,
        *,
        head: HeadName | None = None,
        stages: Stages | None = None,
        strength: float | None = None,
        temperature: float | None = None,
    ) -> Choice:
        """What suits a part; what is given is not asked for."""
        given = part.labels[~part.pseudo]
        few = len(given) < VALIDATION_FROM * len(np.unique(given))
        if head is None:
            alone = few and not part.pseudo.any()  # pseudo-labels are enough for a regression
            head = "mean" if alone and strength is None else "logistic"
        if head == "mean":
            return Choice(head, stages or self.few, None, temperature or 1.0, [])
        if few or (stages and strength and (temperature or not part.pseudo.any())):
            strength = strength or FEW_STRENGTH
            return Choice(head, stages or self.few, strength, temperature or 1.0, [])
        several = len(self.widths) > 1
        tried: tuple[Stages, ...] = ("last", "inner", "all") if several else ("all",)
        found = self._validated(
            part,
            seed,
            (stages,) if stages else tried,
            (strength,) if strength else STRENGTHS,
        )
        return replace(found, temperature=temperature or found.temperature)

    def fit(self, part: Part, choice: Choice) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (D, K) and bias (K,) of the head of a part, at its temperature."""
        columns = self._columns(choice.stages)
        if choice.head == "mean":
            embeddings = self.embeddings[part.places][:, columns]
            labels = torch.from_numpy(part.labels)
            weights = torch.from_numpy(part.weights)
            blocks = self._blocks(choice.stages)
            heads = nearest_means(embeddings, labels, self.classes, blocks, weights)
        else:
            assert choice.strength is not None
            heads = self._solver(choice.stages).solve(
                torch.from_numpy(part.labels),
                torch.from_numpy(part.weights)[None],
                torch.tensor([choice.strength]),
                rows=torch.from_numpy(part.places),
            )
        weight = heads.weight.new_zeros(self.embeddings.shape[1], self.classes)
        weight[columns] = heads.weight[0] / choice.temperature
        return weight, heads.bias[0] / choice.temperature

    def _validated(
        self, part: Part, seed: int, tried: Sequence[Stages], strengths: Sequence[float]
    ) -> Choice:
        """The stages, strength and temperature with the lowest cross-validated log loss.

        The loss falls and then rises from strong to weak, and weak ones take the most steps: once
        it has risen, or hardly anything is left of it, no weaker one is tried.
        """
        held = self._held(part, seed)
        history: list[dict[str, Any]] = []
        for stages in tried:
            best = math.inf
            for record in self._judged(part, held, stages, sorted(strengths, reverse=True)):
                history.append({"epoch": len(history) + 1, **record})
                risen, best = record["validation_loss"] > best, record["validation_loss"]
                if risen or best < ENOUGH:
                    break
        chosen = min(history, key=lambda record: record["validation_loss"])
        stages, strength, temperature = (
            chosen[name] for name in ("stages", "strength", "temperature")
        )
        return Choice("logistic", stages, strength, temperature, history)

    def _held(self, part: Part, seed: int) -> list[np.ndarray]:
        """Positions held out in turn, of as many folds as are needed to judge; never a guess."""
        given = np.flatnonzero(~part.pseudo)
        shares = [1 / INNER_FOLDS] * INNER_FOLDS
        dealt = deal(part.labels[given], part.groups[given], shares, [seed, 4])
        return [given[dealt == fold] for fold in range(judged_folds(len(given)))]

    def _judged(
        self, part: Part, held: Sequence[np.ndarray], stages: Stages, strengths: Sequence[float]
    ) -> Iterator[dict[str, Any]]:
        """A record per strength, of the answers for all images that are held out in turn."""
        weights = np.tile(part.weights, (len(held), 1))
        for fold, rows in enumerate(held):
            weights[fold, rows] = 0
        seen = self.embeddings[:, self._columns(stages)]
        folds = [seen[part.places[rows]] for rows in held]
        labels = torch.from_numpy(part.labels[np.concatenate(held)])
        started = time.perf_counter()
        path = self._solver(stages).path(
            torch.from_numpy(part.labels),
            torch.from_numpy(weights),
            strengths,
            rows=torch.from_numpy(part.places),
            tolerance=CLOSE,
        )
        for strength, heads in zip(strengths, path, strict=True):
            solved = zip(folds, heads.weight, heads.bias, strict=True)
            logits = torch.cat([fold @ weight + bias for fold, weight, bias in solved])
            record = {"stages": stages, "strength": strength, **self._record(logits, labels)}
            yield {**record, "seconds": time.perf_counter() - started}
            started = time.perf_counter()

    def _record(self, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        temperature, loss = best_temperature(logits, labels)
        answers = logits.argmax(1).numpy()
        return {
            "temperature": temperature,
            "validation_loss": loss,
            **answer_columns("validation", labels.numpy(), answers, self.classes),
        }

    def _solver(self, stages: Stages) -> LogisticSolver:
        if stages not in self._solvers:
            seen = self.embeddings[:, self._columns(stages)]
            self._solvers[stages] = LogisticSolver(seen, self.classes, self._blocks(stages))
        return self._solvers[stages]

    def _seen(self, stages: Stages) -> range:
        """Numbers of the stages that are seen; they lie next to each other."""
        count = len(self.widths)
        return range(count)[SEEN[stages]] if count > 1 else range(1)

    def _blocks(self, stages: Stages) -> tuple[int, ...]:
        seen = self._seen(stages)
        return self.widths[seen.start : seen.stop]

    def _columns(self, stages: Stages) -> slice:
        ends, seen = [0, *accumulate(self.widths)], self._seen(stages)
        return slice(ends[seen.start], ends[seen.stop])


def judged_folds(count: int) -> int:
    """Of so many labeled images, the inner folds that are held out in turn."""
    return min(INNER_FOLDS, math.ceil(JUDGING * INNER_FOLDS / max(count, 1)))


def head_seconds(
    count: int, width: int, classes: int, *, stages: bool = False, strengths: bool = True
) -> float:
    """Seconds that the choice of a head takes, about.

    Args:
        count: labeled images.
        width: D.
        classes: K.
        stages, strengths: what is chosen.
    """
    # About 30 steps of two matrix products along a path, at 25 GFLOP/s with all around them.
    tried = (2 if stages else 1) * (judged_folds(count) if strengths else 1)
    return 30 * 4 * count * width * tried * classes / 25e9


def best_temperature(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """The temperature that minimizes log loss, of 61 from 0.1 to 100, and that loss.

    The loss is convex in the temperature's inverse, so that halving finds the lowest one.

    Args:
        logits: float32 (N, K).
        labels: int64 (N,).
    """
    temperatures = torch.logspace(-1, 2, 61)

    @cache
    def loss(index: int) -> float:
        logp = (logits / temperatures[index]).log_softmax(1).gather(1, labels[:, None])
        return -float(logp.clamp(min=LOWEST).mean())

    low, high = 0, len(temperatures) - 1
    while low < high:
        middle = (low + high) // 2
        if loss(middle) <= loss(middle + 1):
            high = middle
        else:
            low = middle + 1
    return round(float(temperatures[low]), 6), loss(low)
