"""A first convolution and its maximum pooling as one product of matrices.

Under all places of a pooling window, a convolution sees one larger window: 4x4 pixels for filters
of 3x3 and a pooling of 2x2. The large windows are gathered once, and one product applies every
filter at every place of its window. The maximum over the places is then one of whole rows; pooling
a map pixel by pixel takes longer than all the rest of a small network's step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import nn

mask = torch.ops.aten.threshold_backward.grad_input  # what passes where another value is above
BELOW_ZERO = -torch.finfo(torch.float32).tiny  # nothing but zero lies between this and zero


@dataclass(frozen=True)
class Filters:
    """A convolution, the zeros around its images, and the pooling behind it.

    Attributes:
        pads: left, right, top, bottom.
        pool, jump: height and width of a pooling window, and from one to the next; 1 for none.
    """

    conv: nn.Conv2d
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)

    @property
    def places(self) -> list[tuple[slice, slice]]:
        """Where the filters lie in the large window, for every place of the pooling window."""
        (high, wide), (down, right) = self.conv.kernel_size, self._stride
        return [
            (slice(down * i, down * i + high), slice(right * j, right * j + wide))
            for i, j in product(*map(range, self.pool))
        ]

    def windows(self, images: torch.Tensor) -> torch.Tensor:
        """The large windows of padded images (n, C, H, W); a view, (C, h, w, n, rows, columns)."""
        n, channels, height, width = images.shape
        (down, right), sides = self._stride, self.sides
        steps = (down * self.jump[0], right * self.jump[1])
        rows, columns = (
            (size - side) // step + 1
            for size, side, step in zip((height, width), sides, steps, strict=True)
        )
        area = height * width
        return images.as_strided(
            (channels, *sides, n, rows, columns),
            (area, width, 1, channels * area, steps[0] * width, steps[1]),
        )

    def values(self, shape: tuple[int, int, int]) -> int:
        """How many values both passes over one image (C, H, W) keep, about."""
        left, right, top, bottom = self.pads
        channels, height, width = shape
        padded = (1, channels, top + height + bottom, left + width + right)
        windows = self.windows(torch.empty(padded, device="meta"))
        pixels, responses = prod(windows.shape[:3]), len(self.places) * self.conv.out_channels
        return prod(windows.shape[3:]) * (pixels + 2 * responses)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the large window."""
        last_rows, last_columns = self.places[-1]
        return last_rows.stop, last_columns.stop

    @property
    def _stride(self) -> tuple[int, int]:
        down, right = self.conv.stride
        return down, right


class Patches:
    """Both passes of filters over images of one shape.

    Attributes:
        value, slope: the maps, float32 (n, F, rows * columns), and the loss's gradient by them.
    """

    def __init__(
        self, filters: Filters, images: torch.Tensor, gradients: dict[torch.Tensor, torch.Tensor]
    ) -> None:
        """
        Args:
            images: float32 (n, C, H, W) with their padding, where every step finds its own.
            gradients: where those of the parameters belong.
        """
        conv = filters.conv
        assert conv.bias is not None
        self.weight, self.bias = conv.weight.detach(), conv.bias.detach()[:, None]
        self.weight_slope, self.bias_slope = gradients[conv.weight], gradients[conv.bias]
        self.windows = filters.windows(images)
        self.gathered = torch.empty(self.windows.shape)
        channels, *sides, n, rows, columns = self.windows.shape
        self.columns = self.gathered.view(-1, n * rows * columns)

        shape = (len(filters.places), conv.out_channels, channels, *sides)
        self.bank, self.bank_slope = torch.zeros(shape), torch.empty(shape)
        self.placed = [self.bank[(k, ..., *place)] for k, place in enumerate(filters.places)]
        self.found = [self.bank_slope[(k, ..., *place)] for k, place in enumerate(filters.places)]

        self.responses = torch.empty(*shape[:2], self.columns.shape[1])
        self.response_slopes = torch.empty_like(self.responses)
        self.below, self.slopes = self.responses[:-1], [*self.response_slopes]
        self.best = torch.empty_like(self.responses[0])
        self.value = torch.empty(n, conv.out_channels, rows * columns)
        self.slope = torch.empty_like(self.value)

    def forward(self) -> None:
        """Images -> maps. Leaves in the responses how far below their window's best they are."""
        self.gathered.copy_(self.windows)
        for placed in self.placed:
            placed.copy_(self.weight)
        torch.mm(_rows(self.bank), self.columns, out=_rows(self.responses))
        torch.amax(self.responses, 0, out=self.best)
        self.below.sub_(self.best)
        self.best.add_(self.bias)
        self.value.copy_(self._by_image(self.best))

    def backward(self) -> None:
        """The maps' gradient -> the parameters'. Of equal responses the first one has it all."""
        *slopes, rest = self.slopes
        self._by_image(rest).copy_(self.slope)
        torch.sum(rest, 1, out=self.bias_slope)
        for below, slope in zip(self.below, slopes, strict=True):
            mask(rest, below, BELOW_ZERO, grad_input=slope)
            rest.sub_(slope)
        torch.mm(_rows(self.response_slopes), self.columns.t(), out=_rows(self.bank_slope))
        self.weight_slope.copy_(self.found[0])
        for found in self.found[1:]:
            self.weight_slope.add_(found)

    def _by_image(self, rows: torch.Tensor) -> torch.Tensor:
        """A view of (F, n * rows * columns) in the order of the maps."""
        n, filters, size = self.value.shape
        return rows.view(filters, n, size).transpose(0, 1)


def _rows(values: torch.Tensor) -> torch.Tensor:
    """A view as a matrix, with a row for every place and filter."""
    return values.view(values.shape[0] * values.shape[1], -1)
