"""Recipe `cnn`: a small convolutional network that learns from scratch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch

from labelwise.data.preprocess import Preprocessing
from labelwise.errors import OptionError
from labelwise.nn.language import parse_layers
from labelwise.nn.network import Network
from labelwise.nn.width import scaled
from labelwise.recipe.base import Task, Twin, option
from labelwise.recipe.ranges import Integers, Parts, Range, choices
from labelwise.recipe.scratch import FromScratch, course, settling
from labelwise.recipe.start import find_start, start_or_none

Weights = Literal["trained", "untrained"]
UNTRAINED: Weights = "untrained"
OF_BACKBONE = ("layers", "width", "scale")  # fields that a saved network answers by itself

_SMALL = [f"conv{w} 3x3 stride 2 same, batch norm 0.9, relu" for w in (16, 32, 64, 128)]


def _fast(*widths: int) -> str:
    """Whitening, and blocks of two convolutions pooled early (arXiv:2404.00498)."""
    block = "conv{0} 3x3 same, max 2, batch norm 0.6, silu, conv{0} 3x3 same, batch norm 0.6, silu"
    return ", ".join(["whiten 2, silu", *(block.format(width) for width in widths), "gap"])


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"layers": ", ".join([*_SMALL, "gap"]), **settling(3e-3)},
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
    "code": {
        "layers": "conv32 3x3 stride 2 same relu, conv64 3x3 stride 2 same relu, dense 256 relu",
        **settling(1e-3),
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
    """A convolutional network from scratch; its layers are a line of text (see nn/language.py).

    With a backbone it begins where a saved model ended: layers, image size, color and scaling are
    that model's, its batch-norm statistics continue, the head is new, and everything is trained by
    this recipe's schedule (a preset gives only that).
    """

    name: ClassVar[str] = "cnn"
    regime: ClassVar[str] = "small convolutional network from scratch"
    rank: ClassVar[int] = 2
    presets: ClassVar = PRESETS
    largest_side: ClassVar[int] = 64

    layers: str | None = option(
        None, 'such as "conv16 3x3 relu, max 2, dense 32 relu"', search=Parts(_PARTS, _layers)
    )
    backbone: str | None = option(None, "folder of a saved model of layers to begin from")
    start: Weights = option("trained", "with a backbone: its weights, or untrained ones")

    def __post_init__(self) -> None:
        for name in OF_BACKBONE if self.backbone is not None else ():
            if getattr(self, name) is not None:
                raise OptionError(
                    f"cnn(backbone={self.backbone}, {name}={getattr(self, name)}): the {name} is "
                    f"that of the saved model. Leave {name} out, or the backbone."
                )
        resize = self.resize
        super().__post_init__()
        if self.backbone is None:
            parse_layers(self.body)
            return
        for name in OF_BACKBONE:  # what a preset says of them is not meant
            object.__setattr__(self, name, None)
        object.__setattr__(self, "resize", resize)

    @property
    def body(self) -> str:
        if self.backbone is not None:
            return find_start(self.backbone).layers
        return scaled(self.layers or "", self.width or 1.0)

    @property
    def twin(self) -> Twin | None:
        if self.backbone is None or self.start == UNTRAINED:
            return None
        return Twin(replace(self, start=UNTRAINED), UNTRAINED, "the trained start")

    @property
    def backbones(self) -> tuple[str, ...]:
        return () if self.start == UNTRAINED else super().backbones

    @classmethod
    def is_meant(cls, field: str, value: Any, given: Collection[str]) -> bool:
        """`--backbone` is a start only where it can be one and no other network is asked for."""
        if field != "backbone":
            return True
        other = any(name in given for name in ("preset", *OF_BACKBONE))
        return not other and start_or_none(value) is not None

    def searchable(self, field: str) -> bool:
        return self.backbone is None or field not in OF_BACKBONE

    def sizes(self, task: Task) -> Sequence[Self]:
        return super().sizes(task) if self.backbone is None else (self,)

    def _input(self, task: Task) -> Preprocessing:
        if self.backbone is None:
            return super()._input(task)
        return find_start(self.backbone).input(
            task.images, image_size=self.image_size, color=self.color, resize=self.resize
        )

    def _scaling(self, pixels: torch.Tensor) -> dict[str, list[float]]:
        if self.backbone is None:
            return super()._scaling(pixels)
        return find_start(self.backbone).backbone.scaling

    def _begin(self, network: Network, pixels: torch.Tensor, generator: torch.Generator) -> None:
        super()._begin(network, pixels, generator)
        if self.backbone is not None and self.start != UNTRAINED:
            find_start(self.backbone).fill(network)

    @property
    def _facts(self) -> dict[str, Any]:
        if self.backbone is None or self.start == UNTRAINED:
            return {}
        return {"backbone": find_start(self.backbone).origin}
