"""Code head: a small network that learns from codes instead of pixels, to become a deep head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from labelwise.nn.layers import Stack, initialize
from labelwise.nn.logistic import shrunken
from labelwise.nn.network import DeepHead, Network
from labelwise.nn.supervised import Examples, Supervised, head_of
from labelwise.nn.train import Schedule, train


def train_deep_head(
    examples: Examples,
    validation: Examples | None,
    hidden: Sequence[int],
    classes: int,
    schedule: Schedule,
    generator: torch.Generator,
    **pace: Any,
) -> tuple[DeepHead, list[dict[str, Any]], int]:
    """Train a deep head on codes, which are standardized for it.

    Args:
        examples, validation: codes float32 (N, D) in the place of pixels.
        pace: batch and least_steps, as of `Supervised`.

    Returns:
        The head for codes as they are, and what `train` returns.
    """
    network = _code_network(examples.pixels, hidden, classes).to(examples.pixels.device)
    initialize(network, generator)
    judged = None if validation is None else _as_images(validation)
    objective = Supervised(network, _as_images(examples), judged, **pace)
    history, best = train(network, objective, schedule, generator=generator, work=0.0)
    return _for_plain_codes(network, hidden, classes), history, best


def _code_network(codes: torch.Tensor, hidden: Sequence[int], classes: int) -> Network:
    """A network for images of one pixel with a code's entries for channels."""
    mean, variance = codes.mean(0), codes.var(0, correction=0)
    # Of few images a code's variance is hardly known: what is nearly constant among them would be
    # blown up on others.
    block = torch.zeros(codes.shape[1], dtype=torch.int64, device=codes.device)
    std = shrunken(variance, len(codes), block).sqrt()
    std = torch.where(std > 1e-6, std, 1.0)
    layers = ", ".join(f"dense {units} relu" for units in hidden)
    body = Stack(layers, (codes.shape[1], 1, 1))
    # A network divides its pixels by 255.
    return Network(body, classes, mean=(mean / 255).tolist(), std=(std / 255).tolist())


def _as_images(examples: Examples) -> Examples:
    return Examples(examples.pixels[:, :, None, None], examples.labels)


def _for_plain_codes(network: Network, hidden: Sequence[int], classes: int) -> DeepHead:
    """The same function with the standardization inside of its first layer."""
    mean, std = 255 * network.mean.flatten(), 255 * network.std.flatten()
    own = [m for m in cast(Stack, network.body).vector if isinstance(m, nn.Linear)]
    head = DeepHead(len(mean), hidden, classes).to(mean.device)
    layers = [m for m in head.hidden if isinstance(m, nn.Linear)]
    with torch.no_grad():
        for layer, trained in zip([*layers, head], [*own, head_of(network)], strict=True):
            layer.weight.copy_(trained.weight)
            layer.bias.copy_(trained.bias)
        layers[0].weight.div_(std)
        layers[0].bias.sub_(layers[0].weight @ mean)
    return head
