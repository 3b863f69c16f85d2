"""Explicit gradients: small networks learn without autograd, in buffers that are made once.

A step of a small network is bound by what stands around its arithmetic: the graph that autograd
records, and memory for every intermediate value. Here both passes are written out, for a first
convolution with its pooling (see nn/patches.py), ReLU, the mean over the maps and dense layers. A
second convolution would spend its time in the same kernels as with autograd.

How much faster that is than a loop with autograd is in docs/results.md, nets A and B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol, cast

import torch
from torch import nn

from labelwise.nn.layers import GlobalMean, Stack
from labelwise.nn.network import Network
from labelwise.nn.patches import Filters, Patches, mask

LARGEST = 2**26  # values of a first convolution's buffers for a batch: 256 MB

Gradients = dict[torch.Tensor, torch.Tensor]  # of parameters


class Part(Protocol):
    """A layer whose input and output have fixed places in memory."""

    @property
    def value(self) -> torch.Tensor:
        """The output, float32 (n, ...)."""
        ...

    @property
    def slope(self) -> torch.Tensor | None:
        """The loss's gradient by the output, of its shape; None for images."""
        ...

    def forward(self) -> None:
        """Input's value -> output's value."""
        ...

    def backward(self) -> None:
        """Output's slope -> gradients of the parameters, and the input's slope if it has one."""
        ...


@dataclass(frozen=True)
class Plan:
    """A network that can be trained by explicit gradients, layer by layer."""

    network: Network
    filters: Filters | None
    behind: tuple[nn.Module, ...]


def explicit_plan(network: Network, batch: int) -> Plan | None:
    """How both passes of a network are written out; None if it is too large or has other layers."""
    body, weights = network.body, list(network.parameters())
    if not isinstance(body, Stack) or not isinstance(network.head, nn.Linear):
        return None
    if any(w.device.type != "cpu" or not w.requires_grad for w in weights):
        return None
    filters, behind = _first_filters(list(body.spatial))
    if filters and filters.values(body.input_shape) * batch > LARGEST:
        return None
    behind += [*body.vector, network.head]
    if not all(type(module) in _BEHIND for module in behind):
        return None
    return Plan(network, filters, tuple(behind))


class ExplicitNetwork:
    """Both passes of a network over batches, with buffers for every size of a batch.

    To be called in inference mode; the gradients alone can be used outside of it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        body, head = plan.network.body, cast(nn.Module, plan.network.head)
        # A decoder has no part in the answers, and so no gradient.
        weights = (*body.parameters(), *head.parameters())
        self._gradients: Gradients = {w: torch.empty_like(w) for w in weights}
        self._parts: dict[torch.Size, list[Part]] = {}
        self._latest: list[Part] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (n, C, H, W) -> logits, float32 (n, K), which the next call may overwrite."""
        if pixels.shape not in self._parts:
            self._parts[pixels.shape] = _build(self._plan, pixels.shape, self._gradients)
        self._latest = self._parts[pixels.shape]
        cast(_Images, self._latest[0]).load(pixels)
        for part in self._latest:
            part.forward()
        return self._latest[-1].value

    def backward(
        self, target: torch.Tensor, smoothing: float, weights: torch.Tensor | None
    ) -> None:
        """Gradients of the mean of torch's `cross_entropy`, times weights, into all `.grad`.

        Args:
            target: of the latest logits, int64 (n,) or shares of the classes, float32 (n, K).
            smoothing: of the target, from 0 to below 1.
            weights: of the images, float32 (n,).
        """
        head = self._latest[-1]
        _cross_entropy(head.value, target, smoothing, weights, cast(torch.Tensor, head.slope))
        for part in reversed(self._latest):
            part.backward()
        for parameter, gradient in self._gradients.items():
            parameter.grad = gradient


def _cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    smoothing: float,
    weights: torch.Tensor | None,
    slope: torch.Tensor,
) -> None:
    """Write the gradient of the mean loss: probabilities less the shares aimed at."""
    torch.softmax(logits, 1, out=slope)
    if smoothing:
        slope.sub_(smoothing / logits.shape[1])
    if target.ndim == 2:
        slope.sub_(target, alpha=1 - smoothing)
    else:
        slope.scatter_(1, target[:, None], smoothing - 1, reduce="add")
    slope.div_(len(slope))
    if weights is not None:
        slope.mul_(weights[:, None])


class _Images:
    """Normalized pixels within their padding."""

    slope = None

    def __init__(self, plan: Plan, shape: torch.Size) -> None:
        left, right, top, bottom = plan.filters.pads if plan.filters else (0, 0, 0, 0)
        mean, std = plan.network.mean, plan.network.std
        count, height, width = shape[0], *shape[2:]
        self.value = torch.zeros(count, len(mean), top + height + bottom, left + width + right)
        self.inside = self.value[..., top : top + height, left : left + width]
        self.scale, self.shift = 1 / (255 * std), -mean / std
        self.unshifted = not bool(self.shift.any())

    def load(self, pixels: torch.Tensor) -> None:
        self.inside.copy_(pixels).mul_(self.scale)
        if not self.unshifted:
            self.inside.add_(self.shift)

    def forward(self) -> None: ...

    def backward(self) -> None: ...


class _View:
    """The same values in another shape."""

    def __init__(self, before: Part) -> None:
        self.value = before.value.flatten(1)
        self.slope = None if before.slope is None else before.slope.flatten(1)

    def forward(self) -> None: ...

    def backward(self) -> None: ...


class _Mean:
    def __init__(self, before: Part) -> None:
        self.maps = before.value.flatten(2)
        self.maps_slope = None if before.slope is None else before.slope.flatten(2)
        self.value = self.maps.mean(2)
        self.slope = torch.empty_like(self.value)

    def forward(self) -> None:
        torch.mean(self.maps, 2, out=self.value)

    def backward(self) -> None:
        if self.maps_slope is not None:
            self.slope.div_(self.maps.shape[2])
            self.maps_slope.copy_(self.slope[:, :, None])


class _Relu:
    """Works in place: of the layers before it, none needs its output for its gradients."""

    def __init__(self, before: Part) -> None:
        self.value, self.slope = before.value, before.slope

    def forward(self) -> None:
        self.value.relu_()

    def backward(self) -> None:
        if self.slope is not None:
            mask(self.slope, self.value, 0, grad_input=self.slope)


class _Dense:
    def __init__(self, layer: nn.Linear, before: Part, gradients: Gradients) -> None:
        self.before = before
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.weight_slope, self.bias_slope = gradients[layer.weight], gradients[layer.bias]
        self.value = torch.empty(len(before.value), layer.out_features)
        self.slope = torch.empty_like(self.value)

    def forward(self) -> None:
        torch.addmm(self.bias, self.before.value, self.weight.t(), out=self.value)

    def backward(self) -> None:
        torch.mm(self.slope.t(), self.before.value, out=self.weight_slope)
        torch.sum(self.slope, 0, out=self.bias_slope)
        if self.before.slope is not None:
            torch.mm(self.slope, self.weight, out=self.before.slope)


_BEHIND: dict[type, Callable[[Any, Part, Gradients], Part]] = {
    nn.Flatten: lambda layer, before, gradients: _View(before),
    GlobalMean: lambda layer, before, gradients: _Mean(before),
    nn.ReLU: lambda layer, before, gradients: _Relu(before),
    nn.Linear: _Dense,
}


def _build(plan: Plan, shape: torch.Size, gradients: Gradients) -> list[Part]:
    """The layers for batches of pixels of one shape, each behind the one before."""
    parts: list[Part] = [_Images(plan, shape)]
    if plan.filters:
        parts.append(Patches(plan.filters, parts[-1].value, gradients))
    for layer in plan.behind:
        parts.append(_BEHIND[type(layer)](layer, parts[-1], gradients))
    return parts


def _first_filters(layers: list[nn.Module]) -> tuple[Filters | None, list[nn.Module]]:
    """A convolution with its pooling in front of spatial layers, and the layers behind.

    ReLU moves behind the pooling, where it does the same.
    """
    rest = iter(layers)
    layer, pads, pool, jump = next(rest, None), None, (1, 1), (1, 1)
    if isinstance(layer, nn.ConstantPad2d):
        pads = layer.padding
        layer = next(rest)
    if not isinstance(layer, nn.Conv2d):
        return None, layers
    conv, behind = layer, list(rest)
    relus = list(takewhile(lambda layer: isinstance(layer, nn.ReLU), behind))
    behind = behind[len(relus) :]
    if behind and isinstance(pooling := behind[0], nn.MaxPool2d):
        pool, jump = _pair(pooling.kernel_size), _pair(pooling.stride)
        behind = behind[1:]
    high, wide = _pair(conv.padding)
    return Filters(conv, pads or (wide, wide, high, high), pool, jump), relus + behind


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
