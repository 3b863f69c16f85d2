"""Recipe `autoencoder`: in two steps, a convolutional autoencoder and a classifier on its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, ClassVar, Literal, Self, cast

import torch

from labelwise.data.preprocess import Preprocessing
from labelwise.errors import OptionError
from labelwise.nn.code_head import train_deep_head
from labelwise.nn.coding import Autoencoder as Autoencoding
from labelwise.nn.coding import Coder, encoded
from labelwise.nn.layers import initialize
from labelwise.nn.network import Body, Network, make_head
from labelwise.nn.supervised import Examples, Supervised, head_of
from labelwise.nn.train import Schedule, train
from labelwise.recipe.base import Context, Cost, Task, option
from labelwise.recipe.codes import TwoSteps
from labelwise.recipe.decoding import PRESETS, check_hidden
from labelwise.recipe.scratch import MOST_EPOCHS

Encoder = Literal["frozen", "tuned"]

TUNED = 0.1  # share of the learning rate with which an encoder is tuned: it is to stay what it is


@dataclass(frozen=True)
class Autoencoder(TwoSteps):
    """First a convolutional autoencoder learns from all images, then a classifier on its code.

    The classifier is a logistic regression, or a small network if `hidden` says so. With
    `encoder=tuned` encoder and head go on to learn from the labeled images.

    Without any label the model has no head: it embeds.
    """

    name: ClassVar[str] = "autoencoder"
    regime: ClassVar[str] = "autoencoder on all images, then a classifier on its code"
    rank: ClassVar[int] = 4
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {**values, "hidden": (25, 15) if name == "stl5" else ()}
        for name, values in PRESETS.items()
    }

    hidden: tuple[int, ...] | None = option(
        None, "units of the classifier's hidden layers, as in 25-15; none: logistic regression"
    )
    encoder: Encoder = option("frozen", "in the second step: frozen or tuned")
    head_epochs: int | None = option(
        None, "passes of the second step over the labeled images; left open: as epochs"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hidden(self.name, self.hidden)
        if self.head_epochs is not None and self.head_epochs < 1:
            raise OptionError(f"autoencoder(head_epochs={self.head_epochs}): must be positive.")

    def own_cost(self, task: Task, context: Context) -> Cost:
        """With the steps that tune an encoder; a head on frozen codes costs next to nothing."""
        cost = super().own_cost(task, context)
        if self.encoder == "frozen":
            return cost
        share = self._passes(len(task.labeled)).images / self._passes(len(task.images)).images
        longer = self.head_epochs / self.epochs if self.head_epochs and self.epochs else 1.0
        return replace(cost, epoch=(1 + share * longer) * cost.epoch)

    def own_settled(self, chosen: Sequence[Mapping[str, Any]]) -> Self:
        """The final fit runs the median best epochs of both steps."""
        settled = self.at_best_epoch(chosen)
        epochs = [values["best_head_epoch"] for values in chosen if "best_head_epoch" in values]
        return replace(settled, head_epochs=max(1, round(median(epochs)))) if epochs else settled

    def _coder(self, network: Network) -> Coder:
        return Autoencoding(network)

    def _architecture(
        self, preprocessing: Preprocessing, scaling: Mapping[str, list[float]]
    ) -> dict[str, Any]:
        hidden = list(self.hidden or ())
        return {**super()._architecture(preprocessing, scaling), "hidden": hidden}

    def _classified(
        self,
        network: Network,
        images: Examples,
        validation: Examples | None,
        task: Task,
        context: Context,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if not self.hidden and self.encoder == "frozen":
            return super()._classified(network, images, validation, task, context)
        labeled = torch.from_numpy(task.labeled).to(images.pixels.device)
        examples = Examples(images.pixels[labeled], images.labels[labeled])
        generator = torch.Generator().manual_seed(context.seed)
        pace = {"batch": self.batch or 1, "least_steps": self.least_steps or 0}
        if self.encoder == "tuned":
            if not self.hidden:
                # The validation part is to judge the tuning, so the head must not know it.
                alone = replace(task, validation=None)
                super()._classified(network, images, None, alone, context)
            else:
                network.head = make_head(
                    cast(Body, network.body).width, self.hidden, len(task.class_names)
                )
                initialize(network.head, generator)
            head_of(network).to(images.pixels.device)
            history, best = self._tuned(network, examples, validation, generator, pace)
        else:
            network.head, history, best = train_deep_head(
                _codes(network, examples),
                None if validation is None else _codes(network, validation),
                self.hidden or (),
                len(task.class_names),
                self._second(1.0),
                generator,
                **pace,
            )
        return {"best_head_epoch": best}, history

    def _tuned(
        self,
        network: Network,
        examples: Examples,
        validation: Examples | None,
        generator: torch.Generator,
        pace: Mapping[str, int],
    ) -> tuple[list[dict[str, Any]], int]:
        """Encoder and head learn from the labeled images; a new head needs the whole rate."""
        objective = Supervised(
            network,
            examples,
            validation,
            smoothing=self.smoothing or 0.0,
            augment=self._augmentation(examples.pixels),
            **pace,
        )
        schedule = self._second(1.0 if self.hidden else TUNED)
        return train(network, objective, schedule, generator=generator)

    def _second(self, share: float) -> Schedule:
        """The schedule of the second step, with a share of the rate."""
        epochs = self.head_epochs or self.epochs or MOST_EPOCHS
        return replace(self._schedule, lr=share * (self.lr or 0.0), epochs=epochs)


def _codes(network: Network, examples: Examples) -> Examples:
    return Examples(encoded(network, examples.pixels), examples.labels.cpu())
