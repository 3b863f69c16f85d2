"""Geometry of image batches: mirror, shift, cover, warp; every image by numbers of its own.

Mirroring and shifting only say where rows and columns come from. A `Frame` collects that and
gathers the pixels once: rows by copying lines (0.2 ms for 256 images of 3x32x32 on 2 cores), then
columns inside the lines (0.7 ms). Indexing pixel by pixel takes 10 ms, a loop over images 6 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass
class Frame:
    """Images under way.

    Attributes:
        source: (N, C, H, W), never written to.
        rows, columns: int64 (N, H) and (N, W): the row and column of the source that every row and
            column of the result is; None where nothing moves.
    """

    source: torch.Tensor
    rows: torch.Tensor | None = None
    columns: torch.Tensor | None = None

    def mirror(self, chosen: torch.Tensor) -> None:
        """Exchange left and right of the chosen images, bool (N,)."""
        width = self.source.shape[3]
        plain = torch.arange(width, device=chosen.device)
        moved = torch.where(chosen[:, None], plain.flip(0), plain)
        self.columns = moved if self.columns is None else self.columns.gather(1, moved)

    def shift(self, down: torch.Tensor, right: torch.Tensor) -> None:
        """Move the images by whole pixels, int64 (N,), less than a side; reflect what is bare."""
        height, width = self.source.shape[2:]
        rows, columns = origins(height, down), origins(width, right)
        self.rows = rows if self.rows is None else self.rows.gather(1, rows)
        self.columns = columns if self.columns is None else self.columns.gather(1, columns)

    def pixels(self) -> torch.Tensor:
        """The moved images in the source's memory format; the source itself if nothing moved."""
        if self.rows is None and self.columns is None:
            return self.source
        lines, each = _lines(self.source)
        count, planes, height, width = lines.shape
        if self.rows is not None:
            first = (
                torch.arange(count * planes, device=lines.device).view(count, planes, 1) * height
            )
            start = (first + self.rows[:, None]).flatten()
            lines = lines.reshape(-1, width).index_select(0, start)
        if self.columns is not None:
            inside = self.columns[:, :, None] * each + torch.arange(each, device=lines.device)
            lines = lines.reshape(count, planes * height, width)
            lines = lines.gather(2, inside.view(count, 1, width).expand_as(lines))
        return _images(lines.view(count, planes, height, width), each)


def origins(size: int, shift: torch.Tensor) -> torch.Tensor:
    """Where each of `size` places comes from after a shift, int64 (N,) -> (N, size).

    Places beyond an end are reflected at it; the end itself is not repeated (numpy's "reflect").
    """
    places = (torch.arange(size, device=shift.device) - shift[:, None]).abs()
    return (size - 1) - ((size - 1) - places).abs()


def erase_bare(pixels: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Zeros where a shift left images bare, uint8 in and out."""
    height, width = pixels.shape[2:]
    lines, each = _lines(pixels)
    return _images(lines * _box(lines, each, down, right, height, width), each)


def cover(
    pixels: torch.Tensor, top: torch.Tensor, left: torch.Tensor, side: int, fill: torch.Tensor
) -> torch.Tensor:
    """Cover a square of every image; parts of it may lie outside.

    Args:
        pixels: uint8 (N, C, H, W).
        top, left: int64 (N,), may be negative.
        fill: uint8 (N, C).
    """
    lines, each = _lines(pixels)
    # Products of bytes take a fifth of the time of torch.where and masked_fill.
    hole = _box(lines, each, top, left, side, side)
    fills = fill.view(len(fill), -1, 1, each).expand(-1, -1, pixels.shape[3], -1).flatten(2)
    return _images(lines * (1 - hole) + hole * fills[:, :, None], each)


def channel_means(pixels: torch.Tensor) -> torch.Tensor:
    """float32 (N, C)."""
    lines, each = _lines(pixels)
    return lines.float().mean(2).view(*lines.shape[:2], -1, each).mean(2).flatten(1)


def warp(pixels: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Affine maps, bilinear, reflected beyond the border (with the border pixel repeated).

    Args:
        pixels: uint8 (N, C, H, W).
        matrices: float32 (N, 2, 3). A pixel at p = (x, y) from the image's center takes the value
            at matrix[:, :2] @ p + matrix[:, 2], in pixels.
    """
    height, width = pixels.shape[2:]
    # torch counts from -1 to 1 along either side.
    scale = matrices.new_tensor([[1, height / width, 2 / width], [width / height, 1, 2 / height]])
    grid = functional.affine_grid(matrices * scale, list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(
        pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    last = _lines(pixels)[1] > 1
    layout = torch.channels_last if last else torch.contiguous_format
    return moved.round_().clamp_(0, 255).byte().contiguous(memory_format=layout)


def _box(
    lines: torch.Tensor, each: int, top: torch.Tensor, left: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """uint8 (N, 1, H, length of a line): ones inside a box of every image."""
    y = torch.arange(lines.shape[2], device=top.device) - top[:, None]
    x = torch.arange(lines.shape[3], device=left.device) // each - left[:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    return inside[:, None].to(torch.uint8)


def _lines(pixels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Images as they lie in memory, and how many neighbors in a line are one pixel.

    (N, C, H, W) and 1, or of channels_last images (N, 1, H, W * C) and C.
    """
    last = pixels.is_contiguous(memory_format=torch.channels_last)
    if last and not pixels.is_contiguous():  # one channel can be read either way
        return pixels.permute(0, 2, 3, 1).flatten(2)[:, None], pixels.shape[1]
    return pixels.contiguous(), 1


def _images(lines: torch.Tensor, each: int) -> torch.Tensor:
    """The images (N, C, H, W) of `_lines`; where each is 1 they are the lines."""
    if each == 1:
        return lines
    count, _, height, width = lines.shape
    return lines.view(count, height, width // each, each).permute(0, 3, 1, 2)
