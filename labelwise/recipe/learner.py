"""Learner: the part of a pretrained network that learns, and how images reach it.

From pixels, augmented anew in every epoch; or, if only the last blocks learn, from activations of
the frozen ones before, which are computed once for a few looks at every image.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, cast

import numpy as np
import torch

from labelwise.activations import Activations, Looks
from labelwise.data.dataset import Images
from labelwise.data.preprocess import BATCH, Preprocessing
from labelwise.features import stored_pixels
from labelwise.nn.fold import folded
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, Labeled
from labelwise.nn.tail import Front, Tail, Tuned, TunedTail
from labelwise.nn.taps import Taps
from labelwise.recipe.rehearsal import reading_seconds


class Learner(Protocol):
    """What is trained.

    Attributes:
        network: has a head; its weights are those of the network that it was made of.
        augment: of its inputs, as text.
    """

    network: Network
    augment: str

    def examples(self, images: Images, labels: np.ndarray, *, learned: bool) -> Labeled:
        """Images as the network's inputs: to be learned from, or only to be judged by."""
        ...

    def blank(self, count: int) -> Examples:
        """Empty inputs of one class, of which only one is in memory."""
        ...

    def once(self, every: Images) -> float:
        """Seconds that it takes to make the inputs of images, where they are not known yet."""
        ...


class FromPixels:
    """Learns from images at the network's input size."""

    def __init__(
        self, whole: Network, preprocessing: Preprocessing, augment: str, first: int | None
    ) -> None:
        """
        Args:
            first: block that the part that learns begins with; None: everything learns.
        """
        self.preprocessing, self.augment = preprocessing, augment
        whole.requires_grad_(True)
        if first is not None:
            size = (preprocessing.height, preprocessing.width)
            Front(cast(Taps, whole.body), first, size).requires_grad_(False)
        self.device = whole.mean.device
        blank = torch.zeros(1, *preprocessing.shape, dtype=torch.uint8, device=self.device)
        self.network: Network = Tuned(folded(whole.body, whole.normalized(blank)), None)
        self.network.mean, self.network.std = whole.mean, whole.std
        self.network.head = whole.head

    def examples(self, images: Images, labels: np.ndarray, *, learned: bool) -> Examples:
        pixels = stored_pixels(images, self.preprocessing)
        return Examples(pixels.to(self.device), torch.from_numpy(labels).to(self.device))

    def blank(self, count: int) -> Examples:
        pixels = torch.zeros(1, *self.preprocessing.shape, dtype=torch.uint8, device=self.device)
        return _blank(pixels, count)

    def once(self, every: Images) -> float:
        return reading_seconds(every, every, self.preprocessing)


class BehindFront:
    """The blocks behind a cut learn, from what the frozen ones make of some looks."""

    augment = ""  # the looks are all there is

    def __init__(
        self, whole: Network, looks: Looks, every: Images, advance: Callable[[float, str], None]
    ) -> None:
        """
        Args:
            whole: its body has the weights of the looks' backbone.
            every: images that any fit may learn from, for which the disk must have room.
            advance: told the share of a call's activations that is there, and what is going on.
        """
        self.looks, self.advance = looks, advance
        self.count = looks.affordable(every)
        self.device = whole.mean.device
        blank = torch.zeros(1, looks.front.length, device=self.device)
        tail = Tail(cast(Taps, whole.body), looks.front)
        self.network: Network = TunedTail(folded(tail, blank), None)
        self.network.mean, self.network.head = whole.mean, whole.head
        self.network.requires_grad_(True)

    def examples(self, images: Images, labels: np.ndarray, *, learned: bool) -> Activations:
        count = self.count if learned else 1
        total, done = self.looks.missing(images, count), 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self.advance(done / total, f"activations of {done} of {total} looks at images")

        rows = self.looks.rows(images, count, advance)
        return Activations(rows, torch.from_numpy(labels).to(self.device))

    def blank(self, count: int) -> Examples:
        row = torch.zeros(1, self.looks.front.length, dtype=torch.float16, device=self.device)
        return _blank(row, count)

    def once(self, every: Images) -> float:
        pixels = np.zeros((BATCH, *self.looks.preprocessing.shape), np.uint8)
        self.looks.compute(torch.from_numpy(pixels))
        started = time.perf_counter()
        self.looks.compute(torch.from_numpy(pixels))
        each = (time.perf_counter() - started) / BATCH
        return each * self.looks.missing(every, self.count)


def _blank(one: torch.Tensor, count: int) -> Examples:
    labels = torch.zeros(count, dtype=torch.int64, device=one.device)
    return Examples(one.expand(count, *one.shape[1:]), labels)
