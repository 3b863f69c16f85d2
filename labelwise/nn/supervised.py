"""Supervised learning: labeled pixels in memory, cross-entropy, and what is seen on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from labelwise.errors import NO_LABELED, TrainingError
from labelwise.nn.augment import Augmentation, mixup, parse_augmentation
from labelwise.nn.explicit import ExplicitNetwork, explicit_plan
from labelwise.nn.layers import has_batch_norm
from labelwise.nn.network import Network
from labelwise.nn.passes import Passes
from labelwise.nn.train import Objective

NONE = parse_augmentation("")
LARGEST_CONFUSION = 100  # classes; above that a history keeps counts per class only
WAITING = 32  # batches whose numbers are summed up at once


class Labeled(Protocol):
    """Inputs of a network with labels int64 (N,) and weights float32 (N,) or None."""

    @property
    def labels(self) -> torch.Tensor: ...

    @property
    def weights(self) -> torch.Tensor | None: ...

    def __len__(self) -> int: ...

    def look(self, index: torch.Tensor, epoch: int) -> torch.Tensor:
        """Inputs to learn from in an epoch, before augmentation; index int64 (n,)."""
        ...

    def plain(self, part: slice) -> torch.Tensor:
        """Inputs to be judged by."""
        ...


@dataclass(frozen=True)
class Examples:
    """Labeled pixels in memory: uint8 (N, C, H, W), int64 (N,), float32 (N,) or None."""

    pixels: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def look(self, index: torch.Tensor, epoch: int) -> torch.Tensor:
        return self.pixels.index_select(0, index)

    def plain(self, part: slice) -> torch.Tensor:
        return self.pixels[part]


class Supervised(Objective[torch.Tensor]):
    """The objective of a classifier: cross-entropy on examples, judged on other ones.

    Its batches are numbers of examples, int64 (n,).
    """

    def __init__(
        self,
        network: Network,
        examples: Labeled,
        validation: Labeled | None,
        *,
        batch: int,
        least_steps: int = 0,
        share: float = 1.0,
        smoothing: float = 0.0,
        augment: Augmentation = NONE,
    ) -> None:
        """
        Args:
            network: has a head of K classes.
            batch: images per step, at most.
            least_steps: of an epoch; few images make smaller batches and are passed over several
                times, so that few labels are not trained less than many.
            share: of its steps that an epoch does, in (0, 1]; it leaves other images out each time.
            smoothing: of the labels (Szegedy et al. 2016, arXiv:1512.00567, section 7).
            augment: changes every batch.

        Raises:
            TrainingError: there are too few images to learn from.
        """
        if not len(examples):
            raise TrainingError(NO_LABELED)
        if has_batch_norm(network) and min(len(examples), batch) == 1:
            raise TrainingError(
                "Batch norm cannot learn from one image at a time. Use more labels, or a larger "
                "batch (--set NAME.batch=...)."
            )
        self.network, self.examples, self.validation = network, examples, validation
        self.smoothing, self.augment = smoothing, augment
        self.passes = Passes.of(len(examples), batch, least_steps, share)
        self.batch = self.passes.batch
        plan = explicit_plan(network, self.batch)
        self.explicit = ExplicitNetwork(plan) if plan else None
        self.seen = Seen(head_of(network).out_features, network.mean.device, smoothing)

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """The numbers of the examples of every step, in a new order."""
        self.seen.clear()
        return self.passes.steps(generator, self.network.mean.device)

    def loss(self, index: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """Mean cross-entropy of a batch."""
        pixels, labels, target, weights = self._look(index, epoch, generator)
        logits = self.network(pixels)[2]
        self.seen.add(logits.detach(), labels, target, weights)
        return _losses(logits, target, weights, self.smoothing).mean()

    def gradients(self, index: torch.Tensor, epoch: int, generator: torch.Generator) -> None:
        if self.explicit is None:
            super().gradients(index, epoch, generator)
            return
        with torch.inference_mode():
            pixels, labels, target, weights = self._look(index, epoch, generator)
            logits = self.explicit.forward(pixels)
            self.seen.add(logits.clone(), labels, target, weights)
            self.explicit.backward(target, self.smoothing, weights)

    def _look(
        self, index: torch.Tensor, epoch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Augmented pixels of a batch, labels, what to aim at (see `mixup`), and weights."""
        examples = self.examples
        pixels = examples.look(index, epoch)
        labels = examples.labels.index_select(0, index)
        pixels = self.augment(pixels, index, epoch, generator)
        weights = None if examples.weights is None else examples.weights[index]
        if not self.augment.mixup:
            return pixels, labels, labels, weights
        classes = head_of(self.network).out_features
        pixels, target = mixup(pixels, labels, classes, self.augment.mixup, generator)
        return pixels, labels, target, weights

    def record(self) -> dict[str, Any]:
        """What was seen of the training images during the epoch."""
        return {"images": self.passes.images, **self.seen.record("train")}

    def judge(self) -> dict[str, Any]:
        """The validation part's numbers; empty without one."""
        return {} if self.validation is None else evaluate(self.network, self.validation)


def _losses(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Cross-entropy of every image, times its weight; float32 (n,)."""
    losses = nn.functional.cross_entropy(
        logits, target, reduction="none", label_smoothing=smoothing
    )
    return losses if weights is None else losses * weights


@torch.inference_mode()
def evaluate(network: Network, examples: Labeled, *, batch: int = 512) -> dict[str, Any]:
    """Loss, accuracy and confusion matrix on examples, as history columns validation_*.

    Without views, which would cost several times as much after every epoch.
    """
    network.eval()
    seen = Seen(head_of(network).out_features, network.mean.device)
    for start in range(0, len(examples), batch):
        labels = examples.labels[start : start + batch]
        logits = network.logits(examples.plain(slice(start, start + batch)))
        seen.add(logits, labels, labels)
    return seen.record("validation")


def head_of(network: Network) -> nn.Linear:
    """The head of a network that must have one."""
    if network.head is None:
        raise TypeError("the network has no head")
    return network.head


def confusion_columns(prefix: str, confusion: np.ndarray) -> dict[str, Any]:
    """A confusion matrix (K, K), rows true, as history columns: flat, or counts if K > 100."""
    if len(confusion) <= LARGEST_CONFUSION:
        return {f"{prefix}_confusion": confusion.ravel().tolist()}
    right = confusion.diagonal()
    return {
        f"{prefix}_tp": right.tolist(),
        f"{prefix}_fp": (confusion.sum(0) - right).tolist(),
        f"{prefix}_fn": (confusion.sum(1) - right).tolist(),
    }


def answer_columns(
    prefix: str, labels: np.ndarray, answers: np.ndarray, classes: int
) -> dict[str, Any]:
    """Accuracy and confusion matrix of answers, as history columns.

    Args:
        labels, answers: int64 (N,), 0..K-1.
        classes: K.
    """
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    accuracy = float(confusion.trace() / confusion.sum())
    return {f"{prefix}_accuracy": accuracy, **confusion_columns(prefix, confusion)}


class Seen:
    """Sums over the batches of an epoch, on the device, so that no step waits for a number.

    Batches wait until there are some of them: one sum over many costs hardly more than over one.
    """

    def __init__(self, classes: int, device: torch.device, smoothing: float = 0.0) -> None:
        self.classes, self.smoothing = classes, smoothing
        self.loss = torch.zeros((), device=device)
        self.cells = torch.zeros(classes * classes, dtype=torch.int64, device=device)
        self.waiting: list[tuple[torch.Tensor, ...]] = []

    def clear(self) -> None:
        """Forget everything."""
        self.loss.zero_()
        self.cells.zero_()
        self.waiting.clear()

    def add(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        target: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> None:
        """Take in a batch; its tensors are kept and must not change."""
        self.waiting.append((logits, labels, target, *([] if weights is None else [weights])))
        if len(self.waiting) == WAITING:
            self._sum()

    def record(self, prefix: str) -> dict[str, Any]:
        if self.waiting:
            self._sum()
        confusion = self.cells.view(self.classes, self.classes).cpu().numpy()
        count = max(int(confusion.sum()), 1)
        return {
            f"{prefix}_loss": float(self.loss) / count,
            f"{prefix}_accuracy": float(confusion.trace()) / count,
            **confusion_columns(prefix, confusion),
        }

    @torch.inference_mode()
    def _sum(self) -> None:
        logits, labels, target, *weights = map(torch.cat, zip(*self.waiting, strict=True))
        weighed = weights[0] if weights else None
        self.loss += _losses(logits, target, weighed, self.smoothing).sum()
        cells = labels * self.classes + logits.argmax(1)
        self.cells += torch.bincount(cells, minlength=len(self.cells))
        self.waiting.clear()
