"""Recipe `cnn`: a small convolutional network that learns from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from labelwise.nn.layers import parse_layers
from labelwise.nn.width import scaled
from labelwise.recipe.base import option
from labelwise.recipe.ranges import Integers, Parts, Range, choices
from labelwise.recipe.scratch import FromScratch, course

_SMALL = [f"conv{w} 3x3 stride 2 same, batch norm 0.9, relu" for w in (16, 32, 64, 128)]


def _fast(*widths: int) -> str:
    """Whitening, and blocks of two convolutions pooled early (arXiv:2404.00498)."""
    block = "conv{0} 3x3 same, max 2, batch norm 0.6, silu, conv{0} 3x3 same, batch norm 0.6, silu"
    return ", ".join(["whiten 2, silu", *(block.format(width) for width in widths), "gap"])


PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "layers": ", ".join([*_SMALL, "gap"]),
        "optimizer": "adam",
        "lr": 3e-3,
        "decay": "cosine",
        "batch": 64,
        "patience": 10,
        "least_steps": 20,
        "scale": "standard",
    },
    "fast": {
        "layers": _fast(32, 128, 128),
        "width": None,
        "optimizer": "muon",
        "lr": 0.08,
        "momentum": 0.6,
        "decay": "linear",
        "batch": 250,
        "patience": 0,
        "least_steps": 20,
        "scale": "standard",
        "smoothing": 0.2,
        "augment": "crop 2",
        "views": "shift 1",
        "mirror": "color",
    },
    "digits": {
        "layers": "conv16 3x3 relu, max 2, dense 32 relu",
        **course("adam", 1e-3, 32, 10),
    },
    "first-cnn": {
        "layers": "conv32 2x2 stride 2 same relu, max 2 stride 1 same, "
        "conv16 2x2 stride 2 same linear, max 2 stride 1 same, dense 16 relu",
        **course("sgd", 0.01, 128, 10),
    },
    "mammals-stride": {
        "layers": "4 x [conv64 3x3 stride 2 same, batch norm, relu]",
        **course("adam", 1e-3, 200, 20),
    },
    "mammals-pool": {
        "layers": "4 x [conv128 3x3 same, batch norm, relu, max 2]",
        **course("adam", 1e-3, 200, 20),
    },
    "stl5": {"layers": "5 x [conv32 3x3 valid relu]", **course("adam", 1e-3, 32, 10)},
    "embedding": {
        "layers": "2 x [conv32 3x3 relu], max 2, 2 x [conv64 3x3 relu], dense 64, unit",
        **course("adam", 1e-3, 32, 10),
    },
}

_PARTS: dict[str, Range] = {
    "depth": Integers(2, 5),
    "width": choices(8, 16, 32, 64),
    "growth": choices(1, 2),
    "kernel": choices(3, 5),
    "shrink": choices("stride", "max", "avg"),
    "norm": choices("yes", "no"),
}


def _layers(part: Mapping[str, str]) -> str:
    """Convolutions that halve the maps, each `growth` times wider than the one before, and gap."""
    kernel, shrink = part["kernel"], part["shrink"]
    words = [f"{kernel}x{kernel}", *(["stride 2"] if shrink == "stride" else []), "same"]
    norm = ["batch norm 0.9", "relu"] if part["norm"] == "yes" else ["relu"]
    pool = [] if shrink == "stride" else [f"{shrink} 2"]
    layers = []
    for depth in range(int(part["depth"])):
        width = int(part["width"]) * int(part["growth"]) ** depth
        layers += [" ".join([f"conv{width}", *words]), *norm, *pool]
    return ", ".join([*layers, "gap"])


@dataclass(frozen=True)
class Cnn(FromScratch):
    """A convolutional network from scratch; its layers are a line of text (see nn/layers.py)."""

    name: ClassVar[str] = "cnn"
    regime: ClassVar[str] = "small convolutional network from scratch"
    rank: ClassVar[int] = 2
    presets: ClassVar = PRESETS
    largest_side: ClassVar[int] = 64

    layers: str | None = option(
        None, 'such as "conv16 3x3 relu, max 2, dense 32 relu"', search=Parts(_PARTS, _layers)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layers(self.body)

    @property
    def body(self) -> str:
        return scaled(self.layers or "", self.width or 1.0)
