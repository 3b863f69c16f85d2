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

and in a decoder (see nn/decoder.py), which ends in images:

    deconv16 5x5 stride 2 relu     transposed convolution; `to 14x14` cuts or fills it to a size,
                                   `pad 1` cuts so much in front
    up 2, up 14x14                 nearest neighbors, by a factor or to a size
    maps 32x7x7                    a vector as 32 maps of 7x7
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from torch import nn

from labelwise.errors import LayerError

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
_SIDE = r"([1-9]\d{0,3})"
_SIZE = re.compile(f"{_SIDE}x{_SIDE}")


@dataclass(frozen=True)
class Layer:
    """One layer as it was written, with what its words mean."""

    text: str
    kind: str  # its first word, or activation
    width: int = 0  # filters or units
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str | int = "valid"
    activation: str = "linear"
    rate: float = 0.0  # of dropout; share of the past in a batch norm
    identity: bool = False  # a conv whose first outputs begin as its inputs
    size: tuple[int, int] | None = None  # height and width that a layer of a decoder ends in


def parse_layers(text: str) -> tuple[Layer, ...]:
    """Read a network's layers.

    Raises:
        LayerError: names the layer and the word that could not be read.
    """
    parts = _expand(text)
    if len(parts) > MOST_LAYERS:
        raise LayerError(f"there are {len(parts)} layers; use at most {MOST_LAYERS}.")
    return tuple(map(_parse_layer, parts))


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
    words = re.sub(r"^(conv|deconv|dense|max|avg|up|maps)(?=\d)", r"\1 ", text).split()
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
    if kind in ("up", "maps"):
        return _resized(text, kind, words)
    if kind not in ("conv", "deconv", "dense", "max", "avg"):
        raise LayerError(
            f"'{text}': '{kind}' is not a layer. There are conv, dense, max, avg, whiten, "
            "batch norm, gap, dropout, unit, in a decoder deconv, up and maps, and the activations "
            f"{', '.join(ACTIVATIONS)}."
        )
    size = _whole(text, words, f"a width, as in {kind}16" if "conv" in kind else "a size")
    if kind in ("conv", "deconv", "dense"):
        return _options(Layer(text, kind, width=size), words)
    return _options(Layer(text, kind, kernel=(size, size), stride=size), words)


def _options(layer: Layer, words: list[str]) -> Layer:
    """Apply the words behind a layer's size."""
    values: dict[str, object] = {}
    windowed = layer.kind in ("conv", "max", "avg")
    if layer.kind in ("conv", "deconv"):
        values["kernel"] = _size(layer.text, words, "the kernel behind the width, as in conv16 3x3")
    while words:
        word = words.pop(0)
        if word == "stride" and layer.kind != "dense":
            values["stride"] = _whole(layer.text, words, "a number behind 'stride'")
        elif word == "pad" and layer.kind in ("conv", "deconv"):
            values["padding"] = _whole(layer.text, words, "a number behind 'pad'")
        elif word == "identity" and layer.kind == "conv":
            values["identity"] = True
        elif word in ("same", "valid") and windowed:
            values["padding"] = word
        elif word == "to" and layer.kind == "deconv":
            values["size"] = _size(layer.text, words, "a height and width behind 'to', as in 14x14")
        elif word in ACTIVATIONS and layer.kind in ("conv", "deconv", "dense"):
            values["activation"] = word
        else:
            raise LayerError(f"'{layer.text}': '{word}' means nothing for a {layer.kind} layer.")
    return Layer(**{**vars(layer), **values})


def _resized(text: str, kind: str, words: list[str]) -> Layer:
    """A layer whose only word is the size it ends in, or for `up` a factor."""
    if kind == "up" and words[:1] != [] and words[0].isdecimal():
        layer = Layer(text, kind, stride=_whole(text, words, "a factor"))
    elif kind == "up":
        layer = Layer(text, kind, size=_size(text, words, "a factor or a size, as in 2 or 14x14"))
    else:
        width, _, size = (words.pop(0) if words else "").partition("x")
        count = _whole(text, [width], "channels, height and width, as in 32x7x7")
        layer = Layer(text, kind, width=count, size=_size(text, [size], "32x7x7 or the like"))
    if words:
        raise LayerError(f"'{text}': '{words[0]}' means nothing behind {kind}.")
    return layer


def _size(text: str, words: list[str], what: str) -> tuple[int, int]:
    word = words.pop(0) if words else ""
    found = _SIZE.fullmatch(word)
    if not found:
        raise LayerError(f"'{text}': give {what}{_instead(word)}.")
    return int(found[1]), int(found[2])


def _instead(word: str) -> str:
    return f", instead of {word!r}" if word else ""


def _whole(text: str, words: list[str], what: str) -> int:
    word = words.pop(0) if words else ""
    if not word.isdecimal() or len(word) > 5 or not 1 <= int(word) <= 65_536:
        raise LayerError(f"'{text}': give {what}, from 1 to 65536{_instead(word)}.")
    return int(word)


def _number(text: str, words: list[str], low: float, high: float) -> float:
    try:
        (value,) = map(float, words)
    except ValueError:
        value = math.nan
    if not low <= value < high:
        raise LayerError(f"'{text}': one number from {low} to below {high} is expected.")
    return value
