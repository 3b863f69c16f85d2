"""Recipe `joint-autoencoder`: in one step, reconstruction and classification together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from labelwise.data.preprocess import Preprocessing
from labelwise.errors import OptionError
from labelwise.nn.joint import Joint, rounds
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, Supervised
from labelwise.nn.train import Objective
from labelwise.recipe.base import Context, Cost, Fitted, Task, option, require_labels
from labelwise.recipe.decoding import PRESETS, WithDecoder, check_hidden
from labelwise.recipe.ranges import Reals
from labelwise.recipe.reading import channel_statistics, read_parts
from labelwise.recipe.scratch import make_network

WEIGHTS = (0.1, 1.0, 10.0)  # that are tried where none is given
BY_RULE = 1.0  # without a validation part: both losses begin near 1 to 2


@dataclass(frozen=True)
class JointAutoencoder(WithDecoder):
    """One network learns to tell the labeled images apart and to make all images again from the
    same code, so that the code keeps what images have in common.

    The weight of the reconstruction is chosen on the validation part, by one training each.
    """

    name: ClassVar[str] = "joint-autoencoder"
    regime: ClassVar[str] = "reconstruction of all images and classification in one loss"
    rank: ClassVar[int] = 4
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {**values, "hidden": (15,) if name == "stl5" else ()}
        for name, values in PRESETS.items()
    }

    hidden: tuple[int, ...] | None = option(
        None, "units of the classifier's hidden layers, as in 15; none: linear"
    )
    weight: float | None = option(
        None,
        "of the reconstruction error, in shares of the pixels' variance; left open: chosen on the "
        "validation part",
        search=Reals(0.01, 100),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hidden(self.name, self.hidden)
        if self.weight is not None and not 0 < self.weight < float("inf"):
            raise OptionError(f"joint-autoencoder(weight={self.weight}): must be positive.")

    def alone(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        require_labels(task)
        fits = []
        weights = self._tried(task)
        for number, weight in enumerate(weights):
            part = context.part(number / len(weights), (number + 1) / len(weights))
            fits.append(self._fitted(task, part, weight, _place(task.checkpoint, number)))
        for number in range(1, len(weights)):  # the first is removed by whoever keeps the result
            if (place := _place(task.checkpoint, number)) is not None:
                place.unlink(missing_ok=True)
        best = min(fits, key=_loss) if len(fits) > 1 else fits[0]
        return replace(best, seconds=time.perf_counter() - started)

    def own_cost(self, task: Task, context: Context) -> Cost:
        cost, trained = super().own_cost(task, context), len(self._tried(task))
        return replace(cost, epoch=trained * cost.epoch, validate=trained * 2 * cost.answer)

    @property
    def decides_on_validation(self) -> bool:
        return super().decides_on_validation or self.weight is None

    def own_settled(self, chosen: Sequence[Mapping[str, Any]]) -> Self:
        """The final fit takes the median weight of the folds, and the median best epoch of them."""
        settled = self.at_best_epoch(chosen)
        weights = [float(values["weight"]) for values in chosen]
        return replace(settled, weight=median_low(weights)) if weights else settled

    def _learned(self, task: Task) -> int:
        labeled = max(1, len(task.labeled))
        unlabeled = len(task.images) - len(task.labeled)
        return unlabeled + labeled * rounds(labeled, unlabeled)

    def _tried(self, task: Task) -> tuple[float, ...]:
        if self.weight is not None:
            return (self.weight,)
        return (BY_RULE,) if task.validation is None else WEIGHTS

    def _fitted(
        self, task: Task, context: Context, weight: float, checkpoint: Path | None
    ) -> Fitted:
        """One training with a weight."""
        started = time.perf_counter()
        preprocessing = self._input(task)
        images, validation = read_parts(task, self._places(task), preprocessing, context)
        architecture = self._architecture(preprocessing, self._scaling(images.pixels))
        classes = len(task.class_names)
        network = make_network(architecture, classes, preprocessing, context.device)
        generator = torch.Generator().manual_seed(context.seed)
        self._begin(network, images.pixels, generator)
        joint = self._joint(network, images, validation, weight)
        note = f"weight {weight:g}, "
        history, best = self.learn(network, joint, generator, context, checkpoint, note=note)
        model = self.model_of(network, architecture, preprocessing, task)
        chosen = {"best_epoch": best, "weight": weight}
        history = [{**record, "weight": weight} for record in history]
        return Fitted(model, history, chosen, time.perf_counter() - started)

    def _joint(
        self, network: Network, images: Examples, validation: Examples | None, weight: float
    ) -> Joint:
        known = images.labels >= 0
        classifier = Supervised(
            network,
            Examples(images.pixels[known], images.labels[known]),
            validation,
            batch=self.batch or 1,
            smoothing=self.smoothing or 0.0,
            augment=self._augmentation(images.pixels),
        )
        deviations = channel_statistics(images.pixels, "standard")[1]
        variance = float(np.square(deviations).mean())
        return Joint(
            classifier,
            images.pixels[~known],
            weight,
            variance,
            least_steps=self.least_steps or 0,
            share=self.share or 1.0,
        )

    def _architecture(
        self, preprocessing: Preprocessing, scaling: Mapping[str, list[float]]
    ) -> dict[str, Any]:
        hidden = list(self.hidden or ())
        return {**super()._architecture(preprocessing, scaling), "hidden": hidden}

    def _rehearsal(
        self, network: Network, images: Examples, batch: int
    ) -> tuple[nn.Module, Objective[Any]]:
        rehearsed = replace(self, batch=batch, least_steps=0, share=1.0)
        return network, rehearsed._joint(network, images, None, BY_RULE)


def _place(checkpoint: Path | None, number: int) -> Path | None:
    """The checkpoint of a training, of which a fit may have several."""
    if checkpoint is None or not number:
        return checkpoint
    return checkpoint.with_name(f"{checkpoint.stem}-{number}{checkpoint.suffix}")


def _loss(fitted: Fitted) -> float:
    """Validation loss of the epoch that was kept."""
    best = fitted.chosen["best_epoch"]
    return next(r["validation_loss"] for r in fitted.history if r["epoch"] == best)
