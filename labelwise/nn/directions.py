"""Directions: embeddings where they vary most, as shorter vectors, and heads there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labelwise.nn.logistic import block_numbers, shrunken

MOST = 256  # directions


@dataclass(frozen=True)
class Directions:
    """A linear map z = (x - center) @ onto from embeddings to vectors, and one back.

    Attributes:
        center: float32 (D,).
        onto: float32 (D, R).
        back: float32 (R, D), with x about center + z @ back.
    """

    center: torch.Tensor
    onto: torch.Tensor
    back: torch.Tensor

    @staticmethod
    def of(embeddings: torch.Tensor, blocks: Sequence[int], most: int = MOST) -> Directions:
        """The principal directions of standardized embeddings; vectors have a mean variance of 1.

        Args:
            embeddings: float32 (N, D), a sample; some thousands are enough.
            blocks: widths of the stages in D; see nn/logistic.py for what they do to variances.
            most: R, at most.
        """
        center = embeddings.mean(0)
        count, width = embeddings.shape
        variance = shrunken(
            embeddings.var(0, correction=0), count, block_numbers(blocks, width)
        ).clamp(min=1e-12)
        scale = variance.sqrt()
        x = ((embeddings - center) / scale).double()
        values, vectors = torch.linalg.eigh(x.T @ x if width <= count else x @ x.T)
        kept = min(most, int((values > 1e-6 * values[-1]).sum()), len(values))
        values, vectors = values[-kept:].flip(0), vectors[:, -kept:].flip(1)
        if width > count:  # eigenvectors of the products of images, from which those of features
            vectors = x.T @ vectors / values.sqrt()
        size = (values.mean() / count).sqrt()
        onto = vectors.float() / scale[:, None] / size.float()
        back = vectors.T.float() * scale * size.float()
        return Directions(center, onto, back)

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        """float32 (n, D) -> (n, R)."""
        return (embeddings - self.center) @ self.onto

    def head_there(
        self, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A head on embeddings, (D, K) and (K,), as one on vectors, (R, K) and (K,).

        It says the same of embeddings that vary in these directions only.
        """
        return self.back @ weight, bias + self.center @ weight

    def head_back(
        self, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A head on vectors as one on embeddings, which says exactly the same."""
        whole = self.onto @ weight
        return whole, bias - self.center @ whole
