"""Checkpoint: an unfinished training on disk, from which it goes on exactly. No pickle."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelwise.files import write_file
from labelwise.nn.optim import Average

EVERY = 20.0  # seconds between two checkpoints: what a kill costs at most, but for an epoch
_NETWORK, _BEST, _OPTIMIZER, _AVERAGE = "network.", "best.", "optimizer.", "average."
_OBJECTIVE = "objective."
_BATCHES, _LAYERS = "generator of batches", "generator of layers"
_NOTHING: Mapping[str, torch.Tensor] = {}


@dataclass
class Checkpoint:
    """One file, replaced as the training goes on.

    Attributes:
        file: where; it is removed by whoever keeps the finished result.
        every: seconds between two of them.
    """

    file: Path
    every: float = EVERY
    _last: float = field(default_factory=time.monotonic, repr=False)

    def keep(
        self,
        progress: Mapping[str, Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        average: Average | None = None,
        state: Mapping[str, torch.Tensor] = _NOTHING,
    ) -> None:
        """Write where the training stands, unless that was done a moment ago.

        Args:
            progress: JSON-safe values, and `best_weights`: tensors by name, or None.
            state: of the objective; see `Objective.state`.
        """
        if time.monotonic() - self._last < self.every:
            return
        from safetensors.torch import save

        values = dict(progress)
        best = values.pop("best_weights") or {}
        moved = optimizer.state_dict()["state"]
        values["optimizer"] = {  # what of its state is no tensor
            number: {n: v for n, v in state.items() if not isinstance(v, torch.Tensor)}
            for number, state in moved.items()
        }
        tensors = {
            **{_NETWORK + name: value for name, value in network.state_dict().items()},
            **{_BEST + name: value for name, value in best.items()},
            **{
                f"{_OPTIMIZER}{number}.{name}": value
                for number, state in moved.items()
                for name, value in state.items()
                if isinstance(value, torch.Tensor)
            },
            **{
                f"{_AVERAGE}{kind}.{number}": value
                for kind, values_of in (average.state_dict() if average else {}).items()
                for number, value in enumerate(values_of)
            },
            **{_OBJECTIVE + name: value for name, value in state.items()},
            _BATCHES: generator.get_state(),
            _LAYERS: torch.get_rng_state(),
        }
        data = save(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            {"progress": json.dumps(values)},
        )
        write_file(self.file, lambda file: file.write(data))
        self._last = time.monotonic()

    def restore(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        average: Average | None = None,
        state: Mapping[str, torch.Tensor] = _NOTHING,
    ) -> dict[str, Any] | None:
        """Put everything where it stood; what `keep` got as progress.

        None if nothing was kept, or by a training of another network.
        """
        from safetensors import SafetensorError, safe_open

        if not self.file.exists():
            return None
        try:
            with safe_open(self.file, framework="pt") as opened:
                values: dict[str, Any] = json.loads(opened.metadata()["progress"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return None  # training anew is always right
        own, others = _part(tensors, _NETWORK), _part(tensors, _OBJECTIVE)
        if _shapes(own) != _shapes(network.state_dict()) or _shapes(others) != _shapes(state):
            return None
        network.load_state_dict(own)
        described = optimizer.state_dict()
        moved: dict[int, dict[str, Any]] = {
            int(number): state for number, state in values.pop("optimizer").items()
        }
        for name, value in _part(tensors, _OPTIMIZER).items():
            number, _, key = name.partition(".")
            moved.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**described, "state": moved})
        if average is not None:
            averaged = _part(tensors, _AVERAGE)
            average.load_state_dict(
                {
                    kind: [averaged[f"{kind}.{number}"] for number in range(len(values_of))]
                    for kind, values_of in average.state_dict().items()
                }
            )
        for name, value in others.items():
            state[name].copy_(value)
        generator.set_state(tensors[_BATCHES])
        torch.set_rng_state(tensors[_LAYERS])
        return {**values, "best_weights": _part(tensors, _BEST) or None}


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
