"""Limits: what a network may ask for, so that a line of text cannot fill the memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from labelwise.errors import LayerError

LARGEST_MAPS = 2**28  # values of a layer for one image: 1 GB
LARGEST_WORK = 10**12  # multiplications for one image; a ResNet-50 takes 4 * 10**9


def check_size(where: str, *, values: int, work: int = 0) -> None:
    """Refuse a layer that makes too many values of one image, or takes too long for it.

    Raises:
        LayerError: names the layer.
    """
    if values > LARGEST_MAPS or work > LARGEST_WORK:
        raise LayerError(
            f"{where} makes the network too large: one image may take {LARGEST_MAPS} values in a "
            f"layer and {LARGEST_WORK} multiplications in all. Use a smaller --image-size, fewer "
            "filters, less padding or a larger stride."
        )


@contextmanager
def parameters_at_most(limit: int) -> Iterator[None]:
    """Stop every network that this thread builds inside at its first parameter above a limit.

    The parameter is refused before it is filled, so its memory was never touched.

    Raises:
        LayerError: there are more.
    """
    builder, count = threading.get_ident(), 0

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        if parameter is None or threading.get_ident() != builder:
            return
        count += parameter.numel()
        if count > limit:
            raise LayerError(
                f"the network has more than the {limit} parameters that its weights file can hold."
            )

    handle = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()
