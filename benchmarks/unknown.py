"""How well images of classes that a model has never seen are told from those it knows.

    python benchmarks/unknown.py DATA/cifar10 --recipe 'probe(image_size=224)' \
        --far DATA/mnist.npz --far DATA/cifar100_mammals

Leaves three classes out of the training part, as many times as --draws, fits the recipe to four
fifths of the rest and lets the last fifth set the scales and thresholds, as a run's folds do. Then
compares images of the test part: the classes that are known with those left out (near), and with
the test parts of other data sets (far), by AUROC and by the false-positive rate at 95 %; by energy,
by the distance to the fifth neighbor, and by both together, which is what a model uses. With
--held-out N the test part stays closed: N training images judge instead, from which nothing is
learned; choices are made there.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from statistics import mean, stdev

import numpy as np

from labelwise.data.dataset import Dataset, Images
from labelwise.data.load import load
from labelwise.machine import keep_memory
from labelwise.measure.novelty import Novelty, detection
from labelwise.model import Model, energy
from labelwise.novelty import remembered, with_bank
from labelwise.recipe.base import Context, Recipe, Task
from labelwise.recipe.variants import parse_variants


def main() -> None:
    """Print a line per kind of unknown images and score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--recipe", default="probe")
    parser.add_argument("--far", action="append", default=[])
    parser.add_argument("--left-out", type=int, default=3)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--labels", type=int, help="per class; all without")
    parser.add_argument("--most", type=int, default=2000, help="images of another data set")
    options = parser.parse_args()
    keep_memory()
    recipe = parse_variants(options.recipe)[0].recipe
    data = load(options.data)
    far = {name: _far(name, options.most) for name in options.far}
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for draw in range(options.draws):
        rng = np.random.default_rng(draw)
        out = rng.permutation(len(data.class_names))[: options.left_out]
        known = np.setdiff1d(np.arange(len(data.class_names)), out)
        rows, test = _rows(data, "train"), _rows(data, "test")
        if options.held_out:
            rows = np.random.default_rng(options.draws).permutation(rows)
            test, rows = rows[: options.held_out], rows[options.held_out :]
        model, novelty = _fit(recipe, data, rows, known, options.labels, rng)
        inside = np.isin(data.labels[test], known)
        scores = _scores(model, novelty, data.images(test[inside]))
        others = {"near": data.images(test[~inside]), **far}
        for name, images in others.items():
            for score, values in _scores(model, novelty, images).items():
                judged = detection(scores[score], values, resamples=2)
                found[name, score].append((judged["auroc"].value, judged["fpr@95"].value))
    print("| unknown | by | AUROC | false positives at 95 % |\n|---|---|---|---|")
    for (name, score), values in found.items():
        cells = (_spread([value[place] for value in values]) for place in (0, 1))
        print(f"| {name} | {score} | {' | '.join(cells)} |", flush=True)


def _fit(
    recipe: Recipe,
    data: Dataset,
    rows: np.ndarray,
    known: np.ndarray,
    per_class: int | None,
    rng: np.random.Generator,
) -> tuple[Model, Novelty]:
    """A model of some classes, and what held-out images of them say."""
    rows = rng.permutation(rows)
    rows = rows[np.isin(data.labels[rows], known)]
    if per_class is not None:
        places = [np.flatnonzero(data.labels[rows] == k)[: per_class * 5 // 4] for k in known]
        rows = rows[np.sort(np.concatenate(places))]
    held, learn = np.sort(rows[: len(rows) // 5]), np.sort(rows[len(rows) // 5 :])
    names = tuple(data.class_names[k] for k in known)
    labels = np.searchsorted(known, data.labels[learn])
    model = recipe.fit(Task(data.images(learn), labels, names), Context()).model
    kept = learn[remembered(model, data.labels[learn])]
    model = with_bank(model, model.embed(data.images(kept)))
    logits, distances = model.answers(data.images(held))
    return model, Novelty.of(energy(logits), distances)


def _scores(model: Model, novelty: Novelty, images: Images) -> dict[str, np.ndarray]:
    logits, distances = model.answers(images)
    both = novelty.scores(energy(logits), distances)
    return {"energy": energy(logits), "distance": distances, "both": both}


def _rows(data: Dataset, part: str) -> np.ndarray:
    """Labeled rows of a part of the data."""
    labeled = data.labeled
    return labeled[data.table["split"].fillna("train").to_numpy()[labeled] == part]


def _far(name: str, most: int) -> Images:
    """Some images of another data set, of its test part if it has one."""
    data = load(name, target="coarse_label" if "mammals" in name else None)
    rows = data.usable
    test = rows[data.table["split"].fillna("").to_numpy()[rows] == "test"]
    rows = test if len(test) else rows
    return data.images(np.sort(np.random.default_rng(0).permutation(rows)[:most]))


def _spread(values: list[float]) -> str:
    around = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{around}"


if __name__ == "__main__":
    main()
