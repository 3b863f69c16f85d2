"""Projected: a body whose embedding is turned into a smaller one, of length 1."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from labelwise.nn.network import Body


class Projected(nn.Module):
    """Normalized images -> (maps of the base, float32 (N, size) of length 1).

    Attributes:
        base: a `Body`.
        projection: from its embedding to the smaller one, before that is normalized.
        widths, width: the one stage there is, and its width.
    """

    def __init__(self, base: nn.Module, size: int) -> None:
        super().__init__()
        self.base = base
        self.projection = nn.Linear(cast(Body, base).width, size)
        self.width = size
        self.widths = (size,)

    @property
    def architecture(self) -> dict[str, Any]:
        """What `architecture.build` makes this body of again, JSON-safe."""
        return {**cast(Any, self.base).architecture, "project": self.width}

    def project(self, embedding: torch.Tensor) -> torch.Tensor:
        """float32 (N, D) of the base -> (N, size) of length 1."""
        return nn.functional.normalize(self.projection(embedding), dim=1)

    def forward(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        maps, embedding = self.base(images)
        return maps, self.project(embedding)
