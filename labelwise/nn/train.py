"""The one training loop: an objective gives batches and losses, a schedule moves the weights."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from labelwise.errors import TrainingError
from labelwise.nn.checkpoint import Checkpoint
from labelwise.nn.optim import Average, OptimizerName, RateName, make_optimizer, rate

SMALL_STEP = 1e8  # multiplications of a forward step below which a second thread only costs

B = TypeVar("B")


class Objective(ABC, Generic[B]):
    """What is learned: the batches of an epoch, the loss of each, and numbers about both.

    Attributes:
        batch: images that a step learns from, at most.
    """

    batch: int

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The tensors themselves, changed in place, that it takes from one epoch to the next."""
        return {}

    @abstractmethod
    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[B]:
        """The batches of an epoch (from 0), in order; begins its record."""

    @abstractmethod
    def loss(self, batch: B, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """The loss of a batch, a scalar to go down."""

    def gradients(self, batch: B, epoch: int, generator: torch.Generator) -> None:
        """Leave the loss's gradients in `.grad` of the weights, which is None before.

        By autograd, unless an objective knows a faster way.
        """
        torch.autograd.backward(self.loss(batch, epoch, generator))

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What was seen during the epoch, as history columns; `train_loss` is one."""

    @abstractmethod
    def judge(self) -> dict[str, Any]:
        """Numbers to decide on, as history columns; `validation_loss` is one, or there are none."""


@dataclass(frozen=True)
class Schedule:
    """How the weights are moved.

    Attributes:
        optimizer: see `make_optimizer`.
        lr: the largest learning rate.
        decay: how it changes over all epochs; see `rate`.
        epochs: passes over the training images.
        patience: stop after so many epochs without a better validation loss and go back to the
            best epoch; None trains all epochs and keeps the last.
        momentum, weight_decay: of the optimizer.
        average: decay of an exponential moving average of the weights per step, less in the first
            steps; it is what is judged and kept. 0 for none.
        warmup: share of all steps in which the rate rises first; None: as `rate` has it.
    """

    optimizer: OptimizerName
    lr: float
    decay: RateName
    epochs: int
    patience: int | None
    momentum: float = 0.0
    weight_decay: float = 0.0
    average: float = 0.0
    warmup: float | None = None


@dataclass
class _Progress:
    """Where a training stands after an epoch; with weights and generators all there is to it."""

    history: list[dict[str, Any]]
    best_epoch: int
    best_loss: float = float("inf")
    best_weights: dict[str, torch.Tensor] | None = None


def train(
    network: nn.Module,
    objective: Objective[B],
    schedule: Schedule,
    *,
    generator: torch.Generator,
    advance: Callable[[int, int, dict[str, Any]], None] | None = None,
    checkpoint: Checkpoint | None = None,
    work: float = float("inf"),
) -> tuple[list[dict[str, Any]], int]:
    """Train a network in place.

    Args:
        generator: decides everything random (CPU); layers such as dropout draw from torch's own
            generator, which begins with this one's seed and is as before afterwards.
        advance: called after every epoch with (epochs done, epochs planned, the epoch's record).
        checkpoint: where an unfinished training is kept; one that lies there goes on exactly as if
            it had never stopped.
        work: multiplications of a forward step; a small one is done by one thread.

    Returns:
        The history, a record per epoch (losses and accuracies as fractions, seconds, learning
        rate, confusion matrices; the training values are those seen during the epoch), and the
        number of the epoch whose weights the network has, from 1.

    Raises:
        TrainingError: the loss is not a number (names the epoch and the learning rate).
    """
    optimizer = make_optimizer(
        schedule.optimizer, network, schedule.lr, schedule.momentum, schedule.weight_decay
    )
    average = Average(network) if schedule.average else None
    kept = (network, optimizer, generator, average, objective.state)

    with torch.random.fork_rng(devices=[]), _threads(1 if work < SMALL_STEP else None):
        # Dropout draws from torch's own generator, which must not depend on what ran before.
        torch.manual_seed(generator.initial_seed())
        found = checkpoint and checkpoint.restore(*kept)
        progress = _Progress(**found) if found else _Progress([], schedule.epochs)
        for epoch in range(len(progress.history), schedule.epochs):
            if _out_of_patience(progress, schedule):
                break
            started = time.perf_counter()
            record = _epoch(network, objective, schedule, optimizer, average, epoch, generator)
            with _averaged(average):
                record |= objective.judge()
                record["seconds"] = time.perf_counter() - started
                progress.history.append(record)
                if schedule.patience is not None and "validation_loss" in record:
                    _remember(progress, record, network)
            if advance is not None:
                advance(epoch + 1, schedule.epochs, record)
            if checkpoint is not None and epoch + 1 < schedule.epochs:
                checkpoint.keep(vars(progress), *kept)
    if average is not None:
        average.pull()
    if progress.best_weights is not None:
        network.load_state_dict(progress.best_weights)
    network.eval()
    return progress.history, progress.best_epoch


def _epoch(
    network: nn.Module,
    objective: Objective[B],
    schedule: Schedule,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    epoch: int,
    generator: torch.Generator,
) -> dict[str, Any]:
    """One pass; its record, but for what is judged after it."""
    network.train()
    steps = objective.batches(epoch, generator)
    now, weights = schedule.lr, list(network.parameters())
    for step, batch in enumerate(steps):
        done = (epoch + step / len(steps)) / schedule.epochs
        now = rate(schedule.decay, schedule.lr, done, schedule.warmup)
        for group in optimizer.param_groups:
            group["lr"] = now
        for value in weights:  # what zero_grad does, in a tenth of its time
            value.grad = None
        objective.gradients(batch, epoch, generator)
        optimizer.step()
        if average is not None:
            taken = epoch * len(steps) + step
            # A young average would else consist mostly of the weights that it began with.
            average.update(min(schedule.average, (1 + taken) / (10 + taken)))
    record = {"epoch": epoch + 1, "lr": now, **objective.record()}
    finite = all(bool(value.isfinite().all()) for value in weights)
    if not finite or not np.isfinite(record["train_loss"]):
        raise TrainingError(
            f"The loss is not a number in epoch {epoch + 1} at learning rate {now:g}. "
            "Use a smaller learning rate (--set NAME.lr=...)."
        )
    return record


def _remember(progress: _Progress, record: dict[str, Any], network: nn.Module) -> None:
    """Keep the weights of the best epoch so far."""
    if record["validation_loss"] < progress.best_loss:
        progress.best_epoch, progress.best_loss = record["epoch"], record["validation_loss"]
        progress.best_weights = {n: value.clone() for n, value in network.state_dict().items()}


def _out_of_patience(progress: _Progress, schedule: Schedule) -> bool:
    if schedule.patience is None or progress.best_weights is None:
        return False
    return len(progress.history) - progress.best_epoch >= schedule.patience


@contextmanager
def _averaged(average: Average | None) -> Iterator[None]:
    """The network has the averaged weights inside."""
    if average is None:
        yield
        return
    average.swap()
    try:
        yield
    finally:
        average.swap()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads; None for as many as there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
