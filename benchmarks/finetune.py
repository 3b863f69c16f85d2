"""What fine-tuning does to held-out images of the training part, and what its steps cost.

    python benchmarks/finetune.py DATA 1968 'finetune(epochs=4, patience=0)' --seed 0
    python benchmarks/finetune.py --steps 128

The first learns from some labeled images, drawn by group, and prints loss and accuracy on others
(at most --judged) before and after every epoch; the test part stays closed. The second prints, for
every block that EfficientNet-Lite0 can be cut before, the milliseconds of an image in the front and
in a step of the tail (CPU time, the least of 4), plain and folded, and the size of its activations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from labelwise.data.load import load
from labelwise.machine import keep_memory
from labelwise.nn.fold import folded
from labelwise.nn.tail import Front, Tail, blocks_of
from labelwise.nn.taps import Taps
from labelwise.recipe.base import Context, Task
from labelwise.recipe.variants import parse_variants
from labelwise.transfer import find_backbone

BATCH = 32


def main() -> None:
    """Print what the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?")
    parser.add_argument("learn", nargs="?", type=int)
    parser.add_argument("recipe", nargs="?", default="finetune")
    parser.add_argument("--target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judged", type=int, default=2000)
    parser.add_argument("--steps", type=int, metavar="SIDE")
    options = parser.parse_args()
    keep_memory()
    if options.steps:
        print_steps(options.steps)
    else:
        print_epochs(options)


def print_epochs(options: argparse.Namespace) -> None:
    """Losses and accuracies of a fit, epoch by epoch."""
    data = load(options.data, target=options.target)
    part = data.table["split"].fillna("").to_numpy()[data.usable]
    rows = data.usable[(data.labels[data.usable] >= 0) & (part != "test")]
    groups = data.groups[rows]
    order = np.random.default_rng(options.seed).permutation(groups.max() + 1)
    rows = rows[np.argsort(order[groups], kind="stable")]
    judged = rows[options.learn : options.learn + options.judged]
    rows = rows[: options.learn]
    held = (data.images(judged), data.labels[judged])
    task = Task(data.images(rows), data.labels[rows], data.class_names, held)
    print(f"{data.name}: learns from {len(rows)} images, judged on {len(judged)}", flush=True)

    def show(record: Mapping[str, Any]) -> None:
        print(
            f"epoch {record['epoch']}: train loss {record['train_loss']:.3f}, held out "
            f"{record['validation_loss']:.4f}, {100 * record['validation_accuracy']:.2f} %, "
            f"{record['seconds']:.1f} s",
            flush=True,
        )

    recipe = parse_variants(options.recipe)[0].recipe
    fitted = recipe.fit(task, Context(seed=options.seed, observe=show))
    start = [record for record in fitted.history if record["phase"] == "head"][-1]
    print(
        f"head: {start['validation_loss']:.4f}, {100 * start['validation_accuracy']:.2f} %; kept "
        f"{fitted.chosen['kept']}; {fitted.seconds:.0f} s in all"
    )


def print_steps(side: int) -> None:
    """Milliseconds of one core, and kilobytes, of every cut."""
    torch.set_num_threads(1)
    body = find_backbone("efficientnet-lite0").body()
    assert isinstance(body, Taps)
    body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)
    print("block  front  folded   step  folded     KB")
    for first in range(blocks_of(body)):
        front = Front(body, first, (side, side))
        tail = Tail(body, front)
        with torch.no_grad():
            rows = front(images)
        lean = folded(front, images), folded(tail, rows)
        taken = [least(partial(frozen, part, images)) for part in (front, lean[0])]
        taken += [least(partial(learn, part, rows)) for part in (tail, lean[1])]
        numbers = [f"{value:7.1f}" for value in (*taken, front.length * 2 / 1024)]
        print(f"{first:5}{''.join(numbers)}", flush=True)


@torch.inference_mode()
def frozen(front: torch.nn.Module, images: torch.Tensor) -> None:
    """Forward."""
    front(images)


def learn(tail: torch.nn.Module, rows: torch.Tensor) -> None:
    """Forward and backward."""
    tail(rows)[1].mean().backward()


def least(work: Callable[[], None]) -> float:
    """Milliseconds of CPU time for an image of the batch."""
    work()
    taken = []
    for _ in range(4):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return 1000 * min(taken) / BATCH


if __name__ == "__main__":
    main()
