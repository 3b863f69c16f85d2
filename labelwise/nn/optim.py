"""What moves the weights: optimizers by name, rates over a training, and averages of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import nn

from labelwise.errors import OptionError
from labelwise.nn.lean import LeanAdam, LeanSGD
from labelwise.nn.muon import EPSILON, Muon

OptimizerName = Literal["sgd", "nesterov", "adam", "adamw", "muon"]
RateName = Literal["constant", "linear", "cosine", "one-cycle"]

FUSED = ("cpu", "cuda", "mps")  # devices with fused kernels
FIRST_RATE = 1 / 25  # share of the peak where a warm-up starts (torch's OneCycleLR)
ONE_CYCLE_WARMUP = 0.25

_FALL: dict[str, Callable[[float], float]] = {  # from 1 to what is left, by the share of the way
    "constant": lambda way: 1.0,
    "linear": lambda way: 1 - way,
    "cosine": lambda way: (1 + math.cos(math.pi * way)) / 2,
    "one-cycle": lambda way: 1 - way,
}


def make_optimizer(
    name: OptimizerName,
    network: nn.Module,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """The optimizer of a network's trainable parameters, with one `lr` in all its groups.

    Microseconds per step on 2 busy cores, torch's default / foreach / fused, fastest of 100:

        parameters (tensors)   sgd              nesterov           adam
           2,938 ( 6)          103 / 99 / 130   171 / 218 / 149    731 / 597 / 289
          25,818 ( 6)          63 / 58 / 85     191 / 144 / 103    634 / 566 / 212
          53,066 (16)          110 / 89 / 169   409 / 263 / 208    1639 / 1109 / 396
         262,218 (18)          249 / 224 / 279  841 / 700 / 525    7224 / 5949 / 639
       1,112,714 (22)          982 / 1067 / 1150  3915 / 3466 / 1476  13328 / 22456 / 1636

    Hence fused, except for sgd without momentum; see nn/lean.py for the CPU. Muon takes 2,600 for
    25,818 and 110,000 for 1,112,714: its products of matrices cost time of their own. Fused kernels
    go by memory: make the optimizer after the network has its memory format, and leave gradients in
    the layout in which backward gives them.

    Args:
        name: "sgd", "nesterov" (SGD with Nesterov's momentum), "adam" (Keras' epsilon), "adamw", or
            "muon" (see `Muon`): learning rates are those of adamw.
        momentum: of sgd, nesterov and muon; adam and adamw have 0.9 and 0.999.
        weight_decay: of matrices and filters; biases and the parameters of norms get none. Added
            to the gradient by sgd, nesterov and adam, taken off the weights by adamw and muon.

    Raises:
        OptionError: there is no such optimizer, or nesterov has no momentum.
    """
    if name not in get_args(OptimizerName):
        raise OptionError(_no_such("optimizer", name, get_args(OptimizerName)))
    if name == "nesterov" and momentum <= 0:
        raise OptionError(f"momentum={momentum:g}: nesterov needs more than 0, for example 0.9.")
    trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
    decayed = {key: value for key, value in trained.items() if value.ndim > 1}
    plain = [value for value in trained.values() if value.ndim < 2]
    if name == "muon":
        return _muon(decayed, plain, lr, momentum, weight_decay)
    groups = [
        {"params": list(decayed.values()), "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    devices = {value.device.type for value in trained.values()}
    lean, fused = devices <= {"cpu"}, devices <= set(FUSED)
    if name in ("sgd", "nesterov"):
        if lean and not momentum:
            return LeanSGD(groups, lr)
        how = {"fused": True} if fused and momentum else {"foreach": True}
        return torch.optim.SGD(groups, lr, momentum, nesterov=name == "nesterov", **how)
    decoupled = name == "adamw"
    if lean:
        return LeanAdam(groups, lr, eps=EPSILON, decoupled_weight_decay=decoupled)
    return torch.optim.Adam(groups, lr, eps=EPSILON, fused=fused, decoupled_weight_decay=decoupled)


def rate(name: RateName, peak: float, done: float, warmup: float | None = None) -> float:
    """Learning rate when a share of all steps lies behind.

    Args:
        name: how it falls from the peak, by the share of the way after the warm-up: "constant",
            "linear", "cosine" (Loshchilov & Hutter 2017), or "one-cycle", linear up and down (Smith
            & Topin 2019, arXiv:1708.07120).
        peak: the largest rate.
        done: in [0, 1].
        warmup: share of the steps in which it rises linearly from a 25th of the peak; unless given,
            a quarter for one-cycle and 0 for the others.

    Raises:
        OptionError: there is no such schedule, or the warm-up is not in [0, 1).
    """
    if name not in _FALL:
        raise OptionError(_no_such("schedule of the learning rate", name, _FALL))
    if warmup is None:
        warmup = ONE_CYCLE_WARMUP if name == "one-cycle" else 0.0
    if not 0 <= warmup < 1:
        raise OptionError(f"warmup={warmup:g}: give a share of the steps, from 0 to below 1.")
    if done < warmup:
        return peak * (FIRST_RATE + (1 - FIRST_RATE) * done / warmup)
    return peak * _FALL[name]((done - warmup) / (1 - warmup))


class Average:
    """A running average of a network's parameters and buffers, for evaluation or to go back to.

    Exponential moving average (Polyak & Juditsky 1992): `update` after every step, `swap` around an
    evaluation. Lookahead (Zhang et al. 2019, arXiv:1907.08610): `update(0.5)` every 5 steps, then
    `pull`. An update takes 50 microseconds for 50,000 parameters in 16 tensors on 2 cores.
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module) -> None:
        """The average begins with the network's present values."""
        tensors = [*network.parameters(), *network.buffers()]
        self._values = [value for value in tensors if value.is_floating_point()]
        self._counts = [value for value in tensors if not value.is_floating_point()]
        self._averages = [value.clone() for value in self._values]
        self._kept_counts = [value.clone() for value in self._counts]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """average = decay * average + (1 - decay) * network; whole numbers are copied."""
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        _copy(self._kept_counts, self._counts)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the values of the network and of the average; a second time undoes it."""
        for own, others in ((self._averages, self._values), (self._kept_counts, self._counts)):
            kept = [value.clone() for value in own]
            _copy(own, others)
            _copy(others, kept)

    @torch.no_grad()
    def pull(self) -> None:
        """Give the network the average's values."""
        _copy(self._values, self._averages)
        _copy(self._counts, self._kept_counts)

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """The average's tensors themselves, not copies."""
        return {"averages": self._averages, "counts": self._kept_counts}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        """Take over the values of `state_dict` of an average of the same kind of network."""
        _copy(self._averages, state["averages"])
        _copy(self._kept_counts, state["counts"])


def _muon(
    decayed: dict[str, nn.Parameter],
    plain: list[nn.Parameter],
    lr: float,
    momentum: float,
    weight_decay: float,
) -> Muon:
    """Muon for the hidden matrices; the head, as its authors advise, is left to AdamW."""
    head = [value for name, value in decayed.items() if name == "head.weight"]
    hidden = [value for name, value in decayed.items() if name != "head.weight"]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "orthogonal": True},
        {"params": head},
        {"params": plain, "weight_decay": 0.0},
    ]
    return Muon(groups, lr, momentum, weight_decay)


def _copy(into: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    if into:
        torch._foreach_copy_(into, values)


def _no_such(what: str, name: str, known: Iterable[str]) -> str:
    return f"There is no {what} {name!r}. Choose from {', '.join(known)}."
