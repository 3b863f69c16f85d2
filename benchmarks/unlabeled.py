"""What unlabeled images are worth: recipes by number of labels, and which images to label.

    python benchmarks/unlabeled.py DATA [--recipes ...] [--labels 10,40,250] [--draws 5] [--pool N]
        [--held-out N] [--pixels] [--speed]

DATA has a test part. Labels are drawn from the training images, the others stay without one, all of
them or N; the test part judges once per fit and is in no graph. Prints mean accuracy and its
deviation over draws of the labels, drawn at random (as many of every class) and, below five per
class, by typicality: one image of every cluster of the embeddings, the one with the nearest
neighbors (Hacohen et al. 2022, arXiv:2202.02794), which needs no label to choose.

--pixels puts beside them what a logistic regression on plain pixels makes of the same labels, its
strength chosen as those of the recipes' heads: what a code has to beat.

With --held-out N the test part stays closed: N training images judge instead, whose duplicates
nothing learns from either. Settings are chosen on these.

--speed prints seconds and peak memory of every recipe for 10,000 labeled and unlabeled images
instead, each in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans

from labelwise.architecture import build
from labelwise.data.dataset import UNLABELED, Dataset
from labelwise.data.load import load
from labelwise.features import stored_pixels
from labelwise.model import Model
from labelwise.nn.coding import encoded
from labelwise.nn.graph import neighbors, spread_out
from labelwise.recipe.base import Context, Fitted, Recipe, Task
from labelwise.recipe.code_heads import logistic_head
from labelwise.recipe.inputs import own_input
from labelwise.recipe.probe import Probe
from labelwise.recipe.settle import settled_fit
from labelwise.recipe.variants import parse_variants
from labelwise.trials import peak_memory

Fit = Callable[[Task, Context], Fitted]
Space = tuple[np.ndarray, np.ndarray]

RECIPES = "probe, propagation, self-training"
TYPICAL_BELOW = 5  # labels per class: with more, random ones are as good
NEAREST = 20  # neighbors that an image is typical by
LARGEST_SIDE = 32  # of plain pixels
SPEED_IMAGES, SPEED_LABELS = 10_000, 250


def main() -> None:
    """Print the table of one data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--labels", default="10,40,250,1000,4000")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--pool", type=int)
    parser.add_argument("--pixels", action="store_true")
    parser.add_argument("--held-out", type=int)
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    if options.speed:
        speed(options.data, options.recipes)
        return
    data = load(options.data)
    train, test = _parts(data, options.held_out)
    train = np.sort(np.random.default_rng(0).permutation(train)[: options.pool])
    variants = parse_variants(options.recipes)
    recipes = {variant.name: partial(as_in_a_run, variant.recipe) for variant in variants}
    space = cache(lambda: _space(data, train))
    fits: dict[str, Fit] = {**({"pixels": on_pixels} if options.pixels else {}), **recipes}
    print("| labels | chosen | " + " | ".join(fits) + " |")
    print("|---" * (2 + len(fits)) + "|")
    for count in map(int, options.labels.split(",")):
        few = count < TYPICAL_BELOW * len(data.class_names)
        for how in ("random", "typical") if few else ("random",):
            typical = space() if how == "typical" else None
            draws = [_chosen(data, train, count, seed, typical) for seed in range(options.draws)]
            cells = [_cell(data, train, test, draws, fit) for fit in fits.values()]
            print(f"| {count} | {how} | " + " | ".join(cells) + " |", flush=True)


def speed(source: str, recipes: str) -> None:
    """Print seconds and peak memory of every recipe, embeddings in the store beforehand."""
    print("| recipe | seconds | peak memory, GB |\n|---|---|---|")
    for variant in parse_variants(recipes):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, memory = pool.apply(_timed, (source, variant.recipe))
        print(f"| {variant.name} | {seconds:.1f} | {memory / 1e9:.2f} |", flush=True)


def _timed(source: str, recipe: Recipe) -> tuple[float, int]:
    """Seconds of a fit, and the most memory of this process."""
    data = load(source)
    train = np.sort(np.random.default_rng(0).permutation(_parts(data)[0])[:SPEED_IMAGES])
    _embeddings(data, train)
    task = _task(data, train, _chosen(data, train, SPEED_LABELS, 0))
    started = time.perf_counter()
    recipe.fit(task, Context())
    return time.perf_counter() - started, peak_memory() or 0


def as_in_a_run(recipe: Recipe, task: Task, context: Context) -> Fitted:
    """A fit of all labels, what is decided on a validation part decided before."""
    return settled_fit(recipe, task, context)[1]


def on_pixels(task: Task, context: Context) -> Fitted:
    """A logistic regression on plain pixels, as a recipe would be fitted."""
    preprocessing = own_input(task.images, LARGEST_SIDE, None, None, "crop")
    plain = {"mean": [0.0] * preprocessing.shape[0], "std": [1.0] * preprocessing.shape[0]}
    architecture = {"kind": "layers", "layers": "relu", **plain}
    network = build(architecture, len(task.class_names), preprocessing.shape)
    pixels = stored_pixels(task.images.subset(task.labeled), preprocessing)
    network.head, chosen, history = logistic_head(encoded(network, pixels), task, context.seed)
    model = Model(network.eval(), architecture, preprocessing, task.class_names, {})
    return Fitted(model, history, chosen, 0.0)


def _parts(data: Dataset, held_out: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training images and of those that judge, no one a duplicate of another's.

    Args:
        held_out: so many training images judge, and not the test part.
    """
    part, usable = data.table["split"].fillna("").to_numpy(), data.usable
    test = usable[part[usable] == "test"]
    train = usable[(part[usable] != "test") & (data.labels[usable] >= 0)]
    train = train[~np.isin(data.groups[train], data.groups[test])]
    if held_out:
        test = np.random.default_rng(1).permutation(train)[:held_out]
        train = train[~np.isin(data.groups[train], data.groups[test])]
    return train, test


def _task(data: Dataset, train: np.ndarray, labeled: np.ndarray) -> Task:
    labels = np.where(np.isin(train, labeled), data.labels[train], UNLABELED)
    return Task(data.images(train), labels, data.class_names)


def _chosen(
    data: Dataset, train: np.ndarray, count: int, seed: int, typical: Space | None = None
) -> np.ndarray:
    """Rows that are labeled: typical ones of a space, or drawn at random."""
    if typical is not None:
        return train[_typical(typical, count, seed)]
    rng, classes = np.random.default_rng(seed), len(data.class_names)
    own = [rng.permutation(train[data.labels[train] == k]) for k in range(classes)]
    return np.concatenate([rows[: count // classes] for rows in own])


def _space(data: Dataset, train: np.ndarray) -> Space:
    """Points of the training images, and how near the nearest others are to each."""
    points = _embeddings(data, train)
    return points.numpy(), neighbors(points, NEAREST)[1].mean(1).numpy()


def _typical(space: Space, count: int, seed: int) -> np.ndarray:
    """Positions of the image with the nearest neighbors in every one of `count` clusters."""
    points, near = space
    means = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=4096)
    cluster = means.fit_predict(points)
    own = [np.flatnonzero(cluster == number) for number in np.unique(cluster)]
    return np.array([members[near[members].argmax()] for members in own])


def _embeddings(data: Dataset, rows: np.ndarray) -> torch.Tensor:
    """Points whose angles tell images apart."""
    images = data.images(rows)
    model = Probe().fit(Task(images, np.full(len(rows), UNLABELED), ()), Context()).model
    return spread_out(torch.from_numpy(model.embed(images)))


def _cell(
    data: Dataset,
    train: np.ndarray,
    test: np.ndarray,
    draws: Sequence[np.ndarray],
    fit: Fit,
) -> str:
    """Mean test accuracy and its deviation over draws, in percent."""
    found = []
    for seed, labeled in enumerate(draws):
        model = fit(_task(data, train, labeled), Context(seed=seed)).model
        answers = model.predict_proba(data.images(test)).argmax(1)
        found.append(100 * float((answers == data.labels[test]).mean()))
    return f"{np.mean(found):.1f} ± {np.std(found):.1f}"


if __name__ == "__main__":
    main()
