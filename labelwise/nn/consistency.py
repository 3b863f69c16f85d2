"""Consistency: an unlabeled image keeps its class when it is changed strongly (FixMatch).

The network names the class of every image of a pool as a weak change shows it, and learns to name
that class as a strong change shows it (Sohn et al. 2020, arXiv:2001.07685); nn/softmatch.py has how
much that counts for each. The labels teach beside it, some of them in every step, again and again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.nn import functional

from labelwise.errors import NO_LABELED, TrainingError
from labelwise.nn.passes import pace
from labelwise.nn.softmatch import IN_USE, Alignment, Confidence, above_chance, class_shares
from labelwise.nn.supervised import Seen
from labelwise.nn.train import Objective

Align = Literal["labels", "uniform", "none"]
#: numbers of labeled images and of images of the pool, int64 (n,) and (m,)
Step = tuple[torch.Tensor, torch.Tensor]


class Classifier(Protocol):
    """What learns: a module whose mode says whether it does."""

    def logits(self, images: torch.Tensor) -> torch.Tensor: ...

    def train(self, mode: bool = True) -> nn.Module:
        """To learn, or not to."""
        ...


class Looks(Protocol):
    """What a network is shown: labeled images, and a pool of images without their labels."""

    @property
    def labels(self) -> torch.Tensor:
        """Of the labeled images, int64 (N,)."""

    @property
    def pool(self) -> int:
        """Images in it; 0 learns from the labels alone."""

    def labeled(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        """Labeled images, changed weakly."""

    def weak(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        """Images of the pool, changed weakly."""

    def strong(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        """Images of the pool, changed strongly."""


class Consistency(Objective[Step]):
    """Cross-entropy on labels, and on pseudo-labels by their weights.

    An epoch is a number of steps, each with some labeled images and some of the pool; both are gone
    through in a new order every time, and begun again when they end.
    """

    def __init__(
        self,
        network: Classifier,
        looks: Looks,
        judge: Callable[[], dict[str, Any]],
        *,
        classes: int,
        steps: int,
        batch: int,
        pool_batch: int,
        smoothing: float = 0.0,
        strength: float = 1.0,
        align: Align = "labels",
    ) -> None:
        """
        Args:
            judge: see `Objective.judge`.
            classes: K.
            steps: of an epoch.
            batch, pool_batch: images of a step, labeled ones and those of the pool.
            smoothing: of the labels; pseudo-labels are taken as they are.
            strength: of the pseudo-labels' loss beside that of the labels.
            align: the shares that the classes are to have among the pseudo-labels: those of the
                labels, uniform, or whatever comes.

        Raises:
            TrainingError: there is no label to learn from.
        """
        if not len(looks.labels):
            raise TrainingError(NO_LABELED)
        device = looks.labels.device
        self.network, self.looks, self._judge = network, looks, judge
        self.steps, self.labeled_batch, self.pool_batch = steps, batch, pool_batch
        self.batch = batch + pool_batch * bool(looks.pool)  # images of a step that are learned from
        self.smoothing, self.strength = smoothing, strength
        self.confidence = Confidence(device)
        shares = class_shares(looks.labels, classes)
        wanted = {"labels": shares, "uniform": torch.full_like(shares, 1 / classes)}.get(align)
        self.align = None if wanted is None else Alignment(wanted)
        self.seen = Seen(classes, device, smoothing)
        self.pseudo = torch.zeros(4, device=device)  # images, losses, weights, images in use

    @property
    def state(self) -> dict[str, torch.Tensor]:
        running = {f"confidence.{name}": v for name, v in vars(self.confidence).items()}
        aligned = vars(self.align) if self.align else {}
        return running | {f"align.{name}": value for name, value in aligned.items()}

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Step]:
        """Numbers of the labeled images and of those of the pool for every step."""
        self.seen.clear()
        self.pseudo.zero_()
        labeled = _orders(len(self.looks.labels), self.steps, self.labeled_batch, generator)
        pool = _orders(self.looks.pool, self.steps, self.pool_batch, generator)
        return list(zip(labeled, pool, strict=True))

    def loss(self, batch: Step, epoch: int, generator: torch.Generator) -> torch.Tensor:
        labeled, pool = (index.to(self.looks.labels.device) for index in batch)
        given = self.looks.labels[labeled]
        shown = self.looks.labeled(labeled, epoch, generator)
        if not len(pool):
            return self._own(self.network.logits(shown), given)
        pseudo, weights = self.pseudo_labels(self.looks.weak(pool, epoch, generator))
        changed = self.looks.strong(pool, epoch, generator)
        logits = self.network.logits(torch.cat([shown, changed]))
        own, others = torch.split(logits, [len(given), len(pool)])
        losses = functional.cross_entropy(others, pseudo, reduction="none") * weights
        self._count(losses.detach(), weights)
        return self._own(own, given) + self.strength * losses.mean()

    def pseudo_labels(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classes that the network names now, int64 (N,), and what they count, float32 (N,)."""
        with torch.no_grad():
            self.network.train(False)
            proba = self.network.logits(images).softmax(1)
            self.network.train()
        confidence, classes = (self.align(proba) if self.align else proba).max(1)
        weights = self.confidence.weights(confidence) * above_chance(confidence, proba.shape[1])
        return classes, weights

    def record(self) -> dict[str, Any]:
        """What was seen of the labels, and of the pool: pool_loss, pool_weight, pool_used."""
        labels = self.seen.record("train")
        count, loss, weight, used = self.pseudo.tolist()
        shares = {"pool_loss": loss, "pool_weight": weight, "pool_used": used}
        pool = {name: total / count for name, total in shares.items()} if count else {}
        return {"images": self.steps * self.batch, **labels, **pool}

    def judge(self) -> dict[str, Any]:
        return self._judge()

    def _own(self, logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """The loss of labeled images."""
        self.seen.add(logits.detach(), given, given)
        return functional.cross_entropy(logits, given, label_smoothing=self.smoothing)

    def _count(self, losses: torch.Tensor, weights: torch.Tensor) -> None:
        used = (weights >= IN_USE).sum()
        self.pseudo += torch.stack(
            [used.new_tensor(len(losses)), losses.sum(), weights.sum(), used]
        )


def steps_of(images: int, batch: int, least_steps: int) -> tuple[int, int]:
    """Steps of an epoch that goes through a pool, and images of the pool in a step.

    Args:
        batch: images of the pool in a step, at most; see `pace`.
    """
    batch, passes = pace(images, batch, least_steps)
    return math.ceil(passes * images / batch), batch


def _orders(
    images: int, steps: int, batch: int, generator: torch.Generator
) -> Sequence[torch.Tensor]:
    """Numbers of the images for every step; each comes again only when all the others have."""
    if not images:
        return [torch.zeros(0, dtype=torch.int64)] * steps
    rounds = math.ceil(steps * batch / images)
    order = torch.cat([torch.randperm(images, generator=generator) for _ in range(rounds)])
    return torch.split(order[: steps * batch], batch)
