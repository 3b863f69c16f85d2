"""Mixture: several networks as one, whose answer is the weighted mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from labelwise.data.preprocess import scale, to_gray

if TYPE_CHECKING:
    from labelwise.nn.network import Network

Shape = tuple[int, int, int]


class Mixture(nn.Module):
    """Images in [0, 1], float32 (N, C, H, W) -> (no maps, float32 (N, M * (K + 2))).

    The embedding is what the M members say: the logarithms of their probabilities, then their
    energies, then the distances to what they have learned from (0 of one that remembers nothing).
    """

    def __init__(
        self,
        members: Sequence[Network],
        shapes: Sequence[Shape],
        temperatures: Sequence[float],
        classes: int,
    ) -> None:
        """
        Args:
            members: each with a head for K classes.
            shapes: (C, height, width) that each takes.
            temperatures: what divides the logits of each.
            classes: K.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self.shapes = tuple(shapes)
        self.temperatures = tuple(temperatures)
        self.width = len(members) * (classes + 2)
        self.widths = (self.width,)

    def forward(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        pixels = (images * 255).round().to(torch.uint8)  # exact: they come from such pixels
        logs, energies, distances = [], [], []
        parts = zip(self.members, self.shapes, self.temperatures, strict=True)
        for module, shape, temperature in parts:
            member = cast("Network", module)
            _, embedding, logits = member(_fitted(pixels, shape))
            logs.append((logits / temperature).log_softmax(dim=1))
            energies.append(-logits.logsumexp(dim=1))
            bank = member.bank
            none = logits.new_zeros(len(logits))
            distances.append(none if bank is None else bank.distances(embedding))
        return (), torch.cat([*logs, torch.stack(energies, 1), torch.stack(distances, 1)], 1)


class MixtureHead(nn.Module):
    """What members say, float32 (N, M * (K + 2)) -> logits of their weighted mean, (N, K).

    softmax(logits) is the mean of the members' probabilities, and the energy of the logits that of
    their energies.
    """

    def __init__(self, weights: Sequence[float], classes: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(list(weights)), persistent=False)
        self.classes = classes

    weights: torch.Tensor

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        count = len(self.weights)
        logs = embedding[:, : count * self.classes].reshape(-1, count, self.classes)
        energies = embedding[:, count * self.classes : count * (self.classes + 1)]
        mean = (logs + self.weights.log()[:, None]).logsumexp(dim=1)
        return mean - (energies @ self.weights)[:, None]


class MixtureBank(nn.Module):
    """The weighted mean of the members' distances, which stand last in what they say."""

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(list(weights)), persistent=False)

    weights: torch.Tensor

    def distances(self, embeddings: torch.Tensor) -> torch.Tensor:
        """float32 (N, M * (K + 2)) -> (N,)"""
        return embeddings[:, -len(self.weights) :] @ self.weights


def _fitted(pixels: torch.Tensor, shape: Shape) -> torch.Tensor:
    """uint8 (N, C, H, W) -> (N, *shape)"""
    pixels = to_gray(pixels) if shape[0] < pixels.shape[1] else pixels
    return pixels if pixels.shape[2:] == shape[1:] else scale(pixels, *shape[1:])
