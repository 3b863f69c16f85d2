"""Rehearsal: how long training, answering and reading take here, timed briefly before a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from labelwise.data.dataset import Images
from labelwise.data.preprocess import Preprocessing, prepared
from labelwise.features import pixel_store
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, Supervised, evaluate
from labelwise.nn.train import Schedule, train

SECONDS = 0.5  # of reading some images, at least
MOST_STEPS = 1000
ANSWERED = 256  # images, as many as a model answers for at once
WARM, READ, MOST_READ = 16, 64, 8192  # images read before the clock counts, first then, at most
TUNED = 8  # of a large network, for which a few images are already a second


def blank(images: int, shape: tuple[int, int, int], device: str) -> Examples:
    """Empty images of one class, of which only one is in memory."""
    pixels = torch.zeros(1, *shape, dtype=torch.uint8, device=device).expand(images, *shape)
    return Examples(pixels, torch.zeros(images, dtype=torch.int64, device=device))


def step_seconds(train: Callable[[int], float], seconds: float) -> float:
    """Seconds of a training step once everything is warm.

    Args:
        train: trains so many steps and says how many seconds they took.
        seconds: of one timing, of which there are three.
    """
    train(2)
    steps = max(3, min(MOST_STEPS, int(seconds * 3 / max(train(3), 1e-6))))
    return median(train(steps) for _ in range(3)) / steps


def answer_seconds(
    network: Network, shape: tuple[int, int, int], device: str
) -> tuple[float, float]:
    """Seconds for one image: of validation after an epoch, and of an answer with its views."""
    examples = blank(ANSWERED, shape, device)

    @torch.inference_mode()
    def answer() -> None:
        network.eval()(examples.pixels)

    def timed(work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) / ANSWERED

    return (
        median(timed(lambda: evaluate(network, examples, batch=ANSWERED)) for _ in range(3)),
        median(timed(answer) for _ in range(3)),
    )


def tuning_seconds(network: Network, examples: Examples, schedule: Schedule) -> tuple[float, float]:
    """Seconds for one image of a large network: to learn from it, and to be judged by it.

    Args:
        examples: TUNED of them.
        schedule: that the network would be trained by; its weights stay as they are.
    """
    objective = Supervised(network, examples, None, batch=TUNED)
    still = replace(schedule, lr=0.0, epochs=1, patience=None)

    def learn() -> None:
        train(network, objective, still, generator=torch.Generator())

    return seconds_each(learn), seconds_each(lambda: evaluate(network, examples))


def seconds_each(work: Callable[[], object]) -> float:
    """Seconds of some work on TUNED images, for each of them, once it is warm."""
    work()
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / TUNED


def reading_seconds(some: Images, every: Images, preprocessing: Preprocessing) -> float:
    """Seconds to decode those of `every` that are not in the store; looks at `some` only.

    Neighbors are read, as in a run: images in one file share what it takes to open a part of it.
    """
    missing = len(pixel_store(preprocessing).missing(every.contents))
    if not missing or not len(some):
        return 0.0
    start, count, read, spent = 0, WARM, 0, 0.0
    while start < len(some) and read < MOST_READ and spent < SECONDS:
        sample = some.subset(slice(start, start + count))
        begin = time.perf_counter()
        for _ in prepared(sample, preprocessing):
            pass
        # Imports and threads that the first images wait for are no matter of every image.
        if start or len(sample) == len(some):
            spent, read = spent + time.perf_counter() - begin, read + len(sample)
        start, count = start + len(sample), max(READ, 2 * count)
    return spent / read * missing
