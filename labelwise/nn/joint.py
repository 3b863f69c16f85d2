"""Joint: reconstruction of all images and classification of the labeled ones, in one loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from labelwise.nn.coding import JUDGED, means, squared_error
from labelwise.nn.passes import Passes
from labelwise.nn.supervised import Supervised
from labelwise.nn.train import Objective

Batch = tuple[torch.Tensor, torch.Tensor]  # numbers of unlabeled and of labeled images


def rounds(labeled: int, unlabeled: int) -> int:
    """How often labeled images come in a pass, so that they are as many as the unlabeled ones."""
    return max(1, math.ceil(unlabeled / labeled))


class Joint(Objective[Batch]):
    """Cross-entropy of the labeled images plus a weight times the error of reconstructions.

    The error is in shares of the pixels' variance, so that one weight means the same for all data.
    A pass goes over the unlabeled images once, and over the labeled ones until they are as many;
    every batch has its part of both.
    """

    def __init__(
        self,
        classifier: Supervised,
        unlabeled: torch.Tensor,
        weight: float,
        variance: float,
        *,
        least_steps: int = 0,
        share: float = 1.0,
    ) -> None:
        """
        Args:
            classifier: of a network with a decoder, on the labeled images.
            unlabeled: uint8 (U, C, H, W).
            weight: of the reconstruction error.
            variance: of the pixels' values in [0, 1].
            least_steps: of an epoch; see `pace`.
            share: of its steps that an epoch does, in (0, 1].
        """
        network = classifier.network
        if network.decoder is None:
            raise TypeError("the network has no decoder")
        self.network, self.decoder = network, network.decoder
        self.classifier, self.unlabeled = classifier, unlabeled
        self.weight = weight / variance
        labeled = len(classifier.examples)
        self.rounds = rounds(labeled, len(unlabeled))
        # At least two images per step, so that one of them has a label.
        batch = max(2, classifier.batch)
        count = len(unlabeled) + self.rounds * labeled
        self.passes = Passes.of(count, batch, least_steps, share)
        self.seen: list[tuple[int, dict[str, torch.Tensor]]] = []

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Batch]:
        """Numbers of images, in a new order; the labeled ones in several orders after another."""
        self.seen.clear()
        self.classifier.seen.clear()
        passes, device = self.passes, self.network.mean.device
        whole = math.ceil(passes.repeats * passes.count / passes.batch)
        rest, known = (
            torch.cat([torch.randperm(count, generator=generator) for _ in range(times)])
            .to(device)
            .tensor_split(whole)
            for count, times in (
                (len(self.unlabeled), passes.repeats),
                (len(self.classifier.examples), passes.repeats * self.rounds),
            )
        )
        steps = math.ceil(passes.images / passes.batch)
        return list(zip(rest, known, strict=True))[:steps]

    def loss(self, batch: Batch, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """The joint loss of a batch; of the unlabeled images only the reconstructions count."""
        rest, known = batch
        examples, augment = self.classifier.examples, self.classifier.augment
        labels = examples.labels[known]
        pixels = torch.cat(
            [
                augment(self.unlabeled[rest], rest, epoch, generator),
                augment(examples.look(known, epoch), known, epoch, generator),
            ]
        )
        code = self.network.body(self.network.normalized(pixels))[1]
        logits = cast(nn.Module, self.network.head)(code[len(rest) :])
        error = squared_error(self.decoder(code), pixels)
        entropy = nn.functional.cross_entropy(
            logits, labels, label_smoothing=self.classifier.smoothing
        )
        self.classifier.seen.add(logits.detach(), labels, labels)
        self.seen.append((len(pixels), {"reconstruction": error.detach()}))
        return entropy + self.weight * error

    def record(self) -> dict[str, Any]:
        """What was seen during the epoch; `train_loss` is the cross-entropy."""
        images = sum(count for count, _ in self.seen)
        found = self.classifier.record()
        return {**found, "images": images, **means(self.seen, "train")}

    @torch.inference_mode()
    def judge(self) -> dict[str, Any]:
        """The classifier's numbers on the validation part, and the reconstruction error."""
        validation = self.classifier.validation
        if validation is None:
            return {}
        found = self.classifier.judge()
        starts = range(0, len(validation), JUDGED)
        parts = [validation.plain(slice(start, start + JUDGED)) for start in starts]
        errors = [(len(part), {"reconstruction": self._error(part)}) for part in parts]
        return {**found, **means(errors, "validation")}

    def _error(self, pixels: torch.Tensor) -> torch.Tensor:
        code = self.network.body(self.network.normalized(pixels))[1]
        return squared_error(self.decoder(code), pixels)
