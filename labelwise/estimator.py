"""ImageClassifier: scikit-learn's contract around any recipe."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from labelwise.data.blocks import Block, as_block
from labelwise.data.dataset import SET_ASIDE, UNLABELED, Dataset
from labelwise.data.memory import labeled_dataset, nameless_dataset
from labelwise.errors import DataError, OptionError
from labelwise.machine import torch_device
from labelwise.plain import counted
from labelwise.recipe.base import Context, Recipe, Task
from labelwise.recipe.settle import settled_fit
from labelwise.recipe.variants import parse_variants


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A recipe as a scikit-learn classifier.

    It learns and answers; it does not judge. For numbers with intervals use `labelwise.compare`, or
    scikit-learn's own `cross_val_score`, which knows nothing of duplicates.

    Args:
        recipe: a Recipe, or its text, such as "cnn(epochs=5)".
        device: torch device, or "auto".
        random_state: of everything random; None, an int or a RandomState.

    Attributes:
        classes_: the classes, sorted; (K,).
        model_: the Model. Keep it with `labelwise.save_model`; a pickle of the estimator works but
            runs code when it is loaded.
        history_: a record per epoch, or per value tried.
        recipe_: the Recipe of the last fit, with what was decided on a validation part.

    >>> from sklearn.datasets import load_digits
    >>> digits = load_digits()
    >>> classifier = ImageClassifier("mlp(epochs=5)").fit(digits.images / 16, digits.target)
    >>> classifier.predict(digits.images[:3] / 16)
    array([0, 1, 2])
    """

    def __init__(
        self,
        recipe: str | Recipe = "probe",
        *,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learn.

        Args:
            X: images: an array (N, H, W) or (N, H, W, C) with C = 1 or 3, of uint8, whole numbers
                0..255 or floating point 0..1; or N paths. Files that cannot be used are left out
                with a warning.
            y: N classes, numbers or text; -1 is an image without a label.

        Raises:
            DataError: images or labels cannot be used (a ValueError).
            OptionError: the recipe cannot be read (a ValueError).
        """
        images = self._read(X, fitting=True)
        given, labeled = _labels(y, len(images))
        self.classes_, index = np.unique(given[labeled], return_inverse=True)
        if len(self.classes_) < 2:
            found = counted(len(self.classes_), "class", "classes")
            raise DataError(
                f"y holds {found}: at least two classes are needed to learn to tell them apart."
            )
        numbers = np.full(len(images), UNLABELED)
        numbers[labeled] = index
        names = tuple(str(number) for number in range(len(self.classes_)))
        dataset = labeled_dataset(images, [None if k < 0 else names[k] for k in numbers], names)
        _warn_of_set_aside(dataset)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows = dataset.usable
        task = Task(dataset.images(rows), dataset.labels[rows], dataset.class_names)
        context = Context(seed, torch_device(self.device))
        self.recipe_, fitted = settled_fit(self._recipe(), task, context)
        self.model_, self.history_ = fitted.model, fitted.history
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes in `classes_`; float64 (N, K), rows sum to 1.

        Raises:
            DataError: an image cannot be used; every one needs an answer.
        """
        check_is_fitted(self)
        dataset = nameless_dataset(self._read(X, fitting=False))
        table = dataset.table
        aside = table[table["decision"] == SET_ASIDE]
        if len(aside):
            raise DataError(
                f"{len(aside)} of {len(table)} images cannot be used; the first is "
                f"{aside['path'].iloc[0]!r}: {aside['reason'].iloc[0]}. Leave them out."
            )
        return self.model_.predict_proba(dataset.images(dataset.usable))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of every image; (N,), of the type that y had."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def _recipe(self) -> Recipe:
        if isinstance(self.recipe, Recipe):
            return self.recipe
        if not isinstance(self.recipe, str):
            raise OptionError(f"recipe={self.recipe!r}: expected a Recipe, or its text.")
        variants = parse_variants(self.recipe, option="recipe")
        if len(variants) > 1:
            raise DataError(f"recipe={self.recipe!r} names {len(variants)} recipes. Give one.")
        return variants[0].recipe

    def _read(self, X: Any, *, fitting: bool) -> Block | list[str]:
        """Paths as they are, anything else as a block of images."""
        if _are_paths(X):
            return [str(path) for path in X]
        try:
            values = np.asarray(X)
        except ValueError:
            raise DataError(
                "X holds images of different sizes. Give their paths, or bring them to one size."
            ) from None
        if not len(values.shape) or not len(values):
            raise DataError(f"X has the shape {values.shape}: it holds no image.")
        if values.dtype.kind == "f":
            values = self._in_fitted_range(values, fitting)
        return as_block(values, "X", [])

    def _in_fitted_range(self, values: np.ndarray, fitting: bool) -> np.ndarray:
        """Floating point pixels, read as those that were learned from: 0..1 or 0..255.

        A batch by itself does not tell: an image of zeros and ones may be either.
        """
        unit = bool(values.min(initial=0) >= 0 and values.max(initial=0) <= 1)
        if fitting:
            self.unit_range_ = unit
        learned_unit = getattr(self, "unit_range_", unit)
        if learned_unit and not unit:
            raise DataError(
                f"X holds values from {values.min():g} to {values.max():g}, but fit was given "
                "values from 0 to 1. Scale the images as they were then."
            )
        whole = not learned_unit and unit and bool((values % 1 == 0).all())
        return values.astype(np.uint8) if whole else values


def _are_paths(X: Any) -> bool:
    if isinstance(X, np.ndarray):
        return X.dtype.kind in "UO" and X.ndim == 1 and _are_paths(X.tolist())
    return isinstance(X, Sequence) and len(X) > 0 and all(isinstance(x, str | Path) for x in X)


def _labels(y: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels as given, and where there is one; (N,) both."""
    if y is None:
        raise DataError(
            "A classifier requires y to be passed, but the target y is None. Give a label per "
            "image, -1 where there is none."
        )
    given = np.asarray(column_or_1d(y, warn=True))
    check_consistent_length(np.empty(count), given)
    if given.dtype.kind == "f":
        assert_all_finite(given, input_name="y")
    nothing = (UNLABELED, str(UNLABELED))
    if given.dtype.kind == "O" and any(isinstance(value, str) for value in given):
        # Text with the number -1 among it.
        given = np.array([str(UNLABELED) if value in nothing else value for value in given])
    check_classification_targets(given)
    unlabeled = given == (str(UNLABELED) if given.dtype.kind == "U" else UNLABELED)
    return given, ~np.asarray(unlabeled, dtype=bool)


def _warn_of_set_aside(dataset: Dataset) -> None:
    aside = dataset.table[dataset.table["decision"] == SET_ASIDE]
    if len(aside):
        warnings.warn(
            f"{len(aside)} of {len(dataset.table)} images cannot be used and were left out; the "
            f"first is {aside['path'].iloc[0]!r}: {aside['reason'].iloc[0]}.",
            UserWarning,
            stacklevel=3,
        )
