"""Bank: what a network remembers of images it has learned from, to tell what is unlike them."""

from __future__ import annotations

import torch
from torch import nn

NEAREST = 5  # the neighbor whose distance counts; see docs/results.md
MOST_POINTS, MOST_NUMBERS = 2_000, 2**21  # 8 MB at most


class Bank(nn.Module):
    """Directions of the last stage of some images' embeddings (Sun et al. 2022, arXiv:2204.06507).

    Attributes:
        points: float32 (M, W), of length 1.
    """

    def __init__(self, count: int, width: int) -> None:
        """
        Args:
            count: M.
            width: W, of the embeddings' last stage.
        """
        super().__init__()
        self.points = nn.Parameter(torch.zeros(count, width), requires_grad=False)

    def fill(self, embeddings: torch.Tensor) -> None:
        """Remember the embeddings of M images; float32 (M, D)."""
        with torch.no_grad():
            self.points.copy_(self._directions(embeddings))

    def distances(self, embeddings: torch.Tensor) -> torch.Tensor:
        """How far some images' directions are from the NEAREST-th nearest point, or the last of
        fewer; float32 (N, D) -> (N,), 0 to 2.
        """
        nearest = self.cosines(embeddings).topk(min(NEAREST, len(self.points)), dim=1).values[:, -1]
        return (2 - 2 * nearest).clamp(min=0).sqrt()

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Of the angles to all points; float32 (N, D) -> (N, M)."""
        return self._directions(embeddings) @ self.points.T

    def _directions(self, embeddings: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(embeddings[:, -self.points.shape[1] :], dim=1)


def most_points(width: int) -> int:
    """How many images a bank of embeddings remembers, at most."""
    return min(MOST_POINTS, max(1, MOST_NUMBERS // width))
