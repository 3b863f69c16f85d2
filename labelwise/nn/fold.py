"""Fold: batch norm in inference mode taken into the convolution before it, to train faster.

With statistics that stand still, norm(conv(x)) is one convolution by filters W * scale, where
scale = gamma / sqrt(variance + eps), plus beta - mean * scale. Gradients reach the same weights,
gamma and beta, but no pass over the maps is made for the norm, forth or back, and none of its
inputs is kept.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from labelwise.nn.depthwise import depthwise, has_slow_gradient

CLOSE = 1e-3  # to the largest number of the answer; folding right is a hundred times closer

M = TypeVar("M", bound=nn.Module)


class FoldedConv(nn.Module):
    """A convolution and the batch norm behind it as one convolution."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        mean, variance = cast(torch.Tensor, norm.running_mean), cast(torch.Tensor, norm.running_var)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        bias = norm.bias - mean * scale
        if conv.bias is not None:
            bias = bias + conv.bias * scale
        weight = conv.weight * scale[:, None, None, None]
        x, padding = _padded(conv, x)
        if has_slow_gradient(weight, conv.groups, conv.dilation):
            stride = cast(tuple[int, int], conv.stride)
            return depthwise(x, weight, bias, stride, padding)
        return functional.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


def folded(module: M, example: torch.Tensor) -> M:
    """A copy that computes the same in inference mode, faster; all tensors are the module's own.

    Args:
        module: gives a tensor, or a tuple that ends with one. What is no convolution right before a
            batch norm stays as it is, and all of it does where others read a convolution as well.
        example: of the inputs; only its shape matters.
    """
    drawn = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    noise = drawn.to(example.device)
    result = _sharing_copy(module)
    for conv, norm in _pairs(result, noise):
        behind = getattr(norm, "act", nn.Identity())  # timm's norms hold the activation
        _replace(result, norm, behind)
        _replace(result, conv, FoldedConv(conv, norm))
    with torch.inference_mode():
        expected, found = _answer(module.eval(), noise), _answer(result, noise)
    close = torch.allclose(found, expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max()))
    return result if close else _sharing_copy(module)


def _sharing_copy(module: M) -> M:
    """A copy of the modules alone: its parameters and buffers are those of the original."""
    own = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(value): value for value in own}).eval()


def _answer(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    found = module(images)
    return found if isinstance(found, torch.Tensor) else cast(torch.Tensor, found[-1])


@torch.no_grad()
def _pairs(module: nn.Module, example: torch.Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose result goes into a batch norm, found by watching one call."""
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}  # the tensor kept, or its id is reused
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(conv: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        made[id(output)] = (cast(nn.Conv2d, conv), output)

    def before(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if id(inputs[0]) in made:
            pairs.append((made.pop(id(inputs[0]))[0], cast(nn.BatchNorm2d, norm)))

    hooks = [m.register_forward_hook(after) for m in module.modules() if _plain(m)]
    hooks += [m.register_forward_pre_hook(before) for m in module.modules() if _steady(m)]
    module(example)
    for hook in hooks:
        hook.remove()
    return pairs


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.padding_mode == "zeros"


def _steady(module: nn.Module) -> bool:
    """A batch norm with weights and statistics of its own."""
    if not isinstance(module, _BatchNorm):
        return False
    return module.affine and module.running_var is not None


def _padded(conv: nn.Conv2d, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The input and the padding to convolve with; timm's "same" pads by the input's size."""
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.padding import pad_same

    if not isinstance(conv, Conv2dSame):
        return x, conv.padding
    kernel, stride, dilation = (
        cast(Any, values) for values in (conv.kernel_size, conv.stride, conv.dilation)
    )
    return pad_same(x, kernel, stride, dilation), (0, 0)


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in root.named_modules() if module is old)
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, new)
