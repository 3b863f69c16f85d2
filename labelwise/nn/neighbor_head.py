"""NeighborHead: answers by the nearest of the labeled images that it holds."""

from __future__ import annotations

import torch
from torch import nn

VOTERS = 10
SHARPNESS = 1 / 0.07  # of a vote by its cosine: Caron et al. 2021, arXiv:2104.14294, appendix
MOST_HELD = 5_000


class NeighborHead(nn.Linear):
    """Weighted votes of the nearest images: an embedding (N, D) of length 1 -> logits (N, K).

    A vote weighs exp(cosine / 0.07) (Wu et al. 2018, arXiv:1805.01978, section 3.4). One vote more,
    as heavy as the average, is split evenly among all classes, so that none is impossible. The
    weights of the layer are the images' embeddings and the bias is 0: cosines are linear.

    Attributes:
        labels: int64 (M,), of the images.
        classes: K.
    """

    labels: torch.Tensor

    def __init__(self, width: int, count: int, classes: int) -> None:
        """
        Args:
            width: D.
            count: M.
        """
        super().__init__(width, count, bias=False)
        self.classes = classes
        self.register_buffer("labels", torch.zeros(count, dtype=torch.int64))

    @property
    def is_sound(self) -> bool:
        """Whether all labels are of classes that there are."""
        return bool(((self.labels >= 0) & (self.labels < self.classes)).all())

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        nearest = super().forward(embedding).topk(min(VOTERS, len(self.labels)), dim=1)
        shares = (SHARPNESS * nearest.values).softmax(1)
        votes = shares.new_zeros(len(shares), self.classes)
        votes.scatter_add_(1, self.labels[nearest.indices], shares)
        return torch.log((votes * VOTERS + 1 / self.classes) / (VOTERS + 1))
