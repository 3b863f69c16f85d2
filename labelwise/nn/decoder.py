"""Decoder: from a code back to an image, as layers in a line of text; mirrored from an encoder."""

from __future__ import annotations

import math

import torch
from torch import nn

from labelwise.errors import LayerError
from labelwise.nn.language import Layer, parse_layers
from labelwise.nn.layers import Shape, Stack, build_layer, work_of
from labelwise.nn.limits import check_size

MIRROR = "mirror"  # what is said for a decoder that mirrors its encoder
_SHARED = ("conv", "dense", "batch norm", "activation", "dropout")  # kinds of layers as anywhere


class Decoder(nn.Module):
    """Codes float32 (N, D) -> images float32 (N, C, H, W) with values in [0, 1].

    A sigmoid is always the last step and is not written. A code that was flattened from maps comes
    as these maps.

    Attributes:
        text: the layers.
        code: shape of a code, (D,) or (C, H, W).
    """

    def __init__(self, text: str, code: Shape, image: tuple[int, int, int]) -> None:
        """
        Args:
            image: shape that the images must get, (C, H, W).

        Raises:
            LayerError: a layer cannot be applied, or the images would get another shape.
        """
        super().__init__()
        self.text, self.code = text, code
        layers: list[nn.Module] = []
        current, work = code, 0
        for number, layer in enumerate(parse_layers(text), start=1):
            where = f"layer {number} '{layer.text}' of the decoder"
            if layer.kind == "dense" and len(current) == 3:
                layers.append(nn.Flatten())
                current = (math.prod(current),)
            modules, after = _build(layer, current, where)
            work += _work(layer, current, after)
            check_size(where, values=math.prod(after), work=work)
            layers += modules
            current = after
        if current != image:
            raise LayerError(
                f"the decoder '{text}' makes images of {_written(current)}, where "
                f"{_written(image)} (channels, height, width) are needed. Change its layers, or "
                f"use decoder={MIRROR}."
            )
        self.layers = nn.Sequential(*layers)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(codes.view(-1, *self.code))
        return found.sigmoid()


def mirrored(encoder: Stack) -> str:
    """The layers of a decoder that undoes the layers of an encoder, the last one first.

    A convolution becomes a transposed one that ends in the size its input had, with the activation
    that its input came from; pooling becomes nearest neighbors; a dense layer and the mean over the
    maps become dense layers. Norms, dropout and unit length have no counterpart.
    """
    layers: list[str] = []
    activation = "linear"  # of what a layer gets
    steps = zip(parse_layers(encoder.text), encoder.shapes, encoder.shapes[1:], strict=False)
    for layer, shape, after in steps:
        if layer.kind in ("max", "avg") and shape == after:
            continue
        layers[:0] = _undone(layer, shape, "" if activation == "linear" else f" {activation}")
        if layer.kind in ("conv", "dense", "activation"):
            activation = layer.activation
        elif layer.kind in ("whiten", "batch norm", "unit"):
            activation = "linear"
    return ", ".join(layers) or "linear"


def _undone(layer: Layer, shape: Shape, activation: str) -> list[str]:
    """The layers that lead from the output of a layer to its input of a shape."""
    size = "x".join(map(str, shape[1:]))
    if layer.kind in ("conv", "whiten"):
        kernel = "x".join(map(str, layer.kernel))
        stride = f" stride {layer.stride}" if layer.stride > 1 else ""
        pad = f" pad {layer.padding}" if isinstance(layer.padding, int) else ""
        return [f"deconv{shape[0]} {kernel}{stride}{pad} to {size}{activation}"]
    if layer.kind in ("max", "avg"):
        return [f"up {size}"]
    if layer.kind in ("dense", "gap"):
        maps = [f"maps {_written(shape)}"] if len(shape) == 3 else []
        return [f"dense {math.prod(shape)}{activation}", *maps]
    if layer.kind == "unit" and len(shape) == 3:
        return [f"maps {_written(shape)}"]
    return []


def _build(layer: Layer, shape: Shape, where: str) -> tuple[list[nn.Module], Shape]:
    """The torch modules of one layer, and the shape of their output."""
    if layer.kind in _SHARED:
        if layer.kind == "conv" and len(shape) == 1:
            raise LayerError(f"{where} needs maps; put a layer such as maps 32x7x7 before it.")
        return build_layer(layer, shape, where)
    if layer.kind == "maps":
        return _maps(layer, shape, where)
    if layer.kind not in ("deconv", "up"):
        raise LayerError(f"{where} belongs to an encoder: it makes an image smaller, or a vector.")
    if len(shape) == 1:
        raise LayerError(f"{where} needs maps; put a layer such as maps 32x7x7 before it.")
    if layer.kind == "deconv":
        return _deconv(layer, shape, where)
    size = layer.size or (shape[1] * layer.stride, shape[2] * layer.stride)
    return [nn.Upsample(size, mode="nearest")], (shape[0], *size)


def _maps(layer: Layer, shape: Shape, where: str) -> tuple[list[nn.Module], Shape]:
    assert layer.size is not None
    found = (layer.width, *layer.size)
    if math.prod(shape) != math.prod(found):
        raise LayerError(f"{where} gets {math.prod(shape)} values and needs {math.prod(found)}.")
    return [nn.Flatten(), nn.Unflatten(1, found)], found


def _deconv(layer: Layer, shape: Shape, where: str) -> tuple[list[nn.Module], Shape]:
    """Exactly the transpose of a convolution with such padding from the size this one ends in.

    Unless `pad` says what is cut in front, an odd row or column is cut at the end, as by `same`.
    """
    whole = [
        (side - 1) * layer.stride + kernel
        for side, kernel in zip(shape[1:], layer.kernel, strict=True)
    ]
    check_size(where, values=layer.width * math.prod(whole))
    size = layer.size or (whole[0], whole[1])
    cut = [full - side for full, side in zip(whole, size, strict=True)]
    given = layer.padding if isinstance(layer.padding, int) else None
    front = [max(total // 2, 0) if given is None else given for total in cut]
    behind = [total - 2 * first for total, first in zip(cut, front, strict=True)]  # below 0: filled
    if min(behind) <= -layer.stride or any(c >= full for c, full in zip(cut, whole, strict=True)):
        raise LayerError(
            f"{where} makes {whole[0]}x{whole[1]} pixels of {shape[1]}x{shape[2]}, which cannot "
            f"become {size[0]}x{size[1]}: it can be cut, or filled by less than its stride."
        )
    conv = nn.ConvTranspose2d(
        shape[0],
        layer.width,
        layer.kernel,
        layer.stride,
        padding=(front[0], front[1]),
        output_padding=(max(-behind[0], 0), max(-behind[1], 0)),
    )
    odd = [nn.ConstantPad2d((0, -max(behind[1], 0), 0, -max(behind[0], 0)), 0.0)]
    plain = Layer(layer.text, "activation", activation=layer.activation)
    activation = build_layer(plain, shape, where)[0]
    return [conv, *(odd if max(behind) > 0 else []), *activation], (layer.width, *size)


def _work(layer: Layer, before: Shape, after: Shape) -> int:
    """Multiplications of a layer for one image."""
    if layer.kind == "deconv":
        return math.prod(before) * math.prod(layer.kernel) * layer.width
    return work_of(layer, before, after)


def _written(shape: Shape) -> str:
    return "x".join(map(str, shape))
