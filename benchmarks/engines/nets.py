"""The nets that are timed, in words that every engine can build them from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Layer = tuple[
    Any, ...
]  # ("conv", filters, stride, padding), ("max", 2), ("dense", units), ("relu",)

GEMM_SIDE, GEMM_COUNT = 2048, 5  # rows of the matrices, products in an "epoch"


@dataclass(frozen=True)
class Net:
    """A net and how it is trained.

    Attributes:
        text: for the heading of its table.
        recipe: the same as a recipe of labelwise; its preset has the values that stand here.
        shape: (height, width, channels) of an image.
        layers: from the first to the logits.
        steps: batches in an epoch of the benchmark.
    """

    text: str
    recipe: str
    shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    optimizer: str
    lr: float
    batch: int
    steps: int

    @property
    def images(self) -> int:
        """Images in an epoch; every batch is full."""
        return self.batch * self.steps

    @property
    def classes(self) -> int:
        """Units of the last layer."""
        return int(self.layers[-1][1])

    @property
    def flops(self) -> int:
        """Floating-point operations to learn from one image once.

        A multiplication and an addition for every weight that is applied: forward, for the gradient
        of the weights, and for the gradient of the input, which the first layer does not need.
        Everything else (bias, ReLU, pooling, normalization, loss, optimizer) is not counted.
        """
        macs = _macs(self.shape, self.layers)
        return 2 * (3 * sum(macs) - macs[0])

    def data(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Random images uint8 (N, H, W, C) and labels int64 (N,)."""
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (self.images, *self.shape), dtype=np.uint8)
        return pixels, rng.integers(0, self.classes, self.images)


def _macs(shape: tuple[int, ...], layers: tuple[Layer, ...]) -> list[int]:
    """Multiplications of every layer that has weights, for one image forward."""
    macs = []
    for kind, *values in layers:
        height, width, channels = shape if len(shape) == 3 else (1, 1, math.prod(shape))
        if kind == "conv":
            filters, stride, padding = values
            lost = 0 if padding == "same" else 2
            height, width = -(-(height - lost) // stride), -(-(width - lost) // stride)
            shape = (height, width, filters)
            macs.append(math.prod(shape) * 9 * channels)
        elif kind == "max":
            shape = (height // values[0], width // values[0], channels)
        elif kind == "flatten":
            shape = (math.prod(shape),)
        elif kind == "dense":
            shape = (values[0],)
            macs.append(channels * values[0])
    return macs


def _dense(*units: int) -> tuple[Layer, ...]:
    """Fully connected layers with ReLU between them."""
    layers = [layer for count in units for layer in (("dense", count), ("relu",))]
    return (("flatten",), *layers[:-1])


_CONV_A = (("conv", 16, 1, "valid"), ("relu",), ("max", 2))
_CONV_C = (("conv", 64, 2, "same"), ("norm",), ("relu",))
_CONV_D = (("conv", 32, 1, "valid"), ("relu",))

NETS = {
    "A": Net(
        text="conv16 3x3 relu, max 2, dense 32 relu, dense 10; Adam, batch 32, 28x28x1",
        recipe="cnn(preset=digits,epochs={epochs})",
        shape=(28, 28, 1),
        layers=(*_CONV_A, *_dense(32, 10)),
        optimizer="adam",
        lr=1e-3,
        batch=32,
        steps=100,
    ),
    "B": Net(
        text="784-32-16-10 relu; SGD, batch 128",
        recipe="mlp(preset=first-mlp,epochs={epochs})",
        shape=(28, 28, 1),
        layers=_dense(32, 16, 10),
        optimizer="sgd",
        lr=0.01,
        batch=128,
        steps=100,
    ),
    "C": Net(
        text="4 x [conv64 3x3 stride 2 same, batch norm, relu], dense 3; Adam, batch 200, 32x32x3",
        recipe="cnn(preset=mammals-stride,epochs={epochs})",
        shape=(32, 32, 3),
        layers=(*_CONV_C * 4, *_dense(3)),
        optimizer="adam",
        lr=1e-3,
        batch=200,
        steps=10,
    ),
    "D": Net(
        text="5 x conv32 3x3 valid relu, dense 10; Adam, batch 32, 32x32x3",
        recipe="cnn(preset=stl5,epochs={epochs})",
        shape=(32, 32, 3),
        layers=(*_CONV_D * 5, *_dense(10)),
        optimizer="adam",
        lr=1e-3,
        batch=32,
        steps=20,
    ),
}
