"""Occlusion: what a logit loses when a part of the image is covered; for any network."""

from __future__ import annotations

import torch

from labelwise.attribution.spread import spread
from labelwise.nn.network import Network

CELLS = 8  # a side; a patch covers two by two of them


@torch.inference_mode()
def occlusion(network: Network, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Mean loss of the logit over the patches that cover a place.

    Zeiler and Fergus (2014), arXiv:1311.2901, section 4.2; a patch has the image's mean color.

    Args:
        network: in inference mode, with a head.
        pixels: uint8 (N, C, H, W) at its input size.
        classes: int64 (N,).

    Returns:
        float32 (N, H, W); negative where covering helps the class.
    """
    height, width = pixels.shape[2:]
    rows, columns = (_edges(length) for length in (height, width))
    mean = pixels.float().mean((2, 3), keepdim=True).round().to(torch.uint8)

    def logit(images: torch.Tensor) -> torch.Tensor:
        return network.logits(images).float().gather(1, classes[:, None])[:, 0].cpu()

    before = logit(pixels)
    lost = torch.zeros(len(pixels), len(rows) - 1, len(columns) - 1)
    covers = torch.zeros(len(rows) - 1, len(columns) - 1)
    for i in range(max(1, len(rows) - 2)):
        for j in range(max(1, len(columns) - 2)):
            down, right = min(i + 2, len(rows) - 1), min(j + 2, len(columns) - 1)
            covered = pixels.clone()
            covered[:, :, rows[i] : rows[down], columns[j] : columns[right]] = mean
            lost[:, i:down, j:right] += (before - logit(covered))[:, None, None]
            covers[i:down, j:right] += 1
    return spread(lost / covers, (height, width))


def _edges(length: int) -> list[int]:
    """Where cells begin, and the end."""
    cells = min(CELLS, length)
    return [round(length * cell / cells) for cell in range(cells + 1)]
