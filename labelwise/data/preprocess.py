"""Preprocessing: how a photo of any size becomes a model's input. Recorded with every model."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from labelwise.data.convert import as_gray, luma
from labelwise.data.dataset import Size
from labelwise.data.scan import threads

if TYPE_CHECKING:
    import torch

    from labelwise.data.dataset import Images

Color = Literal["rgb", "gray"]
Resize = Literal["crop", "squash", "pad"]
T = TypeVar("T")

SMALL = 2**16  # pixels of an image up to which images of one size are scaled together
BATCH = 8  # images a thread works on at a time: full speed, and small enough for any memory
MANY = 256  # small ones


@dataclass(frozen=True)
class Preprocessing:
    """Pixels of any size in, uint8 (C, height, width) out.

    Attributes:
        height, width: size of the result in pixels.
        color: "rgb" (C = 3) or "gray" (C = 1).
        resize: "crop" scales the image to cover the size and cuts the middle out, "squash" changes
            the aspect ratio, "pad" scales the image to fit and fills the rest with black.
    """

    height: int
    width: int
    color: Color = "rgb"
    resize: Resize = "crop"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, height, width)."""
        return (channels_of(self.color), self.height, self.width)

    @property
    def size(self) -> Size:
        """(height, width); an image decoded at this size or above loses no detail."""
        return self.height, self.width

    def __call__(self, image: np.ndarray, full: Size | None = None) -> torch.Tensor:
        """One decoded image, uint8 (H, W) or (H, W, 3), as a uint8 tensor of `shape`.

        Args:
            full: height and width of the photo if it was decoded at a smaller scale; its edges
                decide about the geometry, for at that scale they fall between pixels.
        """
        import torch

        return self._sized(torch.from_numpy(_to_color(image, self.color)), full)

    def together(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Images of one size, each uint8 (H, W) or (H, W, 3), as (N, C, height, width): the same
        as one by one, in a fraction of the time where they are small."""
        import torch

        channels = np.stack([_to_color(image, self.color) for image in images])
        return self._sized(torch.from_numpy(channels))

    def _sized(self, channels: torch.Tensor, full: Size | None = None) -> torch.Tensor:
        """(..., C, H, W) -> (..., C, height, width)"""
        if channels.shape[-2:] == self.size:
            return channels
        fit = {"crop": max, "pad": min}.get(self.resize)
        if fit is None:
            return scale(channels, self.height, self.width)
        height, width = full or channels.shape[-2:]
        tall, wide = channels.shape[-2] / height, channels.shape[-1] / width
        factor = fit(self.height / height, self.width / width)
        if self.resize == "crop":
            channels = _center(
                channels,
                _middle(channels.shape[-2], math.ceil(self.height / factor * tall)),
                _middle(channels.shape[-1], math.ceil(self.width / factor * wide)),
            )
        scaled = scale(
            channels,
            max(1, round(channels.shape[-2] / tall * factor)),
            max(1, round(channels.shape[-1] / wide * factor)),
        )
        return _center(scaled, self.height, self.width)


def channels_of(color: Color) -> int:
    """C: 3 of rgb, 1 of gray."""
    return 3 if color == "rgb" else 1


def prepared(
    images: Images, preprocessing: Preprocessing, *, batch: int | None = None
) -> Iterator[torch.Tensor]:
    """Decode and preprocess images in order, on all cores; see `in_batches`.

    Args:
        batch: by default more of small images, for which little else than a batch takes time.

    Yields:
        uint8 tensors (n, C, H, W) with n <= batch.
    """
    if batch is None:
        largest = max(int(images.sizes.prod(1).max(initial=1)), math.prod(preprocessing.size))
        batch = min(MANY, max(BATCH, SMALL * BATCH // largest))
    return in_batches(images, preprocessing, lambda pixels: pixels, batch=batch)


def in_batches(
    images: Images,
    preprocessing: Preprocessing,
    work: Callable[[torch.Tensor], T],
    *,
    batch: int = BATCH,
) -> Iterator[T]:
    """Decode, preprocess and work on images, a thread per core and a batch per thread.

    So one thread decodes while another computes, and none waits for another but at the end.

    Args:
        work: gets uint8 (n, C, H, W) with n <= batch; called in several threads at once.

    Yields:
        What `work` gave for every batch, in order. Memory does not grow with the number of images.
    """
    import torch

    sizes = images.sizes[:, ::-1].tolist()

    def one(start: int) -> T:
        positions = range(start, min(start + batch, len(images)))
        first = sizes[start]
        if math.prod(first) <= SMALL and all(sizes[position] == first for position in positions):
            return work(preprocessing.together([images.read(position) for position in positions]))
        return work(torch.stack([prepare(position) for position in positions]))

    def prepare(position: int) -> torch.Tensor:
        image = images.read(position, preprocessing.size)
        return preprocessing(image, sizes[position])

    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads(), "labelwise-images") as pool:
        try:
            for start in range(0, len(images), batch):
                pending.append(pool.submit(one, start))
                if len(pending) > 2 * threads():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _to_color(image: np.ndarray, color: Color) -> np.ndarray:
    """(H, W) or (H, W, 3) to a contiguous, writable (C, H, W)."""
    if color == "gray":
        if image.ndim == 3:
            image = as_gray(image)
        return np.array(image[None])
    if image.ndim == 2:
        return np.repeat(image[None], 3, axis=0)
    return np.array(image.transpose(2, 0, 1), order="C")


def to_gray(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (..., 3, H, W) -> (..., 1, H, W), the same gray values as for single images."""
    import torch

    gray: torch.Tensor = luma(*pixels.int().unbind(-3))
    return gray.to(torch.uint8).unsqueeze(-3)


def scale(channels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """uint8 (..., C, H, W) -> (..., C, height, width)"""
    # Antialiased bicubic on uint8: a few gray levels from Pillow's at most, several times faster.
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    scaled: torch.Tensor = resize(
        channels, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return scaled


def _middle(side: int, needed: int) -> int:
    """How much of a side is scaled: of a long strip only the middle, or it would fill the memory.

    Odd and even sides stay so, that the middle stays where it is.
    """
    return min(side, 4 * needed + side % 2)


def _center(channels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut the middle out, or fill around it with black; (..., height, width)."""
    top, left = (channels.shape[-2] - height) // 2, (channels.shape[-1] - width) // 2
    if top >= 0 and left >= 0:
        return channels[..., top : top + height, left : left + width].contiguous()
    result = channels.new_zeros(*channels.shape[:-2], height, width)
    part = channels[..., max(top, 0) :, max(left, 0) :][..., :height, :width]
    down, right = max(-top, 0), max(-left, 0)
    result[..., down : down + part.shape[-2], right : right + part.shape[-1]] = part
    return result
