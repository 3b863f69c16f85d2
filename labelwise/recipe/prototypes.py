"""Prototypes: a head that answers with the class whose mean embedding is nearest by angle.

On embeddings of length 1 that is a linear layer (Snell et al. 2017, arXiv:1703.05175, section 2.4):
a class needs some labeled images and no training. How sure the answers are is one number, a
temperature, found on images that the means do not contain.
"""

from __future__ import annotations

import torch
from torch import nn

from labelwise.recipe.heads import best_temperature

SHARPNESS = 5.0  # of cosines before the temperature, which is searched from 0.1 to 100
NEVER = -1e3  # bias of a class without an image


def prototype_head(
    codes: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    held: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> nn.Linear:
    """The head of embeddings (N, D) of length 1 with labels int64 (N,), 0..K-1.

    Args:
        classes: K.
        held: embeddings and labels that the temperature is found on; None: the given ones, each
            answered by means without it.
    """
    sums = codes.new_zeros(classes, codes.shape[1]).index_add_(0, labels, codes)
    means = nn.functional.normalize(sums, dim=1)
    counts = torch.bincount(labels, minlength=classes)
    bias = torch.where(counts > 0, 0.0, NEVER)
    if held is None:
        some = (counts[labels] > 1).nonzero()[:, 0]
        cosines = codes[some] @ means.T
        others = nn.functional.normalize(sums[labels[some]] - codes[some], dim=1)
        cosines[torch.arange(len(some)), labels[some]] = (codes[some] * others).sum(1)
        truth = labels[some]
    else:
        cosines, truth = held[0] @ means.T, held[1]
    sharpness = SHARPNESS
    if len(truth):
        sharpness /= best_temperature(SHARPNESS * cosines + bias, truth)[0]
    head = nn.Linear(codes.shape[1], classes)
    with torch.no_grad():
        head.weight.copy_(sharpness * means)
        head.bias.copy_(bias)
    return head
