"""The training loop of networks that learn from scratch: batches in memory, one visible loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from labelwise.errors import TrainingError
from labelwise.nn.network import Network

LARGEST_CONFUSION = 100  # classes; above that a history keeps counts per class only


@dataclass(frozen=True)
class Schedule:
    """How the weights are moved.

    Attributes:
        optimizer: "sgd" (without momentum) or "adam" (epsilon 1e-7), both as Keras has them.
        lr: learning rate of the first epoch.
        decay: "constant", or "cosine": down to zero over all epochs.
        batch: images per step.
        epochs: passes over the training images (see least_steps).
        patience: stop after so many epochs without a better validation loss and go back to the
            best epoch; None trains all epochs and keeps the last.
        least_steps: of an epoch; images too few for that are passed over several times, so that
            few labels are not trained less than many.
    """

    optimizer: Literal["sgd", "adam"]
    lr: float
    decay: Literal["constant", "cosine"]
    batch: int
    epochs: int
    patience: int | None
    least_steps: int = 0

    def passes(self, images: int) -> int:
        """How often an epoch passes over so many images."""
        steps = -(-images // self.batch)
        return max(1, -(-self.least_steps // max(steps, 1)))

    def make(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimizer for a network's parameters."""
        parameters = [weights for weights in network.parameters() if weights.requires_grad]
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr)
        return torch.optim.Adam(parameters, lr=self.lr, eps=1e-7)

    def rate(self, done: float) -> float:
        """Learning rate when `done`, a fraction in [0, 1), of all steps lie behind."""
        return self.lr if self.decay == "constant" else self.lr * (1 + np.cos(np.pi * done)) / 2


@dataclass(frozen=True)
class Examples:
    """Labeled pixels in memory: uint8 (N, C, H, W), int64 (N,), float32 (N,) or None."""

    pixels: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


def train(
    network: Network,
    examples: Examples,
    validation: Examples | None,
    schedule: Schedule,
    *,
    generator: torch.Generator,
    advance: Callable[[int, int, dict[str, Any]], None] | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Train a network in place by cross-entropy.

    Args:
        network: has a head of K classes.
        generator: decides the order of the images (CPU).
        advance: called after every epoch with (epochs done, epochs planned, the epoch's record).

    Returns:
        The history, a record per epoch (losses and accuracies as fractions, seconds, learning
        rate, confusion matrices; the training values are those seen during the epoch), and the
        number of the epoch whose weights the network has, from 1.

    Raises:
        TrainingError: the loss is not a number (names the epoch and the learning rate), or there
            are too few images to learn from.
    """
    if not len(examples):
        raise TrainingError("There is no labeled image to learn from in this train part.")
    normalizes = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())
    if normalizes and min(len(examples), schedule.batch) == 1:
        raise TrainingError(
            "Batch norm cannot learn from one image at a time. Use more labels, or a larger batch "
            "(--set NAME.batch=...)."
        )
    classes = cast_head(network).out_features
    optimizer = schedule.make(network)
    device = network.mean.device
    passes = schedule.passes(len(examples))
    history: list[dict[str, Any]] = []
    best_epoch, best_loss, best_state = schedule.epochs, float("inf"), None

    for epoch in range(schedule.epochs):
        started = time.perf_counter()
        network.train()
        shuffled = [torch.randperm(len(examples), generator=generator) for _ in range(passes)]
        order = torch.cat(shuffled).to(device)
        steps = list(torch.split(order, schedule.batch))
        if len(steps) > 1 and len(steps[-1]) == 1 < schedule.batch:
            steps[-2:] = [torch.cat(steps[-2:])]  # batch norm cannot learn from one image
        seen = _Seen(classes, device)
        for step, index in enumerate(steps):
            rate = schedule.rate((epoch + step / len(steps)) / schedule.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            labels = examples.labels[index]
            logits = network(examples.pixels[index])[2]
            losses = nn.functional.cross_entropy(logits, labels, reduction="none")
            if examples.weights is not None:
                losses = losses * examples.weights[index]
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.mean())
            optimizer.step()
            seen.add(losses.detach(), logits.detach(), labels)

        record = {"epoch": epoch + 1, "lr": rate, "images": len(order), **seen.record("train")}
        finite = all(bool(weights.isfinite().all()) for weights in network.parameters())
        if not finite or not np.isfinite(record["train_loss"]):
            raise TrainingError(
                f"The loss is not a number in epoch {epoch + 1} at learning rate {rate:g}. "
                "Use a smaller learning rate (--set NAME.lr=...)."
            )
        if validation is not None:
            record |= evaluate(network, validation)
        record["seconds"] = time.perf_counter() - started
        history.append(record)
        if advance is not None:
            advance(epoch + 1, schedule.epochs, record)
        if validation is None or schedule.patience is None:
            continue
        if record["validation_loss"] < best_loss:
            best_epoch, best_loss = epoch + 1, record["validation_loss"]
            best_state = {name: value.clone() for name, value in network.state_dict().items()}
        elif epoch + 1 - best_epoch >= schedule.patience:
            break
    if best_state is not None:
        network.load_state_dict(best_state)
    network.eval()
    return history, best_epoch


@torch.inference_mode()
def evaluate(network: Network, examples: Examples, *, batch: int = 512) -> dict[str, Any]:
    """Loss, accuracy and confusion matrix on examples, as history columns validation_*."""
    network.eval()
    seen = _Seen(cast_head(network).out_features, network.mean.device)
    for start in range(0, len(examples), batch):
        labels = examples.labels[start : start + batch]
        logits = network(examples.pixels[start : start + batch])[2]
        seen.add(nn.functional.cross_entropy(logits, labels, reduction="none"), logits, labels)
    return seen.record("validation")


def cast_head(network: Network) -> nn.Linear:
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


class _Seen:
    """Sums over the batches of an epoch, on the device, so that no step waits for a number."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        self.loss = torch.zeros((), device=device)
        self.cells = torch.zeros(classes * classes, dtype=torch.int64, device=device)

    def add(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.loss += losses.sum()
        cells = labels * self.classes + logits.argmax(1)
        self.cells += torch.bincount(cells, minlength=len(self.cells))

    def record(self, prefix: str) -> dict[str, Any]:
        confusion = self.cells.view(self.classes, self.classes).cpu().numpy()
        count = max(int(confusion.sum()), 1)
        return {
            f"{prefix}_loss": float(self.loss) / count,
            f"{prefix}_accuracy": float(confusion.trace()) / count,
            **confusion_columns(prefix, confusion),
        }
