"""labelwise as its users call it: a recipe is fitted to a task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engines.nets import Net
from labelwise.data.blocks import as_block
from labelwise.data.memory import nameless_dataset
from labelwise.recipe.base import Context, Task
from labelwise.recipe.variants import parse_variants


def train(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> list[float]:
    """Fit the recipe; `pause` after every epoch. Returns the seconds its history states."""
    dataset = nameless_dataset(as_block(pixels, "random", []))
    names = tuple(map(str, range(net.classes)))
    task = Task(dataset.images(np.arange(len(labels))), labels, names)
    recipe = parse_variants(net.recipe.format(epochs=epochs))[0].recipe

    def advance(done: float, note: str) -> None:
        if done > 0:  # decoding is told as 0
            pause()

    history = recipe.fit(task, Context(advance=advance)).history
    assert [record["images"] for record in history] == [net.images] * epochs
    return [record["seconds"] for record in history]
