"""The Evaluation of predictions: every number with its interval and the images it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelwise.errors import DataError
from labelwise.measure.intervals import (
    Interval,
    calibration_limits,
    check_level,
    check_resamples,
    effective_n,
    interval_of,
    resample,
    undefined,
    wilson,
)
from labelwise.measure.metrics import (
    BINS,
    BY_CLASS,
    METRICS,
    MICRO,
    RANKED,
    class_values,
    metric_names,
    sample_values,
)
from labelwise.measure.scoring import Floats, Ints, Scorer

FEW = 30  # below so many images a number says little, and the notes say so

#: Fractions of the images that are right in some sense: these are binomial, and get Wilson's
#: interval. Micro F1 and weighted recall equal the accuracy.
BINOMIAL = ("accuracy", "top_3", "top_5", "weighted_recall", "micro_f1")


@dataclass(frozen=True)
class ClassResult:
    """How one class came out.

    `n` and `predicted` count distinct images labeled, and predicted, as the class; with repeats
    `predicted` is the mean over them, rounded. The areas are those of the class against the rest.
    The four counts are over rows.
    """

    name: str
    n: int
    predicted: int
    precision: Interval
    recall: Interval
    f1: Interval
    specificity: Interval
    fall_out: Interval
    auroc: Interval
    average_precision: Interval
    tp: int
    fp: int
    tn: int
    fn: int


@dataclass(frozen=True)
class Evaluation:
    """How good predictions are, with what is needed to believe it.

    Attributes:
        metrics: name (a key of METRICS) to Interval; a top-k only with more than k classes.
        per_class: one result per class, in the order of the class names.
        confusion: rows are labels, columns predictions; int64 (K, K), counts over rows.
        n: distinct images.
        notes: sentences on what limits the numbers.
    """

    metrics: dict[str, Interval]
    per_class: list[ClassResult]
    confusion: Ints
    n: int
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The same as plain dicts, lists, strings and numbers; what is undefined is None."""
        return {
            "metrics": {name: interval_json(value) for name, value in self.metrics.items()},
            "per_class": [_class_json(result) for result in self.per_class],
            "confusion": self.confusion.tolist(),
            "n": self.n,
            "notes": list(self.notes),
        }


def interval_json(interval: Interval) -> dict[str, float | int | None]:
    """{value, low, high, n}, with None for what is undefined."""

    def number(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    return {
        "value": number(interval.value),
        "low": number(interval.low),
        "high": number(interval.high),
        "n": int(interval.n),
    }


def _class_json(result: ClassResult) -> dict[str, Any]:
    values = {name: getattr(result, name) for name in ClassResult.__dataclass_fields__}
    return {
        name: interval_json(value) if isinstance(value, Interval) else value
        for name, value in values.items()
    }


@dataclass(frozen=True)
class Rows:
    """Which image and which group each row is about, as numbers 0, 1, ..."""

    image: npt.NDArray[np.intp]  # (N,)
    group: npt.NDArray[np.intp]  # (N,)
    n: int  # distinct images

    def fraction(
        self,
        hits: npt.NDArray[np.bool_],
        use: npt.NDArray[np.bool_],
        n: int,
        level: float,
    ) -> Interval:
        """Wilson's interval of the fraction of hits among the rows in use, on n distinct images.

        Groups of several images count for less than their number: see `effective_n`.
        """
        if n == 0 or not use.any():
            return undefined(n, "wilson")
        used, first, image = np.unique(self.image[use], return_index=True, return_inverse=True)
        mean = np.bincount(image, hits[use]) / np.bincount(image)  # over the rows of an image
        effective = effective_n(mean, self.group[use][first]) / len(used) * n
        return wilson(hits[use].mean() * n, n, level, effective=effective)


def rows_of(
    count: int, images: npt.ArrayLike | None, groups: npt.ArrayLike | None, labels: Ints
) -> Rows:
    """Number images and groups; DataError if they do not fit together.

    An image without a group is one of its own; an image with two labels, or in two groups, is a
    mistake in the call.
    """

    def numbered(values: npt.ArrayLike, word: str) -> npt.NDArray[np.intp]:
        array = np.asarray(values)
        if array.shape != (count,):
            raise DataError(f"{word} have shape {array.shape}; expected ({count},), one per row.")
        codes = pd.factorize(array)[0]
        if (codes < 0).any():
            raise DataError(f"{word} of {int((codes < 0).sum())} rows are missing; name them all.")
        return np.asarray(codes, dtype=np.intp)

    image = np.arange(count) if images is None else numbered(images, "images")
    group = image if groups is None else numbered(groups, "groups")
    n = int(image.max()) + 1
    for values, word in ((labels, "labels"), (group, "groups")):
        representative = np.empty(n, dtype=np.int64)
        representative[image] = values
        differs = np.flatnonzero(representative[image] != values)
        if len(differs):
            row = int(differs[0])
            named = row if images is None else np.asarray(images)[row]
            raise DataError(
                f"image {named} has rows with different {word}, the first of them row {row}; "
                f"expected the same in all rows of an image. Check `images` and `{word}`."
            )
    return Rows(image, group, n)


def rank_resamples(rows: int, classes: int, resamples: int) -> int:
    """Resamples for AUROC and average precision, which sort once per class.

    All of them while resamples * rows * classes stays within 2 * 10^9 (half a minute); beyond
    that as many as fit, but not below 200. `evaluate` takes half of that for micro averages.
    """
    return min(resamples, max(200, 2_000_000_000 // max(rows * classes, 1)))


def evaluate(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    *,
    class_names: Sequence[str] | None = None,
    groups: npt.ArrayLike | None = None,
    images: npt.ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Evaluation:
    """Every metric of some predictions, with its interval.

    With repeats an image has a row for each model that judged it. The numbers are then means over
    rows, the performance to expect of a single model (not of an ensemble), while n counts distinct
    images and a bootstrap resample holds all rows of an image or none.

    Args:
        labels: int (N,), 0..K-1.
        proba: float (N, K), rows sum to 1.
        class_names: K names; by default "0", "1", ...
        groups: (N,) what belongs together, such as duplicates; by default every image alone.
        images: (N,) which image each row is about; by default every row another.
        seed: of the bootstrap.
        resamples: of the bootstrap (see `rank_resamples` for AUROC on large data).
        level: coverage of the intervals.

    Raises:
        DataError: labels, proba, images, groups or class names cannot be used.
        OptionError: level or resamples cannot be used.

    >>> evaluation = evaluate([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    >>> evaluation.metrics["accuracy"].value, evaluation.notes[0]
    (0.75, 'too few images: 4 (below 30)')
    """
    check_level(level)
    check_resamples(resamples)
    scorer = Scorer(labels, proba)
    k = scorer.classes
    names = [str(c) for c in range(k)] if class_names is None else [str(c) for c in class_names]
    if len(names) != k:
        raise DataError(f"{len(names)} class names for {k} classes; give one for each, in order.")
    rows = rows_of(scorer.rows, images, groups, scorer.labels)
    everything = np.ones(scorer.rows, dtype=bool)
    correct = {
        "top_3": scorer.place < 3,
        "top_5": scorer.place < 5,
    }
    metrics: dict[str, Interval] = {
        name: rows.fraction(correct.get(name, scorer.correct), everything, rows.n, level)
        for name in metric_names(k)
        if name in BINOMIAL
    }
    rest = [name for name in metric_names(k) if name not in BINOMIAL and name not in RANKED]
    bootstrap = partial(
        bootstrap_intervals, scorer, groups=rows.group, level=level, seed=seed, n=rows.n
    )
    found = bootstrap(names=rest, per_class=("f1",), resamples=resamples)
    ranked = rank_resamples(scorer.rows, k, resamples)
    found |= bootstrap(names=BY_CLASS, per_class=BY_CLASS, resamples=ranked)
    # The micro averages take as long as all classes together.
    found |= bootstrap(names=MICRO, resamples=max(ranked // 2, 2))
    metrics |= {name: found[name] for name in metric_names(k) if name not in BINOMIAL}
    metrics = {name: metrics[name] for name in metric_names(k)}

    confusion = np.zeros((k, k), dtype=np.int64)
    np.add.at(confusion, (scorer.labels, scorer.predicted), 1)
    per_class = [
        _class_result(c, names[c], scorer, rows, confusion, found, level) for c in range(k)
    ]
    notes = _notes(rows, per_class, metrics)
    return Evaluation(metrics, per_class, confusion, rows.n, notes)


def bootstrap_intervals(
    scorer: Scorer,
    names: Sequence[str],
    groups: npt.ArrayLike,
    *,
    resamples: int,
    level: float,
    seed: int,
    n: int,
    per_class: Sequence[str] = (),
) -> dict[Any, Interval]:
    """Intervals of some metrics, and of some numbers of each class under (name, class)."""

    def statistic(weights: Floats) -> dict[Any, Floats]:
        sample = scorer.sample(weights)
        out: dict[Any, Floats] = dict(sample_values(sample, names))
        out |= class_values(sample, per_class)
        if "ece" in names:
            gaps = sample.gaps(BINS)
            out |= {("gap", b): gaps[:, b] for b in range(BINS)}
        return out

    found = resample(statistic, groups, resamples=resamples, seed=seed)
    intervals: dict[Any, Interval] = {
        name: interval_of(
            found, name, level=level, bounds=(METRICS[name].low, METRICS[name].high), n=n
        )
        for name in names
    }
    intervals |= {
        (name, c): interval_of(found, (name, c), level=level, bounds=(0.0, 1.0), n=n, groups=known)
        for c, known in enumerate(_groups_told_apart(scorer, groups) if per_class else [])
        for name in per_class
    }
    if "ece" in names and intervals["ece"].method == "bca":
        keys: list[Any] = [("gap", b) for b in range(BINS)]
        limits = calibration_limits(
            found.point["ece"],
            found.values["ece"],
            np.array([found.point[key] for key in keys]),
            np.stack([found.values[key] for key in keys], axis=-1),
            level,
        )
        intervals["ece"] = Interval(found.point["ece"], *limits, n, "gaps")
    return intervals


def _groups_told_apart(scorer: Scorer, groups: npt.ArrayLike) -> list[int]:
    """Per class, on how many groups its numbers rest: those with it or those without, if fewer.

    A class of five images that are all ranked first says no more than five images can.
    """
    index = np.asarray(pd.factorize(np.asarray(groups))[0])
    total = int(index.max()) + 1
    distinct = np.unique(scorer.labels * total + index) // total  # a label per class and group
    inside = np.bincount(distinct, minlength=scorer.classes)
    return np.minimum(inside, np.maximum(len(distinct) - inside, 1)).tolist()


def _class_result(
    c: int,
    name: str,
    scorer: Scorer,
    rows: Rows,
    confusion: Ints,
    found: dict[Any, Interval],
    level: float,
) -> ClassResult:
    labeled, predicted = scorer.labels == c, scorer.predicted == c
    n = len(np.unique(rows.image[labeled]))
    # An image predicted as the class in one of its R rows counts for 1 / R.
    shares = np.bincount(rows.image, predicted) / np.bincount(rows.image)
    judged = max(round(float(shares.sum())), 1) if predicted.any() else 0
    precision = (
        rows.fraction(labeled, predicted, judged, level)
        if judged
        else Interval(0.0, 0.0, 1.0, 0, "wilson")  # 0 by convention, and nothing known
    )
    tp = int(confusion[c, c])
    fp, fn = int(confusion[:, c].sum()) - tp, int(confusion[c].sum()) - tp
    return ClassResult(
        name=name,
        n=n,
        predicted=judged,
        precision=precision,
        recall=rows.fraction(predicted, labeled, n, level),
        f1=replace(found["f1", c], n=n),
        specificity=rows.fraction(~predicted, ~labeled, rows.n - n, level),
        fall_out=rows.fraction(predicted, ~labeled, rows.n - n, level),
        auroc=replace(found["auroc", c], n=n),
        average_precision=replace(found["average_precision", c], n=n),
        tp=tp,
        fp=fp,
        tn=scorer.rows - tp - fp - fn,
        fn=fn,
    )


def _notes(rows: Rows, per_class: list[ClassResult], metrics: dict[str, Interval]) -> list[str]:
    """What limits the numbers, in sentences."""
    notes = []
    if rows.n < FEW:
        notes.append(f"too few images: {rows.n} (below {FEW})")
    for result in per_class:
        if result.n == 0:
            notes.append(
                f"class '{result.name}' has no labeled images: it has no recall and is left out "
                "of macro averages"
            )
        elif result.n < FEW:
            notes.append(f"class '{result.name}': too few images: {result.n} (below {FEW})")
        if result.n and not result.predicted:
            notes.append(f"class '{result.name}' was never predicted: its precision counts as 0")
    groups = int(rows.group.max()) + 1
    if groups < rows.n:
        notes.append(
            f"{rows.n} images form {groups} groups (such as duplicates); intervals count a group "
            "as one observation as far as its images agree"
        )
    missing = [METRICS[name].label for name, value in metrics.items() if np.isnan(value.value)]
    if missing:
        notes.append(f"undefined for these labels: {', '.join(missing)}")
    return notes
