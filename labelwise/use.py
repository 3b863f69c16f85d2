"""evaluate and predict: what a saved model is used for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise.bundle import load as load_model
from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable, load
from labelwise.errors import DataError, UsageError
from labelwise.files import as_path
from labelwise.judging import Nearness, judge_embedding
from labelwise.measure import Evaluation, Interval, conformal, interval_json
from labelwise.measure import evaluate as measure
from labelwise.measure.novelty import USUAL, Novelty, detection
from labelwise.model import Model, energy
from labelwise.transfer import familiar, with_backbone


@dataclass(frozen=True)
class Judgement:
    """A saved model on labeled images.

    Attributes:
        data: what it was judged on.
        evaluation: every number with its interval.
        warnings: what to know about the numbers.
        unknown: how well images of unknown classes are told from these, if that was asked for.
    """

    data: Dataset
    evaluation: Evaluation
    warnings: tuple[str, ...]
    unknown: Detection | None = None

    def to_json(self) -> dict[str, Any]:
        """{"data", "warnings", "metrics", "per_class", "confusion", "n", "notes", "unknown"}"""
        return {
            "data": self.data.name,
            "warnings": list(self.warnings),
            **self.evaluation.to_json(),
            "unknown": self.unknown and self.unknown.to_json(),
        }


@dataclass(frozen=True)
class Detection:
    """How a model tells images that are of none of its classes from those that are.

    Attributes:
        data: the images of no class of the model.
        count: how many they are.
        metrics: auroc and fpr@95, see `detection`.
        answered: share of images that the model calls unknown, by what they are: known, unknown;
            None where it was judged on too few images to call any so.
    """

    data: Dataset
    count: int
    metrics: Mapping[str, Interval]
    answered: Mapping[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """{"data", "n", "metrics", "answered"}"""
        metrics = {name: interval_json(value) for name, value in self.metrics.items()}
        answered = self.answered and dict(self.answered)
        return {"data": self.data.name, "n": self.count, "metrics": metrics, "answered": answered}


@dataclass(frozen=True)
class EmbeddingJudgement:
    """A model's embedding on labeled images.

    Attributes:
        data: what it was judged on.
        rows: the embedding and its floors, by classes.
        warnings: what to know about the numbers.
    """

    data: Dataset
    rows: tuple[Nearness, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """{"data", "warnings", "embedding"}"""
        rows = [row.to_json() for row in self.rows]
        return {"data": self.data.name, "warnings": list(self.warnings), "embedding": rows}


def evaluate(
    model: Model | str | Path,
    data: Loadable,
    *,
    target: str | None = None,
    split: str | None = None,
    unknown: Loadable | None = None,
) -> Judgement:
    """Judge a model on labeled images, by the names of their classes.

    Args:
        model: a Model, or the folder of one or of a run.
        data: what `load` takes.
        split: judge only images of this given part ("train", "val", "test"); None for all.
        unknown: data with images of other classes, which the model should not answer for. Its
            images of classes that the model knows are left out, as are those of other classes in
            `data`, so that both may be the same.

    Raises:
        DataError: no labeled image, or of a class that the model does not know.
        UsageError: the model does not know what is unlike the images it has learned from.
    """
    place = None if isinstance(model, Model) else as_path(model, "model")
    model = with_backbone(opened(model))
    model.require_head()
    if unknown is not None:
        _novelty(model)
    dataset = load(data, target=target)
    rows = labeled_rows(dataset, split)
    if unknown is not None and (known := _is_known(model, dataset, rows)).any():
        rows = rows[known]
    labels = labels_for(model, dataset, rows)
    logits, distances = model.answers(dataset.images(rows))
    evaluation = measure(
        labels,
        model.probabilities(logits),
        class_names=model.class_names,
        groups=dataset.groups[rows],
        images=rows,
    )
    warnings = warnings_of(place, model, dataset, rows)
    found = None
    if unknown is not None:
        scores = _novelty(model).scores(energy(logits), distances)
        others = dataset if _same(unknown, data) else _of_other_classes(unknown, target)
        found = _detected(model, scores, others, split)
    return Judgement(dataset, evaluation, warnings, found)


def _of_other_classes(data: Loadable, target: str | None) -> Dataset:
    """`target` is that of the known classes, which these data need not have."""
    try:
        return load(data, target=target)
    except DataError:
        return load(data)


def _same(one: Loadable, other: Loadable) -> bool:
    """Whether both are the same data, or name the same file or folder."""
    if isinstance(one, str | Path) and isinstance(other, str | Path):
        return str(one) == str(other)
    return one is other


def warnings_of(
    place: Path | None, model: Model, dataset: Dataset, rows: np.ndarray
) -> tuple[str, ...]:
    """What to know about numbers of some rows."""
    learned = familiar(place, model.facts, dataset, rows)
    if not learned:
        return dataset.warnings
    return (
        *dataset.warnings,
        f"The model {learned}. The numbers are better than they will be on new ones; those of "
        "its own report are honest.",
    )


def labeled_rows(dataset: Dataset, split: str | None) -> np.ndarray:
    """Rows with a label, of a given part if one is named."""
    rows = dataset.in_part(dataset.labeled, split)
    if not len(rows):
        where = f" in the part '{split}'" if split else ""
        raise DataError(f"{dataset.name}: there is no labeled image{where} to evaluate on.")
    return rows


def _novelty(model: Model) -> Novelty:
    if model.novelty is None:
        raise UsageError(
            "This model does not know what is unlike the images it has learned from: it was not "
            "judged on held-out images. Train it with `labelwise train` or `labelwise compare`."
        )
    return model.novelty


def _detected(model: Model, known: np.ndarray, dataset: Dataset, split: str | None) -> Detection:
    """How images of other classes than the model's differ from known ones, whose scores these are.

    Args:
        split: of the unknown images, where they are of the same data.
    """
    novelty = _novelty(model)
    rows = dataset.usable
    rows = rows[~_is_known(model, dataset, rows)]
    part = dataset.in_part(rows, split)
    rows = part if len(part) else rows
    if not len(rows):
        raise DataError(
            f"{dataset.name}: every image is of a class that the model knows, so that there is "
            "nothing unknown. Give data with other classes to --unknown."
        )
    logits, distances = model.answers(dataset.images(rows))
    scores = novelty.scores(energy(logits), distances)
    answered = None
    if str(USUAL) in novelty.thresholds:
        above = {"known": known, "unknown": scores}
        threshold = novelty.threshold(USUAL)
        answered = {name: float((values > threshold).mean()) for name, values in above.items()}
    return Detection(dataset, len(rows), detection(known, scores), answered)


def _is_known(model: Model, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Whether rows have a label that the model knows; bool (N,)."""
    known = [name in model.class_names for name in dataset.class_names]
    return np.array([*known, False])[dataset.labels[rows]]  # the last for UNLABELED = -1


def judge(
    model: Model | str | Path,
    data: Loadable,
    *,
    target: str | None = None,
    split: str | None = None,
) -> EmbeddingJudgement:
    """Judge a model's embedding on labeled images, whose classes need not be those of the model.

    Args:
        model, data, target, split: as in `evaluate`.

    Raises:
        DataError: no labeled image.
    """
    place = None if isinstance(model, Model) else as_path(model, "model")
    model = with_backbone(opened(model))
    dataset = load(data, target=target)
    rows = labeled_rows(dataset, split)
    images, labels = dataset.images(rows), dataset.labels[rows]
    found = judge_embedding(model, images, labels, dataset.class_names)
    return EmbeddingJudgement(dataset, tuple(found), warnings_of(place, model, dataset, rows))


def predict(
    model: Model | str | Path,
    paths: Iterable[str | Path] | str | Path,
    *,
    unknown: float | None = None,
    coverage: float | None = None,
    sets: str = conformal.USUAL,
    max_error: float | None = None,
) -> pd.DataFrame:
    """Answers for image files and for all images in folders; see `Model.predict`."""
    return opened(model).predict(
        paths, unknown=unknown, coverage=coverage, sets=sets, max_error=max_error
    )


def opened(model: Model | str | Path) -> Model:
    """A model as it is, or read from the folder of one or of a run."""
    return model if isinstance(model, Model) else load_model(as_path(model, "model"))


def labels_for(model: Model, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
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
