"""A small network from a line of text: conv16 3x3 relu, max 2, dense 32 relu.

Layers stand between commas, their words between spaces, and `4 x [ ... ]` repeats a part:

    conv64 3x3 stride 2 same relu  64 filters of 3x3; padding `same`, `valid` (default) or `pad 1`
    max 2 stride 1 same            maximum over 2x2; the stride is the size unless given; also `avg`
    batch norm 0.9                 statistics keep 0.9 of the past per step (default 0.99, as Keras)
    relu, tanh, gelu, ...          an activation by itself
    gap                            mean over height and width
    dense 32 relu                  fully connected
    dropout 0.3                    in training only
    unit                           scaled to length 1

Initialization is Keras' default: Glorot uniform (Glorot and Bengio 2010, eq. 16), zero bias.
`same` pads as TensorFlow does: the odd row and column at the end.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from labelwise.errors import LayerError
from labelwise.nn.limits import check_size
from labelwise.nn.whiten import identity_

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}

# A foreign model.json must neither fill the memory nor take forever to read.
LONGEST = 100_000  # characters of unrolled text
MOST_LAYERS = 1000
DEEPEST = 16  # repetitions inside one another
# The look behind keeps a search through many digits from starting anew at every one of them.
REPETITION = re.compile(r"(?<!\d)(\d+)\s*x\s*\[([^\[\]]*)\]")

Shape = tuple[int, ...]  # (C, H, W) of maps or (D,) of vectors, without the batch


@dataclass(frozen=True)
class Layer:
    """One layer as it was written, with what its words mean."""

    text: str
    kind: str  # conv, max, avg, batch norm, activation, gap, dense, dropout, unit
    width: int = 0  # filters or units
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str | int = "valid"
    activation: str = "linear"
    rate: float = 0.0  # of dropout; share of the past in a batch norm
    identity: bool = False  # a conv whose first outputs begin as its inputs


def parse_layers(text: str) -> tuple[Layer, ...]:
    """Read a network's layers.

    Raises:
        LayerError: names the layer and the word that could not be read.
    """
    parts = _expand(text)
    if len(parts) > MOST_LAYERS:
        raise LayerError(f"there are {len(parts)} layers; use at most {MOST_LAYERS}.")
    return tuple(map(_parse_layer, parts))


class Stack(nn.Module):
    """Normalized images -> (maps, embedding): the spatial layers, then the vector layers.

    `maps` holds the output of the last spatial layer, (N, C, H, W), or nothing if there is none.
    `embedding` is the output of the last layer, flattened, (N, D).

    Attributes:
        text: the layers.
        input_shape: (C, H, W).
        width: of the embedding, D.
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
        for number, layer in enumerate(parse_layers(text), start=1):
            where = f"layer {number} '{layer.text}'"
            if layer.kind in ("gap", "dense") and len(current) == 3:
                vector.append(GlobalMean() if layer.kind == "gap" else nn.Flatten())
                current = (current[0],) if layer.kind == "gap" else (math.prod(current),)
            elif layer.kind in ("conv", "whiten", "max", "avg", "gap") and len(current) == 1:
                raise LayerError(f"{where} needs maps, but stands behind a gap or dense layer.")
            modules, after = _build(layer, current, where)
            work += _work(layer, current, after)
            check_size(where, values=math.prod(after), work=work)
            current = after
            (spatial if len(current) == 3 else vector).extend(modules)
        if len(current) == 3:
            vector.append(nn.Flatten())
        self.spatial = nn.Sequential(*spatial)
        self.vector = nn.Sequential(*vector)
        self.width = math.prod(current)
        self.work = work

    @property
    def architecture(self) -> dict[str, Any]:
        """What `model.build` makes this body of again, JSON-safe."""
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
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, IdentityConv):
            identity_(part)


class GlobalMean(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean((2, 3))


class _Unit(nn.Module):
    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(vectors, dim=1)


def _expand(text: str) -> list[str]:
    """Split at commas and unroll `4 x [...]`."""
    for _ in range(DEEPEST):
        text, count = REPETITION.subn(_unroll, text)
        if len(text) > LONGEST:
            raise LayerError(f"'{text[:80]}…': the network is too long; use fewer repetitions.")
        if not count:
            break
    if "[" in text or "]" in text:
        raise LayerError(
            f"'{text}': brackets belong to a repetition such as 4 x [conv64 3x3 relu], at most "
            f"{DEEPEST} deep."
        )
    parts = [" ".join(part.split()) for part in text.split(",")]
    if not all(parts):
        raise LayerError(f"'{text}': there is an empty layer; put one comma between two layers.")
    return parts


def _unroll(repeated: re.Match[str]) -> str:
    if len(repeated[1]) > 3 or not 1 <= (times := int(repeated[1])) <= 100:
        raise LayerError(f"'{repeated[0]}': repeat 1 to 100 times.")
    return ", ".join([repeated[2]] * times)


def _parse_layer(text: str) -> Layer:
    words = re.sub(r"^(conv|dense|max|avg)(?=\d)", r"\1 ", text).split()
    kind = words.pop(0)
    if kind == "batch" and words[:1] == ["norm"]:
        rate = _number(text, words[1:] or ["0.99"], 0, 1)
        return Layer(text, "batch norm", rate=rate)
    if kind == "dropout":
        return Layer(text, kind, rate=_number(text, words, 0, 1))
    if kind in ("gap", "unit", *ACTIVATIONS):
        if words:
            raise LayerError(f"'{text}': '{words[0]}' means nothing behind {kind}.")
        if kind in ACTIVATIONS:
            return Layer(text, "activation", activation=kind)
        return Layer(text, kind)
    if kind == "whiten":
        size = _whole(text, words, "the side of its filters, as in whiten 2")
        if words:
            raise LayerError(f"'{text}': '{words[0]}' means nothing behind {kind}.")
        return Layer(text, kind, kernel=(size, size))
    if kind not in ("conv", "dense", "max", "avg"):
        raise LayerError(
            f"'{text}': '{kind}' is not a layer. There are conv, dense, max, avg, whiten, "
            f"batch norm, gap, dropout, unit and the activations {', '.join(ACTIVATIONS)}."
        )
    size = _whole(text, words, "a width, as in conv16" if kind == "conv" else "a size")
    if kind in ("conv", "dense"):
        return _options(Layer(text, kind, width=size), words)
    return _options(Layer(text, kind, kernel=(size, size), stride=size), words)


def _options(layer: Layer, words: list[str]) -> Layer:
    """Apply the words behind a layer's size."""
    values: dict[str, object] = {}
    if layer.kind == "conv":
        kernel = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", words.pop(0)) if words else None
        if not kernel:
            raise LayerError(f"'{layer.text}': give the kernel behind the width: conv16 3x3.")
        values["kernel"] = (int(kernel[1]), int(kernel[2]))
    while words:
        word = words.pop(0)
        if word == "stride" and layer.kind != "dense":
            values["stride"] = _whole(layer.text, words, "a number behind 'stride'")
        elif word == "pad" and layer.kind == "conv":
            values["padding"] = _whole(layer.text, words, "a number behind 'pad'")
        elif word == "identity" and layer.kind == "conv":
            values["identity"] = True
        elif word in ("same", "valid") and layer.kind != "dense":
            values["padding"] = word
        elif word in ACTIVATIONS and layer.kind in ("conv", "dense"):
            values["activation"] = word
        else:
            raise LayerError(f"'{layer.text}': '{word}' means nothing for a {layer.kind} layer.")
    return Layer(**{**vars(layer), **values})


def _whole(text: str, words: list[str], what: str) -> int:
    word = words.pop(0) if words else ""
    if not word.isdecimal() or len(word) > 5 or not 1 <= int(word) <= 65_536:
        raise LayerError(f"'{text}': {word!r} stands where {what} is expected (1 to 65536).")
    return int(word)


def _number(text: str, words: list[str], low: float, high: float) -> float:
    try:
        (value,) = map(float, words)
    except ValueError:
        value = math.nan
    if not low <= value < high:
        raise LayerError(f"'{text}': one number from {low} to below {high} is expected.")
    return value


def _build(layer: Layer, shape: Shape, where: str) -> tuple[list[nn.Module], Shape]:
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


def _work(layer: Layer, before: Shape, after: Shape) -> int:
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
