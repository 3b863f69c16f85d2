"""Network: the one torch module behind every model; uint8 pixels in, logits and embedding out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import nn

from labelwise.nn.bank import Bank
from labelwise.nn.mixture import MixtureBank
from labelwise.nn.views import predict_views

Outputs = tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]


class Body(Protocol):
    """Everything before the head: normalized images -> (maps, embedding)."""

    width: int  # of the embedding
    widths: tuple[int, ...]  # of the stages that it consists of, the network's own last

    def __call__(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]: ...


class DeepHead(nn.Linear):
    """A head whose last layer has hidden ones before it, each with ReLU."""

    def __init__(self, width: int, hidden: Sequence[int], classes: int) -> None:
        super().__init__(hidden[-1], classes)
        layers: list[nn.Module] = []
        for before, after in pairwise([width, *hidden]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return super().forward(self.hidden(embedding))


def make_head(width: int, hidden: Sequence[int], classes: int) -> nn.Linear:
    """From an embedding to logits, by way of hidden layers if there are any."""
    return DeepHead(width, hidden, classes) if hidden else nn.Linear(width, classes)


class Network(nn.Module):
    """uint8 images (N, C, H, W) at the model's input size -> (maps, embedding, logits).

    maps: tuple of float32 (N, C', H', W'), empty for a net without spatial layers.
    embedding: float32 (N, D).
    logits: float32 (N, K), or None for a network without a head.

    Attributes:
        decoder: embeddings -> images float32 (N, C, H, W) in [0, 1]; None where there is none.
        bank: what it remembers of images that it has learned from, if anything.
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
        hidden: Sequence[int] = (),
        decoder: nn.Module | None = None,
    ) -> None:
        """
        Args:
            body: a `Body`.
            classes: K, or None for a network without a head.
            mean, std: per channel, of pixels in [0, 1]; the body gets (pixels / 255 - mean) / std.
            views: looks at every image whose logits are averaged in inference; see `predict_views`.
            hidden: units of the head's layers before the last one, each with ReLU.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1))
        self.views = views
        self.body = body
        width = cast(Body, body).width
        self.head = None if classes is None else make_head(width, hidden, classes)
        self.decoder = decoder
        self.bank: Bank | MixtureBank | None = None

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
