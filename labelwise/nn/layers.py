"""Layers: the torch modules of a network that is written as a line of text (see nn/language.py).

Initialization is Keras' default: Glorot uniform (Glorot and Bengio 2010, eq. 16), zero bias.
`same` pads as TensorFlow does: the odd row and column at the end.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from labelwise.errors import LayerError
from labelwise.nn.language import ACTIVATIONS, Layer, parse_layers
from labelwise.nn.limits import check_size
from labelwise.nn.whiten import identity_

OF_DECODER = ("deconv", "up", "maps")  # kinds that lead from a code to an image
Shape = tuple[int, ...]  # (C, H, W) of maps or (D,) of vectors, without the batch


class Stack(nn.Module):
    """Normalized images -> (maps, embedding): the spatial layers, then the vector layers.

    `maps` holds the output of the last spatial layer, (N, C, H, W), or nothing if there is none.
    `embedding` is the output of the last layer, flattened, (N, D).

    Attributes:
        text: the layers.
        input_shape: (C, H, W).
        width: of the embedding, D.
        shapes: of every layer's input, and last of the output before it is flattened.
        work: multiplications for one image.
    """

    def __init__(self, text: str, shape: tuple[int, int, int]) -> None:
        """Build for inputs of one shape (C, H, W).

        Raises:
            LayerError: a layer cannot be applied, for example would shrink below one pixel.
        """
        super().__init__()
        self.text = text
        self.input_shape = shape
        current: Shape = shape
        spatial: list[nn.Module] = []
        vector: list[nn.Module] = []
        work = 0
        self.shapes: list[Shape] = [shape]
        for number, layer in enumerate(parse_layers(text), start=1):
            where = f"layer {number} '{layer.text}'"
            if layer.kind in OF_DECODER:
                raise LayerError(
                    f"{where} belongs to a decoder, not to the layers before the head."
                )
            if layer.kind in ("gap", "dense") and len(current) == 3:
                vector.append(GlobalMean() if layer.kind == "gap" else nn.Flatten())
                current = (current[0],) if layer.kind == "gap" else (math.prod(current),)
            elif layer.kind in ("conv", "whiten", "max", "avg", "gap") and len(current) == 1:
                raise LayerError(f"{where} needs maps, but stands behind a gap or dense layer.")
            modules, after = build_layer(layer, current, where)
            work += work_of(layer, current, after)
            check_size(where, values=math.prod(after), work=work)
            current = after
            self.shapes.append(current)
            (spatial if len(current) == 3 else vector).extend(modules)
        if len(current) == 3:
            vector.append(nn.Flatten())
        self.spatial = nn.Sequential(*spatial)
        self.vector = nn.Sequential(*vector)
        self.width = math.prod(current)
        self.widths = (self.width,)
        self.work = work

    @property
    def architecture(self) -> dict[str, Any]:
        """What `architecture.build` makes this body of again, JSON-safe."""
        return {"kind": "layers", "layers": self.text}

    def forward(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """float32 (N, C, H, W) -> ((N, C', H', W') or nothing, (N, D))."""
        maps = self.spatial(images)
        embedding = self.vector(maps)
        return ((maps,) if len(self.spatial) else ()), embedding


class IdentityConv(nn.Conv2d):
    """A convolution that `initialize` lets begin as the identity."""


class Whitening(nn.Conv2d):
    """A convolution whose filters are made of the training images (see nn/whiten.py) and stay."""

    def __init__(self, channels: int, width: int, kernel: tuple[int, int]) -> None:
        super().__init__(channels, width, kernel, bias=False)
        self.weight.requires_grad_(False)


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Glorot uniform weights and zero biases, drawn from `generator` alone."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, IdentityConv):
            identity_(part)


class GlobalMean(nn.Module):
    """The mean of every map: float32 (N, C, H, W) -> (N, C)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean((2, 3))


class _Unit(nn.Module):
    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(vectors, dim=1)


def build_layer(layer: Layer, shape: Shape, where: str) -> tuple[list[nn.Module], Shape]:
    """The torch modules of one layer for inputs of `shape`, and the shape of their output."""
    activation = [] if layer.activation == "linear" else [ACTIVATIONS[layer.activation]()]
    if layer.kind == "conv":
        pads, out = _window(layer, shape, where)
        kind = IdentityConv if layer.identity else nn.Conv2d
        if layer.identity and layer.width < shape[0]:
            raise LayerError(
                f"{where} cannot begin as the identity: it has {layer.width} filters for "
                f"{shape[0]} channels. Give at least as many, or leave 'identity' out."
            )
        conv = kind(shape[0], layer.width, layer.kernel, layer.stride, _even(pads))
        return [*_uneven(pads, 0.0), conv, *activation], (layer.width, *out)
    if layer.kind == "whiten":
        pads, out = _window(layer, shape, where)
        width = 2 * math.prod(layer.kernel) * shape[0]
        return [Whitening(shape[0], width, layer.kernel)], (width, *out)
    if layer.kind in ("max", "avg"):
        pads, out = _window(layer, shape, where)
        return [*_pool(layer, pads)], (shape[0], *out)
    if layer.kind == "dense":
        return [nn.Linear(shape[0], layer.width), *activation], (layer.width,)
    if layer.kind == "batch norm":
        norm = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
        return [norm(shape[0], eps=1e-3, momentum=1 - layer.rate)], shape
    if layer.kind == "dropout":
        return [nn.Dropout(layer.rate)], shape
    if layer.kind == "unit":
        flatten = [nn.Flatten()] if len(shape) == 3 else []
        return [*flatten, _Unit()], (math.prod(shape),)
    return activation, shape  # gap has been placed by the caller


def work_of(layer: Layer, before: Shape, after: Shape) -> int:
    """Multiplications of a layer for one image; an operation without any counts like one."""
    inputs = before[0] if layer.kind in ("conv", "whiten", "dense") else 1
    return math.prod(after) * math.prod(layer.kernel) * inputs


def _window(
    layer: Layer, shape: Shape, where: str
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Padding (left, right, top, bottom) and output size of a sliding window."""
    sizes: list[int] = []
    pads: list[tuple[int, int]] = []
    for size, kernel in zip(shape[1:], layer.kernel, strict=True):
        if layer.padding == "same":
            out = math.ceil(size / layer.stride)
            total = max((out - 1) * layer.stride + kernel - size, 0)
            before, after = total // 2, total - total // 2
        else:
            before = after = 0 if isinstance(layer.padding, str) else layer.padding
            out = (size + before + after - kernel) // layer.stride + 1
        sizes.append(out)
        pads.append((before, after))
    padded = [size + sum(pad) for size, pad in zip(shape[1:], pads, strict=True)]
    check_size(where, values=shape[0] * math.prod(padded))
    if min(sizes) < 1:
        raise LayerError(
            f"{where} gets maps of {shape[1]}x{shape[2]} pixels and would shrink them below one "
            "pixel. Use a larger --image-size, fewer layers, padding 'same' or a smaller stride."
        )
    return (*pads[1], *pads[0]), (sizes[0], sizes[1])


def _even(pads: tuple[int, int, int, int]) -> tuple[int, int]:
    """(rows, columns) if the padding is the same on both sides, else (0, 0)."""
    left, right, top, bottom = pads
    return (top, left) if (left, top) == (right, bottom) else (0, 0)


def _uneven(pads: tuple[int, int, int, int], value: float) -> list[nn.Module]:
    left, right, top, bottom = pads
    return [] if (left, top) == (right, bottom) else [nn.ConstantPad2d(pads, value)]


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a module learns from batches only, as one image has no variance of its own."""
    return any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in module.modules())


def _pool(layer: Layer, pads: tuple[int, int, int, int]) -> list[nn.Module]:
    if layer.kind == "max":
        around = [nn.ConstantPad2d(pads, -math.inf)] if any(pads) else []
        return [*around, nn.MaxPool2d(layer.kernel, layer.stride)]
    # As in TensorFlow, padded pixels do not count in an average.
    if any(pads):
        return [_PaddedMean(layer.kernel, layer.stride, pads)]
    return [nn.AvgPool2d(layer.kernel, layer.stride)]


class _PaddedMean(nn.Module):
    def __init__(
        self, kernel: tuple[int, int], stride: int, pads: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(kernel, stride)
        self.pads = pads

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        ones = nn.functional.pad(torch.ones_like(maps[:1, :1]), self.pads)
        pooled: torch.Tensor = self.pool(nn.functional.pad(maps, self.pads)) / self.pool(ones)
        return pooled
