"""Recipe `propagation`: labels spread over the graph of nearest neighbors, then a head learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import torch

from labelwise.errors import OptionError
from labelwise.model import Model
from labelwise.nn.graph import Graph, confidence, spread_out
from labelwise.nn.network import Body
from labelwise.recipe.adopt import SMALLEST
from labelwise.recipe.around import Around, Work
from labelwise.recipe.base import Context, Fitted, PseudoLabels
from labelwise.recipe.probe import Probe

# Of the loss, what pseudo-labels make up in the steps behind the twin, in which they have none.
SHARES = (0.0, 0.5, 0.8, 0.95)
USUAL = 3


@dataclass(frozen=True)
class Propagation(Around):
    """Label propagation on the nearest-neighbor graph of a frozen network's embeddings (Iscen et
    al. 2019, arXiv:1904.04717), then the probe's head on given and propagated labels, so that new
    images get an answer.

    A propagated label counts as much as its entropy says it is sure, and every class as much as the
    others. The more labels are given, the less propagated ones are worth: their share of the loss
    is chosen on given labels held back, with none at all, the probe itself, among the choices.
    """

    name: ClassVar[str] = "propagation"
    regime: ClassVar[str] = "labels spread to unlabeled neighbors, then a probe on all of them"
    rank: ClassVar[int] = 4
    rule: ClassVar[str] = "propagated labels make up most of the loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.base, Probe):
            raise OptionError(
                f"propagation(base={self.base.name}): the graph is made of a frozen network's "
                "embeddings. Give a probe, as in propagation(base=probe(image_size=128))."
            )

    @property
    def last(self) -> int:
        return len(SHARES) - 1

    @property
    def usual(self) -> int:
        return USUAL

    def route(self, step: int) -> Sequence[int]:
        """The shares do not build on one another."""
        return (step,)

    def advanced(
        self, works: Sequence[Work], step: int, before: Sequence[Fitted], context: Context
    ) -> list[Fitted]:
        known = [fitted.pseudo for fitted in before]
        if not all(known):
            known = [(found,) for found in propagated(works, before[0].model)]
        tasks = [
            replace(
                task := work.taught(found, weighed=True),
                weights=_shared(task.weights, task.pseudo, SHARES[step]),
            )
            for work, (found,) in zip(works, known, strict=True)
        ]
        fits = self.base.pinned(before[0].chosen).fit_many(tasks, context)
        return [
            replace(fitted, chosen=first.chosen, pseudo=pseudo)
            for fitted, first, pseudo in zip(fits, before, known, strict=True)
        ]


def propagated(works: Sequence[Work], model: Model) -> list[PseudoLabels]:
    """Pseudo-labels of works on the same images, from one graph of all of them.

    Args:
        model: embeds the images.
    """
    task = works[0].task
    nodes = np.unique(np.concatenate([np.concatenate([w.task.labeled, w.open]) for w in works]))
    points = spread_out(_last_stage(model, model.embed(task.images.subset(nodes))))
    classes = len(task.class_names)
    sources = np.zeros((len(nodes), len(works), classes), np.float32)
    for number, work in enumerate(works):
        given = work.task.labeled
        labels = work.task.labels[given]
        counts = np.bincount(labels, minlength=classes)
        sources[np.searchsorted(nodes, given), number, labels] = 1 / counts[labels]
    spread = Graph.of(points).spread(sources.reshape(len(nodes), -1)).reshape(sources.shape)
    return [
        _guesses(work, spread[np.searchsorted(nodes, work.open), number])
        for number, work in enumerate(works)
    ]


def _guesses(work: Work, spread: np.ndarray) -> PseudoLabels:
    """The likeliest class of images that a label has reached.

    Every class spreads as much in all (class mass normalization, Zhu et al. 2003): otherwise one
    whose few given labels lie well takes the images of the others.
    """
    spread = spread / spread.sum(0).clip(SMALLEST)
    sure = confidence(spread)
    reached = sure > SMALLEST
    labels = spread.argmax(1)[reached]
    return PseudoLabels(work.pool.rows[reached], labels, sure[reached])


def _shared(
    weights: np.ndarray | None, pseudo: np.ndarray | None, share: float
) -> np.ndarray | None:
    """Weights with which pseudo-labels make up a share of the loss; the largest is 1."""
    assert weights is not None
    assert pseudo is not None
    total, given = weights[pseudo].sum(), (~pseudo).sum()
    result = np.where(pseudo, weights * share / max(total, SMALLEST), (1 - share) / max(given, 1))
    return np.asarray(result / result.max(), np.float32).clip(SMALLEST, 1)


def _last_stage(model: Model, embedding: np.ndarray) -> torch.Tensor:
    """The last stage of embeddings (N, D)."""
    width = cast(Body, model.network.body).widths[-1]
    return torch.from_numpy(embedding[:, -width:])
