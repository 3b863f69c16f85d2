"""Network: the one torch module behind every model; uint8 pixels in, logits and embedding out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import nn

from labelwise.nn.views import predict_views

Outputs = tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]


class Body(Protocol):
    """Everything before the head: normalized images -> (maps, embedding)."""

    width: int  # of the embedding

    def __call__(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]: ...


class Network(nn.Module):
    """uint8 images (N, C, H, W) at the model's input size -> (maps, embedding, logits).

    maps: tuple of float32 (N, C', H', W'), empty for a net without spatial layers.
    embedding: float32 (N, D).
    logits: float32 (N, K), or None for a network without a head.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        body: nn.Module,
        classes: int | None,
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        views: str = "",
    ) -> None:
        """
        Args:
            body: a `Body`.
            classes: K, or None for a network without a head.
            mean, std: per channel, of pixels in [0, 1]; the body gets (pixels / 255 - mean) / std.
            views: looks at every image whose logits are averaged in inference; see `predict_views`.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1))
        self.views = views
        self.body = body
        self.head = None if classes is None else nn.Linear(cast(Body, body).width, classes)

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (N, C, H, W) -> float32; gray becomes three channels where the mean has three."""
        return (pixels.float() / 255 - self.mean).div_(self.std)

    def forward(self, pixels: torch.Tensor) -> Outputs:
        maps, embedding = self.body(self.normalized(pixels))
        if self.head is None:
            return maps, embedding, None
        plain = self.head(embedding)
        if not self.views or self.training:
            return maps, embedding, plain

        def logits(view: torch.Tensor) -> torch.Tensor:
            return plain if view is pixels else self.logits(view)  # the image itself is known

        return maps, embedding, predict_views(logits, pixels, self.views)

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits of the images as they are, without views; the network must have a head."""
        return cast(nn.Module, self.head)(self.body(self.normalized(pixels))[1])
