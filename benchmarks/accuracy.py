"""How accurate recipes get in how many seconds, by seed; the test part is opened once for each.

    python benchmarks/accuracy.py DATA 'cnn(preset=fast, epochs=8)' --seeds 3
    python benchmarks/accuracy.py DATA 'cnn(preset=fast, epochs=8)' --seeds 1 --held-out 5000

Fits a recipe to all labeled images of the training part, as the final fit of a run does, but for
those that are duplicates of a judged one, and judges it on the test part. With --held-out N
the test part stays closed: N images of the training part are kept from learning and judge instead;
choices are made on these; --learn N learns from N images only. For recipes with epochs images are
decoded before, and seconds are those of the fit, from pixels in memory to a model; others embed
images that are not in the store with the first seed. Prints a line per seed and, after each recipe,
mean, spread and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import fields, replace
from statistics import mean, stdev

import numpy as np
import torch

from labelwise.data.dataset import Images
from labelwise.data.load import load
from labelwise.machine import keep_memory
from labelwise.recipe.base import Context, Recipe, Task
from labelwise.recipe.variants import parse_variants


def main() -> None:
    """Print accuracy and seconds of every recipe and seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--target")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--learn", type=int)
    options = parser.parse_args()
    keep_memory()
    recipes = [parse_variants(text)[0].recipe for text in options.recipes]
    data = load(options.data, target=options.target)
    part = data.table["split"].fillna("").to_numpy()
    labeled = data.labeled
    learn, judge = labeled[part[labeled] != "test"], labeled[part[labeled] == "test"]
    if options.held_out:
        order = np.random.default_rng(0).permutation(learn)
        learn, judge = np.sort(order[options.held_out :]), order[: options.held_out]
    learn = learn[~np.isin(data.groups[learn], data.groups[judge])]  # no copy of a judged image
    learn = np.sort(np.random.default_rng(1).permutation(learn)[: options.learn])
    print(f"{data.name}: learns from {len(learn)} images, judged on {len(judge)}", flush=True)
    task = Task(data.images(learn), data.labels[learn], data.class_names)
    if {"epochs", "share"} <= {field.name for field in fields(recipes[0])}:
        replace(recipes[0], epochs=1, share=1e-3).fit(task, Context())  # decodes the images
    for recipe in recipes:
        _measure(recipe, task, data.images(judge), data.labels[judge], options.seeds)


def _measure(recipe: Recipe, task: Task, images: Images, labels: np.ndarray, seeds: int) -> None:
    """Print accuracy and seconds of every seed of a recipe, their mean and spread."""
    rows = []
    for seed in range(seeds):
        fitted = recipe.fit(task, Context(seed=seed))
        right = fitted.model.logits(images).argmax(1) == labels
        rows.append((float(right.mean()), fitted.seconds))
        print(f"seed {seed}: {100 * rows[-1][0]:.2f} % in {rows[-1][1]:.1f} s", flush=True)
    accuracies, seconds = zip(*rows, strict=True)
    spread = f" ± {100 * stdev(accuracies):.2f}" if len(rows) > 1 else ""
    print(
        f"{100 * mean(accuracies):.2f}{spread} % in {mean(seconds):.1f} s (most {max(seconds):.1f})"
    )
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    print(json.dumps({"recipe": recipe.configuration, "cores": os.cpu_count(), **versions}))


if __name__ == "__main__":
    main()
