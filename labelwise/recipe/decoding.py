"""What the recipes with a decoder share: any encoder of `cnn`, a decoder, and what they cost."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any, ClassVar

import torch

from labelwise.data.dataset import Images
from labelwise.data.preprocess import Preprocessing
from labelwise.errors import OptionError
from labelwise.nn.coding import encoded
from labelwise.nn.decoder import MIRROR, mirrored
from labelwise.nn.language import parse_layers
from labelwise.nn.layers import Stack
from labelwise.nn.network import Network
from labelwise.nn.passes import Passes, pace
from labelwise.nn.supervised import Examples
from labelwise.nn.train import Objective, train
from labelwise.recipe.base import EVERY_FIT, Context, Cost, Task, Twin, option
from labelwise.recipe.beside import Beside
from labelwise.recipe.cnn import PRESETS as CNN
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.inputs import are_large
from labelwise.recipe.rehearsal import ANSWERED, blank, reading_seconds, step_seconds
from labelwise.recipe.scratch import course

PRESETS: dict[str, dict[str, Any]] = {
    **{name: {**values, "decoder": MIRROR} for name, values in CNN.items()},
    "stl5": {
        "layers": "5 x [conv32 3x3 valid relu], max 2",
        "decoder": "deconv32 3x3 relu, deconv16 5x5 relu, deconv16 5x5 relu, deconv8 6x6 relu, "
        "deconv3 7x7",
        **course("adam", 1e-3, 32, 5),
    },
}


@dataclass(frozen=True)
class WithDecoder(Beside):
    """A network whose embedding is a code, from which a decoder makes the image again.

    All images are learned from, also those without a label.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    preset: str = option("code", "where the other fields' values come from")
    layers: str | None = option(None, "of the encoder, from image to code; as in cnn")
    decoder: str | None = option(
        None, "layers from code to image, as in docs/recipes.md; mirror: the encoder's, undone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layers(self.body)
        if self.decoder and self.decoder != MIRROR:
            parse_layers(self.decoder)

    def unsuited(self, images: Images) -> str | None:
        if are_large(images, self.largest_side):
            return "images are larger than 128 pixels, of which a code made anew keeps little"
        return None

    @abstractmethod
    def _rehearsal(
        self, network: Network, images: Examples, batch: int
    ) -> tuple[torch.nn.Module, Objective[Any]]:
        """What is trained, and an epoch of it over some images without validation."""

    @property
    def twin(self) -> Twin:
        """`cnn` with the same encoder; fields that are not the preset's own are handed over."""
        plain = type(self)(preset=self.preset)
        shared = {item.name for item in fields(Cnn)} & {item.name for item in fields(self)}
        changed = {n: v for n in shared if (v := getattr(self, n)) != getattr(plain, n)}
        return Twin(Cnn(preset=self.preset, **changed), "supervised", "the unlabeled images")

    def own_cost(self, task: Task, context: Context) -> Cost:
        """Rehearses on empty images; refuses layers that do not fit the input."""
        preprocessing, count = self._input(task), self._learned(task)
        network = self._unscaled(task, preprocessing, context.device)
        batch, repeats = pace(count, self.batch or 1, self.least_steps or 0)
        batch = min(batch, max(2, count))

        def learn(steps: int) -> float:
            images = blank(steps * batch, preprocessing.shape, context.device)
            module, objective = self._rehearsal(network, images, batch)
            schedule = replace(self._schedule, lr=0.0, epochs=1, patience=None)
            history, _ = train(module, objective, schedule, generator=torch.Generator())
            return float(history[0]["seconds"])

        everything = task.images.dataset.images(task.images.dataset.usable)
        answer = encoding_seconds(network, preprocessing.shape, context.device)
        return Cost(
            once=reading_seconds(task.images, everything, preprocessing),
            fit=EVERY_FIT + 2 * answer * len(task.labeled),
            epoch=step_seconds(learn, context.timing) * count * repeats / batch,
            # The reconstruction of every image, and a head on the codes of these and of the four
            # times as many that are learned from.
            validate=7 * answer,
            answer=answer,
            everything=True,
        )

    def _learned(self, task: Task) -> int:
        """Images that an epoch goes through, before few of them are passed over several times."""
        return len(task.images)

    def _architecture(
        self, preprocessing: Preprocessing, scaling: Mapping[str, list[float]]
    ) -> dict[str, Any]:
        decoder = self.decoder
        if decoder == MIRROR:
            decoder = mirrored(Stack(self.body, preprocessing.shape))
        return {**super()._architecture(preprocessing, scaling), "decoder": decoder}

    def _passes(self, images: int) -> Passes:
        return Passes.of(images, self.batch or 1, self.least_steps or 0, self.share or 1.0)


def check_hidden(recipe: str, hidden: tuple[int, ...] | None) -> None:
    """Refuse units of a classifier's hidden layers that make no sense.

    Raises:
        OptionError: there is one that is not positive.
    """
    if hidden and min(hidden) < 1:
        raise OptionError(f"{recipe}(hidden={hidden}): give positive numbers, as in 25-15.")


def encoding_seconds(
    network: Network, shape: tuple[int, int, int], device: str, images: int = ANSWERED
) -> float:
    """Seconds for the code of an image, timed on so many empty ones."""
    pixels = blank(images, shape, device).pixels

    def timed() -> float:
        started = time.perf_counter()
        encoded(network, pixels)
        return (time.perf_counter() - started) / images

    return median(timed() for _ in range(3))
