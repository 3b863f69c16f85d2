"""Training by a schedule within a fit: told, shown, and gone on with where it was left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelwise.nn.checkpoint import Checkpoint
from labelwise.nn.train import Objective, Schedule, train
from labelwise.recipe.base import Context


def train_by(
    schedule: Schedule,
    learner: nn.Module,
    objective: Objective[Any],
    generator: torch.Generator,
    context: Context,
    checkpoint: Path | None,
    *,
    note: str = "",
    work: float = math.inf,
) -> tuple[list[dict[str, Any]], int]:
    """See `train`; every epoch is told and shown.

    Args:
        checkpoint: the file of the unfinished fit; None keeps nothing.
        note: stands before what is told.
    """

    def advance(done: int, planned: int, record: Mapping[str, Any]) -> None:
        context.advance(done / planned, f"{note}epoch {done} of {planned}")
        context.observe(record)

    return train(
        learner,
        objective,
        schedule,
        generator=generator,
        advance=advance,
        checkpoint=Checkpoint(checkpoint) if checkpoint else None,
        work=work,
    )
