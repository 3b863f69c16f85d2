"""evaluate and predict: what a saved model is used for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise.bundle import load as load_model
from labelwise.data.dataset import UNLABELED, Dataset
from labelwise.data.load import Loadable, load
from labelwise.errors import DataError
from labelwise.files import as_path
from labelwise.measure import Evaluation
from labelwise.measure import evaluate as measure
from labelwise.model import Model
from labelwise.transfer import familiar, with_backbone


@dataclass(frozen=True)
class Judgement:
    """A saved model on labeled images.

    Attributes:
        data: what it was judged on.
        evaluation: every number with its interval.
        warnings: what to know about the numbers.
    """

    data: Dataset
    evaluation: Evaluation
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """{"data", "warnings", "metrics", "per_class", "confusion", "n", "notes"}"""
        return {
            "data": self.data.name,
            "warnings": list(self.warnings),
            **self.evaluation.to_json(),
        }


def evaluate(
    model: Model | str | Path,
    data: Loadable,
    *,
    target: str | None = None,
    split: str | None = None,
) -> Judgement:
    """Judge a model on labeled images, by the names of their classes.

    Args:
        model: a Model, or the folder of one or of a run.
        data: what `load` takes.
        split: judge only images of this given part ("train", "val", "test"); None for all.

    Raises:
        DataError: no labeled image, or of a class that the model does not know.
    """
    place = None if isinstance(model, Model) else as_path(model, "model")
    model = with_backbone(_opened(model))
    model.require_head()
    dataset = load(data, target=target)
    rows = dataset.usable[dataset.labels[dataset.usable] != UNLABELED]
    if split is not None:
        rows = rows[(dataset.table["split"].fillna("").to_numpy() == split)[rows]]
    if not len(rows):
        where = f" in the part '{split}'" if split else ""
        raise DataError(f"{dataset.name}: there is no labeled image{where} to evaluate on.")
    labels = _labels_for(model, dataset, rows)
    proba = model.predict_proba(dataset.images(rows))
    evaluation = measure(
        labels,
        proba,
        class_names=model.class_names,
        groups=dataset.groups[rows],
        images=rows,
    )
    warnings = list(dataset.warnings)
    if learned := familiar(place, model.facts, dataset, rows):
        warnings.append(
            f"The model {learned}. The numbers are better than they will be on new ones; those of "
            "its own report are honest."
        )
    return Judgement(dataset, evaluation, tuple(warnings))


def predict(model: Model | str | Path, paths: Iterable[str | Path] | str | Path) -> pd.DataFrame:
    """Answers for image files and for all images in folders; see `Model.predict`."""
    return _opened(model).predict(paths)


def _opened(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else load_model(as_path(model, "model"))


def _labels_for(model: Model, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Labels of rows as the model numbers its classes."""
    place = {name: index for index, name in enumerate(model.class_names)}
    used = sorted({dataset.class_names[label] for label in dataset.labels[rows]})
    unknown = [name for name in used if name not in place]
    if unknown:
        raise DataError(
            f"{dataset.name}: the model does not know {len(unknown)} of the {len(used)} classes, "
            f"for example {unknown[0]!r}; it knows {', '.join(map(repr, model.class_names[:10]))}. "
            "Give data with the same class names, or choose the label column with --target."
        )
    numbers = np.array([place.get(name, -1) for name in dataset.class_names])
    return numbers[dataset.labels[rows]]
