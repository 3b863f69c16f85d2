"""What the recipes that learn from scratch share: everything but their layers."""

from __future__ import annotations

import contextlib
import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Literal, Self, cast, get_args

import numpy as np
import torch

from labelwise.architecture import build
from labelwise.data.preprocess import Color, Preprocessing, Resize
from labelwise.errors import LayerError, OptionError
from labelwise.model import Model
from labelwise.nn.augment import Augmentation, parse_augmentation
from labelwise.nn.layers import Stack, Whitening, initialize
from labelwise.nn.network import Network
from labelwise.nn.optim import OptimizerName, RateName
from labelwise.nn.passes import pace
from labelwise.nn.supervised import Examples, Supervised
from labelwise.nn.train import Objective, Schedule, train
from labelwise.nn.views import parse_views
from labelwise.nn.whiten import whitening_filters
from labelwise.recipe.base import EVERY_FIT, Context, Cost, Fitted, Recipe, Task, option
from labelwise.recipe.by_schedule import train_by
from labelwise.recipe.inputs import own_input
from labelwise.recipe.presets import fill
from labelwise.recipe.ranges import Reals, choices
from labelwise.recipe.reading import Scale, channel_statistics, color_of, read_parts
from labelwise.recipe.rehearsal import answer_seconds, blank, reading_seconds, step_seconds
from labelwise.recipe.sizes import LADDER, enough_passes, spread

Mirror = Literal["no", "yes", "color"]

MOST_EPOCHS = 30  # planned for where the number was left open
MOST_UNSTOPPED = 300  # the same without early stopping: all the time is for learning
SMALLEST_TOLD = 8  # images of a step, from which on half of them are timed as well
WHITENED = 2048  # images that whitening filters are made of
# What a preset does not say.
PLAIN: Mapping[str, Any] = {
    "momentum": 0.0,
    "weight_decay": 0.0,
    "average": 0.0,
    "augment": "",
    "smoothing": 0.0,
    "views": "",
    "mirror": "no",
    "share": 1.0,
    "width": 1.0,
    "resize": "crop",
}
BELOW_ONE = ("momentum", "average", "smoothing")  # fields that must stay below 1
POSITIVE = ("lr", "batch", "epochs", "share", "width")  # fields that must not be 0


def course(optimizer: str, lr: float, batch: int, epochs: int) -> dict[str, Any]:
    """A preset as courses have them: pixels from 0 to 1, constant rate, all epochs."""
    return {
        "optimizer": optimizer,
        "lr": lr,
        "decay": "constant",
        "batch": batch,
        "epochs": epochs,
        "patience": 0,
        "least_steps": 0,
        "scale": "unit",
    }


def settling(lr: float) -> dict[str, Any]:
    """A preset as long as it takes: Adam, a cosine rate, stopped where validation stands still."""
    return {
        "optimizer": "adam",
        "lr": lr,
        "decay": "cosine",
        "batch": 64,
        "patience": 10,
        "least_steps": 20,
        "scale": "standard",
    }


@dataclass(frozen=True)
class FromScratch(Recipe):
    """A network of some layers and a linear head, trained by cross-entropy on the labeled images.

    A field left open (None) takes the preset's value, so that a made recipe shows all its values.
    A preset with `"width": None` leaves the width to a plan, and `image_size` with it.
    """

    weighs: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    largest_side: ClassVar[int]  # pixels a side unless image_size says otherwise

    preset: str = option("small", "where the other fields' values come from")
    optimizer: OptimizerName | None = option(None, "sgd, nesterov, adam, adamw or muon")
    lr: float | None = option(None, "learning rate, at its largest", search=Reals(1e-4, 3e-2))
    decay: RateName | None = option(None, "of the rate: constant, linear, cosine or one-cycle")
    momentum: float | None = option(None, "of sgd, nesterov and muon")
    weight_decay: float | None = option(None, "of filters and matrices")
    average: float | None = option(None, "decay of a moving average of the weights; 0: none")
    augment: str | None = option(None, 'of the training images, such as "flip, crop 4"')
    smoothing: float | None = option(None, "of the labels, from 0 to below 1")
    views: str | None = option(None, 'averaged in inference, such as "mirror, shift 1"')
    mirror: Mirror | None = option(
        None, "images also mirrored, in every other epoch and in inference: yes, no, or color only"
    )
    batch: int | None = option(None, "images per step", search=choices(16, 32, 64, 128))
    epochs: int | None = option(None, "passes over the images; left open: as the time allows")
    share: float | None = option(
        None,
        "of its images that an epoch goes through; fewer than all where a plan must end in time",
    )
    patience: int | None = option(None, "epochs without progress before stopping; 0: never stop")
    least_steps: int | None = option(
        None, "of an epoch; few images make smaller batches, and are passed over several times"
    )
    scale: Scale | None = option(None, "pixels: unit (0 to 1) or standard (mean 0, deviation 1)")
    image_size: int | None = option(
        None, "pixels a side; left open: the images' own, up to a limit"
    )

    width: float | None = option(
        None, "times the layers' widths; left open by a preset: as the time allows"
    )
    color: Color | None = option(None, "rgb or gray; left open: gray if every image is")
    resize: Resize | None = option(None, "crop to the middle, squash, or pad with black")

    def __post_init__(self) -> None:
        fill(self, self.preset, self.presets, PLAIN)
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, int | float):
                continue
            if not 0 <= value < math.inf or (value == 0 and item.name in POSITIVE):
                raise OptionError(f"{self.name}({item.name}={value}): must be positive.")
            if item.name in BELOW_ONE and value >= 1:
                raise OptionError(f"{self.name}({item.name}={value}): must be below 1.")
        if self.share is not None and self.share > 1:
            raise OptionError(f"{self.name}(share={self.share}): must be at most 1.")
        if self.optimizer == "nesterov" and not self.momentum:
            raise OptionError(f"{self.name}(optimizer=nesterov): needs a momentum, such as 0.9.")
        for color in get_args(Color):
            augment, views = self._looks(color)
            parse_augmentation(augment)
            parse_views(views)
        if self.image_size is not None and not 4 <= self.image_size <= 2048:
            raise OptionError(f"{self.name}(image_size={self.image_size}): must be from 4 to 2048.")

    @property
    @abstractmethod
    def body(self) -> str:
        """The layers before the head, as text, at their width."""

    def fit(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        places, preprocessing = self._places(task), self._input(task)
        examples, validation = read_parts(task, places, preprocessing, context)
        architecture = self._architecture(preprocessing, self._scaling(examples.pixels))
        generator = torch.Generator().manual_seed(context.seed)
        network = make_network(architecture, len(task.class_names), preprocessing, context.device)
        self._begin(network, examples.pixels, generator)
        objective = self._objective(network, examples, validation)
        work = _work(network, objective)
        history, best = self.learn(
            network, objective, generator, context, task.checkpoint, work=work
        )
        model = self.model_of(network, architecture, preprocessing, task)
        return Fitted(model, history, {"best_epoch": best}, time.perf_counter() - started)

    def cost(self, task: Task, context: Context) -> Cost:
        """Rehearses on empty images; refuses layers that do not fit the input."""
        preprocessing, count = self._input(task), len(self._places(task))
        network = self._unscaled(task, preprocessing, context.device)
        batch, repeated = pace(count, self._step, self.least_steps or 0)
        shrinks, batch = batch < self._step, min(batch, max(2, count))
        steps = count * repeated / batch

        def step(batch: int) -> float:
            own = max(1, (self.batch or 1) * batch // self._step)
            rehearsed = replace(self, batch=own, epochs=1, patience=0, least_steps=0, share=1.0)

            def learn(steps: int) -> float:
                examples = blank(steps * batch, preprocessing.shape, context.device)
                objective = rehearsed._objective(network, examples, None)
                history, _ = train(
                    network,
                    objective,
                    replace(rehearsed._schedule, lr=0.0),
                    generator=torch.Generator(),
                    work=_work(network, objective),
                )
                return float(history[0]["seconds"])

            return step_seconds(learn, context.timing)

        each, fixed = step(batch), 0.0
        if shrinks and batch >= SMALLEST_TOLD:
            # Fewer images are as many steps with fewer each, which take nearly as long.
            half = batch // 2
            fixed = (step(half) * batch - each * half) / (batch - half)
        everything = task.images.dataset
        read = everything.usable if self.uses_unlabeled else everything.labeled
        validate, answer = answer_seconds(network, preprocessing.shape, context.device)
        return Cost(
            once=reading_seconds(task.images, everything.images(read), preprocessing),
            fit=EVERY_FIT,
            epoch=each * steps,
            fixed=min(max(fixed, 0.0), each) * steps,
            validate=validate,
            answer=answer,
            everything=self.uses_unlabeled,
        )

    def sizes(self, task: Task) -> Sequence[Self]:
        """Itself, or where a preset leaves the width open the steps of the ladder that can run."""
        if self.width is not None:
            return (self,)
        side = self._input(task).height
        steps = [
            replace(self, width=width, image_size=self.image_size or max(4, round(share * side)))
            for width, share in LADDER
        ]
        able = [size for size in dict.fromkeys(steps) if size._fits(task)]
        return able or steps[-1:]

    def enough_passes(self, task: Task) -> float:
        return enough_passes(len(self._places(task)), self.width or 1.0)

    def planned(self, passes: float) -> Self:
        """Epochs of one length that come to so many passes; a share that was given is the most."""
        if self.epochs:
            return self
        epochs, share = spread(passes, self.share or 1.0)
        return replace(self, epochs=epochs, share=share)

    @property
    def open_epochs(self) -> int | None:
        if self.epochs:
            return None
        return MOST_EPOCHS if self.patience else MOST_UNSTOPPED

    @property
    def decides_on_validation(self) -> bool:
        return bool(self.patience)

    def settled(self, chosen: Sequence[Mapping[str, Any]]) -> Recipe:
        """The final fit has no validation part: it runs the median best epoch of the folds."""
        return self.at_best_epoch(chosen)

    def at_best_epoch(self, chosen: Sequence[Mapping[str, Any]]) -> Self:
        """The recipe with the median best epoch of some fits for its last."""
        epochs = [int(values["best_epoch"]) for values in chosen]
        return replace(self, epochs=max(1, round(median(epochs)))) if epochs else self

    def learn(
        self,
        learner: torch.nn.Module,
        objective: Objective[Any],
        generator: torch.Generator,
        context: Context,
        checkpoint: Path | None,
        *,
        note: str = "",
        work: float = math.inf,
    ) -> tuple[list[dict[str, Any]], int]:
        """Train by the recipe's schedule; see `train_by`."""
        return train_by(
            self._schedule, learner, objective, generator, context, checkpoint, note=note, work=work
        )

    def model_of(
        self,
        network: Network,
        architecture: Mapping[str, Any],
        preprocessing: Preprocessing,
        task: Task,
    ) -> Model:
        """What a network that has learned becomes."""
        return Model(
            network=network.to("cpu").eval(),
            architecture=architecture,
            preprocessing=preprocessing,
            class_names=task.class_names,
            recipe=self.configuration,
            facts=self._facts,
        )

    def _scaling(self, pixels: torch.Tensor) -> dict[str, list[float]]:
        """Mean and deviation of every channel that the network is to take for its own."""
        mean, std = channel_statistics(pixels, self.scale)
        return {"mean": mean, "std": std}

    def _begin(self, network: Network, pixels: torch.Tensor, generator: torch.Generator) -> None:
        """Give the network the weights that it begins with."""
        initialize(network, generator)
        whiten_first(network, pixels)

    @property
    def _facts(self) -> dict[str, Any]:
        """What is on record with the model."""
        return {}

    def _architecture(
        self, preprocessing: Preprocessing, scaling: Mapping[str, list[float]]
    ) -> dict[str, Any]:
        views = self._looks(preprocessing.color)[1]
        return {"kind": "layers", "layers": self.body, "views": views, **scaling}

    def _places(self, task: Task) -> np.ndarray:
        """Positions of the images that an epoch goes through; int64."""
        return task.labeled

    @property
    def _step(self) -> int:
        """How many of them a step goes through, at most."""
        return self.batch or 1

    def _fits(self, task: Task) -> bool:
        """Whether the layers can be applied to images of this size."""
        with contextlib.suppress(LayerError):
            self._unscaled(task, self._input(task), "cpu")
            return True
        return False

    def _unscaled(self, task: Task, preprocessing: Preprocessing, device: str) -> Network:
        """The network for pixels nothing is known of, with weights that mean nothing."""
        nothing = torch.zeros(0, *preprocessing.shape, dtype=torch.uint8)
        architecture = self._architecture(preprocessing, self._scaling(nothing))
        return make_network(architecture, len(task.class_names) or None, preprocessing, device)

    def _input(self, task: Task) -> Preprocessing:
        resize = self.resize or "crop"
        return own_input(task.images, self.largest_side, self.image_size, self.color, resize)

    @property
    def _schedule(self) -> Schedule:
        assert self.optimizer is not None
        assert self.lr is not None
        assert self.decay is not None
        return Schedule(
            optimizer=self.optimizer,
            lr=self.lr,
            decay=self.decay,
            epochs=self.epochs or MOST_EPOCHS,
            patience=self.patience or None,
            momentum=self.momentum or 0.0,
            weight_decay=self.weight_decay or 0.0,
            average=self.average or 0.0,
        )

    def _looks(self, color: Color) -> tuple[str, str]:
        """Augmentation and views for images of this color, as text; mirroring is part of both."""
        mirrored = self.mirror == "yes" or (self.mirror == "color" and color == "rgb")
        parts = (("alternate", self.augment), ("mirror", self.views))
        augment, views = (", ".join(filter(None, part[not mirrored :])) for part in parts)
        return augment, views

    def _augmentation(self, pixels: torch.Tensor) -> Augmentation:
        """What changes training images of such pixels, uint8 (N, C, H, W)."""
        return parse_augmentation(self._looks(color_of(pixels))[0])

    def _objective(
        self, network: Network, examples: Examples, validation: Examples | None
    ) -> Objective[Any]:
        return Supervised(
            network,
            examples,
            validation,
            batch=self.batch or 1,
            least_steps=self.least_steps or 0,
            share=self.share or 1.0,
            smoothing=self.smoothing or 0.0,
            augment=self._augmentation(examples.pixels),
        )


def _work(network: Network, objective: Objective[Any]) -> float:
    """Multiplications of a forward step."""
    return cast(Stack, network.body).work * objective.batch


def whiten_first(network: Network, pixels: torch.Tensor) -> None:
    """Make the filters of a first whitening layer from the training images."""
    first = next(cast(Stack, network.body).spatial.children(), None)
    if isinstance(first, Whitening) and len(pixels):
        sample = network.normalized(pixels[:WHITENED])
        with torch.no_grad():
            first.weight.copy_(whitening_filters(sample, first.kernel_size[0]))


def make_network(
    architecture: Mapping[str, Any], classes: int | None, preprocessing: Preprocessing, device: str
) -> Network:
    """The network of an architecture, in the memory format that it trains fastest in."""
    network = build(architecture, classes, preprocessing.shape)
    # Channels last: the order CPU and GPU kernels for small convolutions are fastest with.
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
