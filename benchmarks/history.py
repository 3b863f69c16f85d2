"""What the history of a training costs: confusion matrix, accuracy and loss of every epoch.

    python benchmarks/history.py

The same training with and without its record, epoch by epoch in turns, on random images and one
thread; without means that neither the numbers of a step are kept nor those of an epoch made. For
nets A and B of small_nets.py, whose steps are the shortest, so that nothing costs them more.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from engines.nets import NETS, Net

from labelwise.architecture import build
from labelwise.nn.layers import initialize
from labelwise.nn.supervised import Examples, Supervised
from labelwise.nn.train import Schedule, train

LAYERS = {
    "A": "conv16 3x3 relu, max 2, dense 32 relu",
    "B": "dense 32 relu, dense 16 relu",
}


class Silent(Supervised):
    """Learns without looking back."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen.add = lambda *_: None  # type: ignore[method-assign]

    def record(self) -> dict[str, Any]:
        return {"train_loss": 0.0}


def training(kind: type[Supervised], net: Net, layers: str) -> Any:
    """A function that trains an epoch."""
    height, width, channels = net.shape
    pixels, labels = map(torch.from_numpy, net.data())
    examples = Examples(pixels.permute(0, 3, 1, 2).contiguous(), labels)
    scaling = {"mean": [0.0] * channels, "std": [1.0] * channels}
    architecture = {"kind": "layers", "layers": layers, **scaling}
    network = build(architecture, net.classes, (channels, height, width))
    initialize(network, torch.Generator().manual_seed(0))
    objective = kind(network, examples, None, batch=net.batch)
    optimizer: Any = net.optimizer
    schedule = Schedule(optimizer, net.lr, "constant", 1, None)
    generator = torch.Generator()
    return lambda: train(network, objective, schedule, generator=generator, work=0)


def main() -> None:
    """Measure and print a line per net."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    for letter, layers in LAYERS.items():
        epochs = [training(kind, NETS[letter], layers) for kind in (Supervised, Silent)]
        seconds: list[list[float]] = [[], []]
        for turn in range(2 + rounds):
            for epoch, taken in zip(epochs, seconds, strict=True):
                started = time.process_time()
                epoch()
                if turn >= 2:
                    taken.append(time.process_time() - started)
        with_history, without = map(min, seconds)
        print(
            f"{letter}: {with_history:.4f} s of CPU time an epoch, {without:.4f} s without; the "
            f"history costs {with_history / without - 1:.1%} (fastest of {rounds} each)"
        )


if __name__ == "__main__":
    main()
