"""Recipe `mlp`: a fully connected network that learns from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from labelwise.data.dataset import Images
from labelwise.errors import OptionError
from labelwise.nn.width import scaled
from labelwise.recipe.base import option
from labelwise.recipe.inputs import are_large
from labelwise.recipe.ranges import Integers, Parts, Range, choices
from labelwise.recipe.scratch import FromScratch, course, settling

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"hidden": (256, 64), **settling(1e-3)},
    "dense10": {"hidden": (10,), **course("adam", 1e-3, 32, 10)},
    "first-mlp": {"hidden": (32, 16), **course("sgd", 0.01, 128, 10)},
    "first-mlp-color": {"hidden": (32, 16), **course("sgd", 0.01, 128, 20)},
}

_PARTS: dict[str, Range] = {
    "depth": Integers(1, 3),
    "width": choices(16, 32, 64, 128, 256, 512),
    "taper": choices(1, 2, 4),
}


def _hidden(part: Mapping[str, str]) -> str:
    """Hidden layers of a first width, each `taper` times narrower than the one before."""
    depth, width, taper = (int(part[name]) for name in ("depth", "width", "taper"))
    return "-".join(str(max(1, width // taper**layer)) for layer in range(depth))


@dataclass(frozen=True)
class Mlp(FromScratch):
    """A fully connected network from scratch: pixels in a row, hidden layers with ReLU, logits."""

    name: ClassVar[str] = "mlp"
    regime: ClassVar[str] = "fully connected network from scratch"
    rank: ClassVar[int] = 1
    presets: ClassVar = PRESETS
    largest_side: ClassVar[int] = 32

    hidden: tuple[int, ...] | None = option(
        None, "units of the hidden layers, as in 256-64", search=Parts(_PARTS, _hidden)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1:
            raise OptionError(f"mlp(hidden={self.hidden}): give positive numbers, as in 256-64.")

    def unsuited(self, images: Images) -> str | None:
        if are_large(images, self.largest_side):
            return "images are larger than 64 pixels, where a fully connected network learns little"
        return None

    @property
    def body(self) -> str:
        layers = ", ".join(f"dense {units} relu" for units in self.hidden or ())
        return scaled(layers, self.width or 1.0)
