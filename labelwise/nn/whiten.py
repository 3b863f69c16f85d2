"""First values of convolutions: whitening filters made of training images, and the identity."""

from __future__ import annotations

import torch
from torch import nn

from labelwise.errors import DataError, LayerError

CHUNK = 256  # images whose patches lie in memory at once


@torch.no_grad()
def whitening_filters(pixels: torch.Tensor, kernel: int, eps: float = 5e-4) -> torch.Tensor:
    """Filters of a frozen first convolution whose responses are uncorrelated, with unit variance.

    The eigenvectors of the covariance of the images' patches, each divided by the root of its
    eigenvalue, the strongest first; then all of them negated, so that a rectifier behind loses
    nothing (Page 2019, "How to train your ResNet 8"; Jordan 2024, arXiv:2404.00498, section 3.2).

    Args:
        pixels: float (N, C, H, W), a sample of the training images as the convolution gets them;
            a few thousand are enough.
        kernel: side k of the filters.
        eps: added to the eigenvalues, positive; keeps directions without variance from exploding.

    Returns:
        float32 (2 * C * k * k, C, k, k), on the images' device.

    Raises:
        DataError: there is no image, or the images are smaller than the kernel.
    """
    count, channels, *sides = pixels.shape
    if not count or min(sides) < kernel:
        raise DataError(
            f"Whitening filters of {kernel}x{kernel} pixels cannot be made of {count} images of "
            f"{sides[0]}x{sides[1]} pixels. Use at least one image as large as the filters."
        )
    values, vectors = torch.linalg.eigh(_covariance(pixels, kernel))
    scaled = (vectors / (values.clamp(min=0) + eps).sqrt()).T.flip(0).float()
    filters = scaled.reshape(-1, channels, kernel, kernel)
    return torch.cat([filters, -filters]).to(pixels.device)


@torch.no_grad()
def identity_(conv: nn.Conv2d) -> None:
    """Let the first outputs of a convolution be its inputs; further filters and the bias stay.

    Raises:
        LayerError: it has fewer outputs than inputs, or groups.
    """
    if conv.out_channels < conv.in_channels or conv.groups > 1:
        raise LayerError(
            f"a convolution of {conv.in_channels} to {conv.out_channels} channels in "
            f"{conv.groups} groups cannot begin as the identity: use one group, and at least as "
            "many filters as it has inputs."
        )
    nn.init.dirac_(conv.weight[: conv.in_channels])


def _covariance(pixels: torch.Tensor, kernel: int) -> torch.Tensor:
    """Covariance of all patches, float64 (C * k * k, C * k * k), on the CPU."""
    width = pixels.shape[1] * kernel**2
    height, across = (side - kernel + 1 for side in pixels.shape[2:])
    total, products = torch.zeros(width).double(), torch.zeros(width, width).double()
    shift = pixels.mean((0, 2, 3), keepdim=True)  # near the mean, sums of products lose no digits
    patches = 0
    for chunk in torch.split((pixels - shift).float().transpose(0, 1), CHUNK, 1):
        # Row by row what one place in the kernel sees; copying slices is faster than unfolding.
        columns = torch.stack(
            [
                chunk[..., y : y + height, x : x + across].flatten(1)
                for y in range(kernel)
                for x in range(kernel)
            ],
            1,
        ).flatten(0, 1)
        total += columns.sum(1).double().cpu()
        products += (columns @ columns.T).double().cpu()
        patches += columns.shape[1]
    mean = total / patches
    return products / patches - mean.outer(mean)
