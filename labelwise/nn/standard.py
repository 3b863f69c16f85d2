"""A head that learns on standardized embeddings, which a linear layer can take over afterwards.

Adam moves every weight by about the learning rate. On raw embeddings, some hundred numbers far from
zero, a first step in one direction changes logits by lr * sum |e|: at 1e-3 by more than a whole
head has learned. Centered and scaled, the same rate is a small step for every feature.
"""

from __future__ import annotations

import torch
from torch import nn

LEAST_SCALE = 0.05  # of a feature, in mean deviations: hardly any variance is not blown up


class StandardHead(nn.Linear):
    """The same function of embeddings as a linear layer, with other weights.

    Weights are those of features less their mean and over their deviation.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, plain: nn.Linear, embeddings: torch.Tensor) -> None:
        """
        Args:
            plain: what to start from; not changed.
            embeddings: float32 (N, D) of some images, N at least 1.
        """
        super().__init__(plain.in_features, plain.out_features, device=plain.weight.device)
        deviation = embeddings.std(0, correction=0)
        least = (LEAST_SCALE * deviation.mean()).clamp(min=1e-6)
        self.register_buffer("center", embeddings.mean(0))
        self.register_buffer("scale", deviation.clamp(min=least))
        with torch.no_grad():
            self.weight.copy_(plain.weight * self.scale)
            self.bias.copy_(plain.bias + plain.weight @ self.center)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return super().forward((embedding - self.center) / self.scale)

    @torch.no_grad()
    def hand_over(self, plain: nn.Linear) -> None:
        """Make a linear layer the same function."""
        plain.weight.copy_(self.weight / self.scale)
        plain.bias.copy_(self.bias - plain.weight @ self.center)
