"""Muon: momentum of weight matrices, orthogonalized (Jordan et al. 2024).

https://kellerjordan.github.io/posts/muon. Every hidden matrix moves by U V^T of its momentum's
singular value decomposition, found by Newton-Schulz iterations; a filter bank is the matrix of its
flattened filters. Steps are scaled to the root mean square of AdamW's (Liu et al. 2025,
arXiv:2502.16982, eq. 4), so that one learning rate serves both: AdamW moves everything else.

torch.optim.Muon takes only 2-D parameters, scales like this only on request and calculates in
bfloat16, which takes 3 to 5 times as long as float32 on a processor without bfloat16 units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from labelwise.nn.lean import moved

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, steepest at 0 (Jordan et al. 2024)
ITERATIONS = 5
ADAM_RMS = 0.2  # root mean square of a typical step of AdamW at learning rate 1
SMALLEST_NORM = 1e-7  # below it a matrix counts as zero
BETAS = (0.9, 0.999)  # of AdamW
EPSILON = 1e-7  # of Adam and AdamW, as Keras has it; torch's own is 1e-8


class Muon(Optimizer):
    """Orthogonalized momentum for groups with `orthogonal=True`, AdamW for the others."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        """
        Args:
            groups: `params`, and what differs from the defaults; those of an orthogonal group have
                at least two dimensions, outputs first.
            lr: as for AdamW, also of the orthogonal groups.
            momentum: Nesterov's, of the orthogonal groups.
            weight_decay: taken off the weights, times the learning rate (decoupled).
        """
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(groups, defaults | {"orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all weights that have a gradient; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, weights, gradients in moved(self.param_groups):
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                for value, gradient in zip(weights, gradients, strict=True):
                    self._orthogonal_step(value, gradient, group["lr"], group["momentum"])
            else:
                self._adam_step(weights, gradients, group["lr"])
        return loss

    def _orthogonal_step(
        self, weights: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float
    ) -> None:
        state = self.state[weights]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].mul_(momentum).add_(gradient)
        ahead = torch.add(gradient, state["momentum"], alpha=momentum).flatten(1)
        scale = ADAM_RMS * math.sqrt(max(ahead.shape))
        weights.sub_(orthogonal(ahead).view(weights.shape), alpha=lr * scale)

    def _adam_step(
        self, weights: list[torch.Tensor], gradients: list[torch.Tensor], lr: float
    ) -> None:
        for value in weights:
            if not self.state[value]:
                zeros = torch.zeros_like(value)
                self.state[value] = {"step": 0, "mean": zeros, "square": zeros.clone()}
            self.state[value]["step"] += 1
        means = [self.state[value]["mean"] for value in weights]
        squares = [self.state[value]["square"] for value in weights]
        torch._foreach_lerp_(means, gradients, 1 - BETAS[0])
        torch._foreach_mul_(squares, BETAS[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - BETAS[1])
        steps = [self.state[value]["step"] for value in weights]
        roots = torch._foreach_div(squares, [1 - BETAS[1] ** step for step in steps])
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, EPSILON)
        torch._foreach_addcdiv_(weights, means, roots, [-lr / (1 - BETAS[0] ** t) for t in steps])


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About U V^T of a matrix U S V^T, (A, B): its singular values become 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T.contiguous() if matrix.shape[0] > matrix.shape[1] else wide
