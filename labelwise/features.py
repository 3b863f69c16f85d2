"""Features: prepared pixels and embeddings of images, computed once and kept in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from labelwise.backbones import Backbone
from labelwise.data.decode import SCALED_FROM, SCALING_VERSION
from labelwise.data.preprocess import BATCH, Color, Preprocessing, Resize, in_batches, prepared
from labelwise.data.scan import threads
from labelwise.errors import OptionError
from labelwise.nn.fixed import CENTER, FixedView
from labelwise.store import Store

if TYPE_CHECKING:
    import torch

    from labelwise.data.dataset import Images
    from labelwise.engine import Engine
    from labelwise.nn.layers import Stack
    from labelwise.nn.taps import Taps

#: told the number of images just done and the number to do
JustDone = Callable[[int, int], None]

AT_ONCE = 4096  # images whose embeddings are in memory, where only a part of them needs to be
SMALL_SIDE = 64  # images up to this size are enlarged to SMALL_INPUT only: more costs, gains little
SMALL_INPUT = 128


def stored_pixels(
    images: Images, preprocessing: Preprocessing, *, advance: JustDone | None = None
) -> torch.Tensor:
    """Pixels at a model's input size; uint8 (N, C, H, W)."""
    import torch

    def compute(positions: np.ndarray) -> Iterator[np.ndarray]:
        for pixels in prepared(images.subset(positions), preprocessing):
            yield pixels.numpy()
            if advance is not None:
                advance(len(pixels), len(positions))

    return torch.from_numpy(pixel_store(preprocessing).rows(images.contents, compute))


def pixel_store(preprocessing: Preprocessing) -> Store:
    """Where pixels at one input size are kept."""
    import torchvision

    key = {
        "what": "pixels",
        "preprocessing": vars(preprocessing),
        "decode": _decoding(),
        "resize": f"torchvision {torchvision.__version__}",
    }
    return Store.open(key, preprocessing.shape, "uint8")


def embeddings(
    images: Images,
    backbone: Backbone,
    preprocessing: Preprocessing,
    *,
    view: FixedView = CENTER,
    advance: JustDone | None = None,
) -> torch.Tensor:
    """Pooled stages of a frozen backbone, from the store where they are known already.

    Several images are decoded and computed at once, one per core at most; memory grows only with
    what is returned.

    Args:
        view: how every prepared image is changed before.

    Returns:
        float32 (N, D): the mean of every stage's maps over height and width, all stages after one
        another, the final embedding last; `Taps.widths` gives their widths.
    """
    import torch

    store = embedding_store(backbone, preprocessing, view)
    total = len(store.missing(images.contents))

    def compute(positions: np.ndarray) -> Iterator[np.ndarray]:
        engine = engine_for(backbone, preprocessing, len(images.dataset.usable))

        def embed(pixels: torch.Tensor) -> np.ndarray:
            return engine(view(pixels))

        for rows in in_batches(images.subset(positions), preprocessing, embed):
            yield rows
            if advance is not None:
                advance(len(rows), total)

    return torch.from_numpy(store.rows(images.contents, compute))


def input_of(
    backbone: Backbone,
    images: Images,
    *,
    image_size: int | None = None,
    color: Color | None = None,
    resize: Resize | None = None,
) -> Preprocessing:
    """How images become a backbone's input: as it was trained, but for what is given.

    Args:
        images: of the data set that decides; all of it, so that every fit gets the same size.

    Raises:
        OptionError, LayerError: the network takes no images of this size or color.
    """
    own = backbone.preprocessing
    size = (image_size, image_size) if image_size is not None else (own.height, own.width)
    if backbone.resizable and image_size is None:
        everything = images.dataset.images(images.dataset.usable)
        small = float(np.median(everything.sizes.min(axis=1))) <= SMALL_SIDE
        size = (min(SMALL_INPUT, size[0]), min(SMALL_INPUT, size[1])) if small else size
    if not backbone.resizable and size != (own.height, own.width):
        raise OptionError(
            f"--image-size {image_size}: the backbone {backbone.name!r} takes images of "
            f"{own.width} x {own.height} pixels only. Leave the option out."
        )
    if color == "rgb" and len(backbone.mean) == 1:
        raise OptionError(
            f"--color rgb: the backbone {backbone.name!r} was trained on gray images. Leave the "
            "option out, or give --color gray."
        )
    if backbone.resizable and size != (own.height, own.width):
        _require_size(backbone, *size)
    return replace(
        own, height=size[0], width=size[1], color=color or own.color, resize=resize or own.resize
    )


@lru_cache(maxsize=16)
def _require_size(backbone: Backbone, height: int, width: int) -> None:
    """Refuse a size that the network cannot take before any image is read."""
    from labelwise.nn.taps import Taps

    if isinstance(body := load_body(backbone), Taps):
        body.widths_at((height, width))


def embedding_store(
    backbone: Backbone, preprocessing: Preprocessing, view: FixedView = CENTER
) -> Store:
    """Where a backbone's embeddings are kept; the key names all that decides their values."""
    import timm
    import torch
    import torchvision

    key = {
        "what": "embedding",
        **_frozen(backbone),
        "preprocessing": vars(preprocessing),
        "decode": _decoding(),
        "engine": f"torch {torch.__version__} or onnxruntime {version('onnxruntime')}",
        "resize": f"torchvision {torchvision.__version__}",
        "timm": timm.__version__,
        "view": view.name,
    }
    return Store.open(key, [load_body(backbone).width], "float32")


def engine_for(backbone: Backbone, preprocessing: Preprocessing, images: int) -> Engine:
    """What computes a backbone's embeddings here; `images` are those of the whole data set."""
    return _engine(backbone, preprocessing.shape, images)


def embedding_seconds(
    backbone: Backbone,
    preprocessing: Preprocessing,
    images: Images,
    views: Sequence[FixedView] = (CENTER,),
) -> float:
    """How long the embeddings of views take that are not in the store.

    Timed on empty images and the last view.
    """
    import torch

    stores = [embedding_store(backbone, preprocessing, view) for view in views]
    missing = sum(len(store.missing(images.contents)) for store in stores)
    if not missing:
        return 0.0
    engine = engine_for(backbone, preprocessing, len(images.dataset.usable))
    blank = torch.zeros(BATCH, *preprocessing.shape, dtype=torch.uint8)

    def embed(pixels: torch.Tensor) -> np.ndarray:
        return engine(views[-1](pixels))

    embed(blank)
    started = time.perf_counter()
    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(embed, [blank] * threads()))
    return (time.perf_counter() - started) / (BATCH * threads()) * missing


def _frozen(backbone: Backbone) -> dict[str, Any]:
    """What names the function from prepared pixels to embeddings; JSON-safe."""
    return {
        "weights": backbone.sha256,
        "architecture": load_body(backbone).architecture,
        **backbone.scaling,
    }


def _decoding() -> str:
    """What decides how photos become pixels at the size of an input."""
    rule = f"JPEG scaled from {SCALED_FROM} pixels, rule {SCALING_VERSION}"
    return f"{rule}, Pillow {version('pillow')}"


@lru_cache(maxsize=2)
def _engine(backbone: Backbone, shape: tuple[int, int, int], images: int) -> Engine:
    from labelwise.engine import Pooled, open_engine

    pooled = Pooled(load_body(backbone), partial(normalized, backbone=backbone))
    return open_engine(pooled, _frozen(backbone), shape, images)


def normalized(pixels: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    """uint8 (N, C, H, W) as the backbone's weights expect it, in the memory order fast on a CPU."""
    import torch

    mean = torch.tensor(backbone.mean).view(-1, 1, 1)
    std = torch.tensor(backbone.std).view(-1, 1, 1)
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=2)
def load_body(backbone: Backbone) -> Taps | Stack:
    """The network of a backbone, read once per process; shared, so it must never be trained."""
    import torch

    body = backbone.body()
    for weights in body.parameters():
        weights.requires_grad_(False)
    return body.to(memory_format=torch.channels_last)
