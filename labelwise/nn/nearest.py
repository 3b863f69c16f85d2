"""Nearest class mean as a linear head, for when there is one label per class or so.

With centered features x of unit length on average and class means m of unit length, the nearest
mean by angle is that with the largest x @ m (Mensink et al. 2013, doi:10.1109/TPAMI.2013.83, with
angles): linear in x, so that the head is one of the same kind as that of a regression.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from labelwise.nn.logistic import Heads, block_numbers, shrunken

SHARPNESS = 4.0  # of the softmax over cosines: too few labels to fit it to; see docs/results.md


def nearest_means(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    blocks: Sequence[int],
    weights: torch.Tensor | None = None,
) -> Heads:
    """The head of one problem.

    Args:
        features: float32 (N, D), N at least 1.
        labels: int64 (N,), 0..K-1.
        classes: K.
        blocks: widths of the stages in D; see nn/logistic.py for what they do to variances.
        weights: of the images in the means, float32 (N,), positive; None: all 1.
    """
    center = features.mean(0)
    variance = shrunken(
        features.var(0, correction=0), len(features), block_numbers(blocks, features.shape[1])
    )
    inverse = torch.where(variance > 1e-12, variance.rsqrt(), 0.0)
    x = (features - center) * inverse
    lengths = x.norm(dim=1, keepdim=True)
    onehot = torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    counted = onehot if weights is None else onehot * weights[:, None]
    unit = x / lengths.clamp(min=1e-12)
    means = torch.nn.functional.normalize(counted.T @ unit, dim=1)
    weight = SHARPNESS / lengths.mean().clamp(min=1e-12) * means.T * inverse[:, None]  # (D, K)
    bias = torch.where(onehot.sum(0) > 0, -center @ weight, -1e3)
    return Heads(weight[None], bias[None])
