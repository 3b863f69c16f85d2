"""CAM: class activation maps, exact for a linear head on means of maps or on maps themselves."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from labelwise.attribution.spread import spread
from labelwise.nn.network import Body, Network


@torch.inference_mode()
def cam(network: Network, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor | None:
    """What every place of an image adds to the logit of a class.

    Zhou et al. (2016), arXiv:1512.04150, equation 2; where the embedding joins the means of several
    stages, the weighted maps of each are brought to the input's size and added. Summed over an
    image, with the head's bias, a map is the logit of the image as it is, without views.

    Args:
        network: in inference mode.
        pixels: uint8 (N, C, H, W) at its input size.
        classes: int64 (N,).

    Returns:
        float32 (N, H, W), or None where the head is not linear in the maps.
    """
    head = network.head
    if type(head) is not nn.Linear:  # deep heads and neighbors are not linear, though they inherit
        return None
    maps, embedding = cast(Body, network.body)(network.normalized(pixels))
    weights, start = head.weight[classes], 0  # (N, D)
    heat = pixels.new_zeros(len(pixels), *pixels.shape[2:], dtype=torch.float32)
    for found in maps:
        count, places = found.shape[1], found.shape[2] * found.shape[3]
        mean, flat = found.mean((2, 3)), found.flatten(1)
        if _begins(embedding[:, start:], mean):
            own = weights[:, start : start + count]
            piece = torch.einsum("nc,nchw->nhw", own, found) / places
            start += count
        elif _begins(embedding[:, start:], flat):
            own = weights[:, start : start + count * places]
            piece = (own.reshape(found.shape) * found).sum(1)
            start += count * places
        else:
            return None
        heat += spread(piece, (pixels.shape[2], pixels.shape[3]))
    return heat if maps and start == embedding.shape[1] else None


def _begins(embedding: torch.Tensor, part: torch.Tensor) -> bool:
    """Whether a part of an embedding is what its first numbers are."""
    width = part.shape[1]
    return embedding.shape[1] >= width and bool(
        torch.allclose(embedding[:, :width], part, rtol=1e-3, atol=1e-4)
    )
