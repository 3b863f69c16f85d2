"""Depthwise convolution on a CPU whose weights learn at the speed of its forward pass.

oneDNN has a fast kernel for the weights' gradient of 3x3 filters and none for larger ones: 5x5 on
1152 maps of 4x4, a batch of 32, takes 26 ms (forward 0.6, the input's gradient 1.2). That gradient
is itself a depthwise convolution, of every image's map by its slope, and as a forward pass takes
4.8 ms; 672 maps of 8x8: 8.9 for 27 ms, of 14x14: 25 for 69 ms (CPU time of one core).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

SMALL_KERNEL = 3  # up to this side oneDNN's own gradient is the fastest


def has_slow_gradient(weight: torch.Tensor, groups: int, dilation: tuple[int, ...]) -> bool:
    """Whether `depthwise` is faster than autograd for a convolution's filters (C, 1, h, w)."""
    shape = weight.shape
    depthwise = groups == shape[0] and shape[1] == 1 and set(dilation) == {1}
    return weight.device.type == "cpu" and depthwise and max(shape[2:]) > SMALL_KERNEL


def depthwise(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """What `conv2d(x, weight, bias, stride, padding, groups=C)` gives.

    Args:
        x: float32 (N, C, H, W).
        weight, bias: float32 (C, 1, h, w) and (C,).
    """
    result: torch.Tensor = _Depthwise.apply(x, weight, bias, stride, padding)
    return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        (slope,) = slopes
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        before = None
        if wanted[0]:
            how = ([*ctx.stride], [*ctx.padding], [1, 1], False, [0, 0], len(weight))
            before = torch.ops.aten.convolution_backward(
                slope, x, weight, None, *how, [True, False, False]
            )[0]
        filters = _weight_slope(x, slope, weight, ctx.stride, ctx.padding) if wanted[1] else None
        return before, filters, slope.sum((0, 2, 3)) if wanted[2] else None, None, None


def _weight_slope(
    x: torch.Tensor,
    slope: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """Every image's maps (1, N * C, H, W) convolved by their slopes, summed over the images."""
    count, channels = x.shape[:2]
    each = functional.conv2d(
        x.reshape(1, count * channels, *x.shape[2:]),
        slope.reshape(count * channels, 1, *slope.shape[2:]),
        padding=padding,
        dilation=stride,
        groups=count * channels,
    )
    height, width = weight.shape[2:]  # a stride may leave rows of x over
    each = each.view(count, channels, *each.shape[2:])[:, :, :height, :width]
    return each.sum(0)[:, None]
