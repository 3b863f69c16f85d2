"""torch.optim's SGD and Adam on the CPU with nothing around their kernels.

Their arithmetic takes a few microseconds for a small network; grouping parameters by device, hooks
and marks for the profiler take a hundred, more than the gradients of a small layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def _unwrapped(step: F) -> F:
    """Tell torch.optim that a step needs no wrapper for hooks and the profiler."""
    setattr(step, "hooked", True)  # noqa: B010
    return step


class LeanSGD(torch.optim.SGD):
    """SGD without momentum."""

    @_unwrapped
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all weights that have a gradient."""
        for group, weights, gradients in moved(self.param_groups):
            if group["weight_decay"]:
                decay = group["weight_decay"]
                gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
            torch._foreach_add_(weights, gradients, alpha=-group["lr"])


class LeanAdam(torch.optim.Adam):
    """Adam, or AdamW with `decoupled_weight_decay`; its state is that of torch.optim.Adam."""

    @_unwrapped
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all weights that have a gradient."""
        for group, weights, gradients in moved(self.param_groups):
            states = [self.state[value] or self._begin(value) for value in weights]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            kernel(
                weights,
                gradients,
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def _begin(self, value: torch.Tensor) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.state[value]
        zeros = torch.zeros_like(value, memory_format=torch.preserve_format)
        state.update(step=torch.zeros(()), exp_avg=zeros, exp_avg_sq=zeros.clone())
        return state


def moved(
    groups: Iterable[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], list[torch.Tensor], list[torch.Tensor]]]:
    """Every group in which weights have a gradient, with these weights and their gradients."""
    for group in groups:
        weights = [value for value in group["params"] if value.grad is not None]
        if weights:
            yield group, weights, [value.grad for value in weights]
