"""Keras 3: `model.fit`, as in a notebook. The backend is the one this process was started with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from engines.nets import Net

LONGEST_EXECUTION = 10  # steps; every net's epoch is a multiple of it


def fit(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> None:
    """As notebooks have it: nothing but the optimizer, the loss and the accuracy is said."""
    _fit(net, pixels, labels, epochs, pause)


def fit_steps(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> None:
    """Several steps in one call of the backend."""
    _fit(net, pixels, labels, epochs, pause, steps_per_execution=LONGEST_EXECUTION)


def fit_plain(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> None:
    """Several steps in one call, without XLA."""
    _fit(
        net,
        pixels,
        labels,
        epochs,
        pause,
        steps_per_execution=LONGEST_EXECUTION,
        jit_compile=False,
    )


class _Pause(keras.callbacks.Callback):
    def __init__(self, pause: Callable[[], None]) -> None:
        super().__init__()
        self.pause = pause

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.pause()


def _fit(
    net: Net,
    pixels: np.ndarray,
    labels: np.ndarray,
    epochs: int,
    pause: Callable[[], None],
    **compiled: Any,
) -> None:
    model = keras.Sequential([keras.Input(net.shape), *map(_layer, net.layers)])
    optimizers = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    model.compile(
        optimizer=optimizers[net.optimizer](net.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compiled,
    )
    images = pixels.astype("float32") / 255
    model.fit(images, labels, net.batch, epochs, verbose=0, callbacks=[_Pause(pause)])


def _layer(layer: tuple[Any, ...]) -> layers.Layer:
    kind, *values = layer
    if kind == "conv":
        filters, stride, padding = values
        return layers.Conv2D(filters, 3, stride, padding)
    simple = {
        "relu": layers.ReLU,
        "max": layers.MaxPooling2D,
        "flatten": layers.Flatten,
        "norm": layers.BatchNormalization,
        "dense": layers.Dense,
    }
    return simple[kind](*values)
