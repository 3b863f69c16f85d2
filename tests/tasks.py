"""Small tasks that can be learned in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from labelwise.data.dataset import UNLABELED, Dataset
from labelwise.data.load import load
from labelwise.recipe.base import Task


def gratings(per_class: int, seed: int = 0, side: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Noisy stripes of three directions: uint8 (3 * per_class, side, side), int64 labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images, labels = [], []
    for label, (a, b) in enumerate(((1, 0), (0, 1), (1, 1))):
        for _ in range(per_class):
            wave = np.sin((a * x + b * y) * rng.uniform(1.2, 1.6) + rng.uniform(0, 6))
            noisy = 128 + 60 * wave + rng.normal(0, 20, wave.shape)
            images.append(noisy.clip(0, 255).astype(np.uint8))
            labels.append(label)
    return np.stack(images), np.array(labels)


def gratings_file(path: Path, per_class: int = 20, unlabeled: int = 0, test: int = 0) -> Path:
    """The same as an .npz, some images without a label, some as a test part."""
    images, labels = gratings(per_class)
    labels = labels.copy()
    labels[np.random.default_rng(1).permutation(len(labels))[:unlabeled]] = UNLABELED
    arrays = {"x_train": images, "y_train": labels}
    if test:
        arrays["x_test"], arrays["y_test"] = gratings(test, seed=9)
    np.savez(path, class_names=np.array(["across", "down", "slanted"]), **arrays)
    return path


def gratings_folder(folder: Path, per_class: int) -> Path:
    """The same as PNG files, one folder per class."""
    for number, (pixels, label) in enumerate(zip(*gratings(per_class), strict=True)):
        (folder / "abc"[label]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "abc"[label] / f"{number:03}.png")
    return folder


def task_from(dataset: Dataset) -> Task:
    """All of a data set as a task without validation."""
    rows = dataset.usable
    return Task(dataset.images(rows), dataset.labels[rows], dataset.class_names)


def grating_data(folder: Path, **options: int) -> Dataset:
    """The gratings as a Dataset."""
    return load(gratings_file(folder / "gratings.npz", **options))
