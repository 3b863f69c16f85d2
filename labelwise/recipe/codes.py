"""Two steps: codes of all images are learned first, then a classifier on the labeled ones."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from labelwise.nn.coding import Coder, Coding, encoded
from labelwise.nn.layers import initialize
from labelwise.nn.network import Network
from labelwise.nn.passes import Passes
from labelwise.nn.supervised import Examples
from labelwise.nn.train import Objective
from labelwise.recipe.base import Context, Fitted, Task, require_labels
from labelwise.recipe.code_heads import head_columns, logistic_head
from labelwise.recipe.decoding import WithDecoder
from labelwise.recipe.reading import read_parts
from labelwise.recipe.scratch import make_network, whiten_first

CODE, HEAD = "code", "head"  # phases of a history


@dataclass(frozen=True)
class TwoSteps(WithDecoder):
    """Learns codes without labels, then a logistic regression on the codes of labeled images.

    Without any label that is all: the model has no head, and embeds.
    """

    needs_labels: ClassVar[bool] = False

    @abstractmethod
    def _coder(self, network: Network) -> Coder:
        """What learns the codes."""

    def alone(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        if task.class_names:
            require_labels(task)
        preprocessing = self._input(task)
        images, validation = read_parts(task, self._places(task), preprocessing, context)
        architecture = self._architecture(preprocessing, self._scaling(images.pixels))
        network = make_network(architecture, None, preprocessing, context.device)
        history, best = self._coded(network, images, validation, task, context)
        chosen: dict[str, Any] = {"best_epoch": best}
        if task.class_names:
            decided, more = self._classified(network, images, validation, task, context)
            chosen, history = chosen | decided, _phases(history, more) if more else history
        model = self.model_of(network, architecture, preprocessing, task)
        return Fitted(model, history, chosen, time.perf_counter() - started)

    def _coded(
        self,
        network: Network,
        images: Examples,
        validation: Examples | None,
        task: Task,
        context: Context,
    ) -> tuple[list[dict[str, Any]], int]:
        """The first step: the network learns codes; see `train` for what is returned."""
        generator = torch.Generator().manual_seed(context.seed)
        coder = self._coder(network)
        initialize(coder, generator)
        whiten_first(network, images.pixels)

        def observe(record: Mapping[str, Any]) -> None:
            # Its loss says nothing of classes, by which a search compares trials.
            context.observe({n: v for n, v in record.items() if n != "validation_loss"})

        def watched() -> dict[str, Any]:
            if validation is None or not task.class_names:
                return {}
            return head_columns(network, images, validation, len(task.class_names))

        coding = self._coding(coder, images, validation, self._passes(len(images)), watched)
        within = replace(context.part(0.0, 0.95), observe=observe)
        return self.learn(coder, coding, generator, within, task.checkpoint)

    def _classified(
        self,
        network: Network,
        images: Examples,
        validation: Examples | None,
        task: Task,
        context: Context,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The second step gives the network its head; what was decided, and a history."""
        if self._compares:  # the validation part is to judge the head, which must not know it
            validation, task = None, replace(task, validation=None)
        pixels = images.pixels[torch.from_numpy(task.labeled).to(images.pixels.device)]
        codes = encoded(network, pixels)
        if validation is not None:
            codes = torch.cat([codes, encoded(network, validation.pixels)])
        network.head, decided, _ = logistic_head(codes, task, context.seed)
        return decided, []

    def _coding(
        self,
        coder: Coder,
        images: Examples,
        validation: Examples | None,
        passes: Passes,
        also: Callable[[], Mapping[str, Any]],
    ) -> Coding:
        augment = self._augmentation(images.pixels)
        judged = None if validation is None else validation.pixels
        return Coding(coder, images.pixels, judged, passes, augment, also)

    def _rehearsal(
        self, network: Network, images: Examples, batch: int
    ) -> tuple[nn.Module, Objective[Any]]:
        coder = self._coder(network)
        return coder, self._coding(coder, images, None, Passes.of(len(images), batch), dict)


def _phases(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of both steps, epochs counted on."""
    coded = [{**record, "phase": CODE} for record in first]
    return coded + [{**r, "epoch": len(first) + r["epoch"], "phase": HEAD} for r in second]
