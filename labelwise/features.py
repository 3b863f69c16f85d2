"""Features: prepared pixels and embeddings of images, computed once and kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from labelwise.backbones import Backbone
from labelwise.data.preprocess import Preprocessing, prepared
from labelwise.store import Store

if TYPE_CHECKING:
    import torch

    from labelwise.data.dataset import Images
    from labelwise.nn.taps import Taps

#: told the number of images just done and the number to do
Advance = Callable[[int, int], None]

BATCH = 16  # images per forward pass: large enough for full speed, small enough for any memory


def stored_pixels(
    images: Images, preprocessing: Preprocessing, *, advance: Advance | None = None
) -> torch.Tensor:
    """Pixels at a model's input size; uint8 (N, C, H, W)."""
    import torch
    import torchvision

    key = {
        "what": "pixels",
        "preprocessing": vars(preprocessing),
        "resize": f"torchvision {torchvision.__version__}",
    }

    def compute(positions: np.ndarray) -> Iterator[np.ndarray]:
        for pixels in prepared(images.subset(positions), preprocessing):
            yield pixels.numpy()
            if advance is not None:
                advance(len(pixels), len(positions))

    store = Store.open(key, preprocessing.shape, "uint8")
    return torch.from_numpy(store.rows(images.contents, compute))


def embeddings(
    images: Images,
    backbone: Backbone,
    preprocessing: Preprocessing,
    *,
    advance: Advance | None = None,
) -> torch.Tensor:
    """Pooled stages of a frozen backbone, from the store where they are known already.

    Returns:
        float32 (N, D): the mean of every stage's maps over height and width, all stages after one
        another, the final embedding last; `Taps.widths` gives their widths.
    """
    import torch

    body = load_taps(backbone)
    store = embedding_store(backbone, preprocessing)
    total = len(store.missing(images.contents))

    @torch.inference_mode()
    def compute(positions: np.ndarray) -> Iterator[np.ndarray]:
        for pixels in prepared(images.subset(positions), preprocessing, batch=BATCH):
            yield body(normalized(pixels, backbone))[1].numpy()
            if advance is not None:
                advance(len(pixels), total)

    return torch.from_numpy(store.rows(images.contents, compute))


def embedding_store(backbone: Backbone, preprocessing: Preprocessing) -> Store:
    """Where a backbone's embeddings are kept; the key names all that decides their values."""
    import timm
    import torch
    import torchvision

    key = {
        "what": "embedding",
        "weights": backbone.sha256,
        "architecture": backbone.timm_name,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "preprocessing": vars(preprocessing),
        "decode": "full",
        "engine": f"torch {torch.__version__}",
        "resize": f"torchvision {torchvision.__version__}",
        "timm": timm.__version__,
        "view": "center",
    }
    return Store.open(key, [load_taps(backbone).width], "float32")


def normalized(pixels: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    """uint8 (N, 3, H, W) as the backbone's weights expect it, in the memory order fast on a CPU."""
    import torch

    mean = torch.tensor(backbone.mean).view(-1, 1, 1)
    std = torch.tensor(backbone.std).view(-1, 1, 1)
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=2)
def load_taps(backbone: Backbone) -> Taps:
    """The network of a backbone, read once per process; shared, so it must never be trained."""
    import torch

    body = backbone.taps()
    for weights in body.parameters():
        weights.requires_grad_(False)
    return body.to(memory_format=torch.channels_last)
