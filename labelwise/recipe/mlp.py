"""Recipe `mlp`: a fully connected network that learns from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from labelwise.data.dataset import Images
from labelwise.errors import OptionError
from labelwise.recipe.base import option
from labelwise.recipe.scratch import FromScratch, course

PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "hidden": (256, 64),
        "optimizer": "adam",
        "lr": 1e-3,
        "decay": "cosine",
        "batch": 64,
        "patience": 10,
        "least_steps": 20,
        "scale": "standard",
    },
    "dense10": {"hidden": (10,), **course("adam", 1e-3, 32, 10)},
    "first-mlp": {"hidden": (32, 16), **course("sgd", 0.01, 128, 10)},
    "first-mlp-color": {"hidden": (32, 16), **course("sgd", 0.01, 128, 20)},
}


@dataclass(frozen=True)
class Mlp(FromScratch):
    """A fully connected network from scratch: pixels in a row, hidden layers with ReLU, logits."""

    name: ClassVar[str] = "mlp"
    regime: ClassVar[str] = "fully connected network from scratch"
    rank: ClassVar[int] = 1
    presets: ClassVar = PRESETS
    largest_side: ClassVar[int] = 32

    hidden: tuple[int, ...] | None = option(None, "units of the hidden layers, as in 256-64")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1:
            raise OptionError(f"mlp(hidden={self.hidden}): give positive numbers, as in 256-64.")

    def unsuited(self, images: Images) -> str | None:
        if np.median(images.sizes) > 2 * self.largest_side:
            return "images are larger than 64 pixels, where a fully connected network learns little"
        return None

    @property
    def body(self) -> str:
        return ", ".join(f"dense {units} relu" for units in self.hidden or ())
