"""Worth: what unlabeled images saved in labels, and how far draws of the labels lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from labelwise.measure.metrics import METRICS
from labelwise.report import text
from labelwise.report.curves import learned_from
from labelwise.report.run_folder import RunFolder

Curve = Sequence[tuple[float, float]]  # labels learned from and the metric, by labels


def savings(run: RunFolder) -> list[str]:
    """A sentence per variant with a twin and number of labels: the labels that the twin needs."""
    metric = METRICS[run.metric]
    if not metric.higher_is_better:
        return []
    sentences = []
    for pair in run.leaderboard["pairs"]:
        if not pair.get("gain"):
            continue
        own, twin = _curve(run, pair["a"]), _curve(run, pair["b"])
        at = next((point for labels, *point in own if labels == pair["labels"]), None)
        if at is None or len(twin) < 2:
            continue
        needed = labels_needed([(x, y) for _, x, y in twin], at[1])
        sentences.append(
            f"{pair['a']} with {text.count(at[0])} labels: "
            f"{text.value(at[1], run.metric)}, for which {pair['b']} would need {needed}."
        )
    return sentences


def labels_needed(curve: Curve, target: float) -> str:
    """How many labels a curve reaches a value with, between its points along log(labels)."""
    first, last = curve[0], curve[-1]
    if first[1] >= target:
        return f"at most {text.count(first[0])}"
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y0 < target <= y1:
            share = (target - y0) / (y1 - y0)
            return f"about {text.count(round(math.exp(math.log(x0) + share * math.log(x1 / x0))))}"
    return f"more than {text.count(last[0])}"


def seeds(run: RunFolder) -> list[dict[str, str]]:
    """Accuracy of every row over its repeats, each with labels of its own; none for one repeat."""
    if run.repeats < 2:
        return []
    return [
        {
            "variant": row["variant"],
            "labels": text.labels_name(row["labels"]),
            "value": over_seeds(row["spread"]["repeats"]),
        }
        for row in run.rows
        if row["metrics"] is not None
    ]


def over_seeds(values: Sequence[float]) -> str:
    """Mean with the 95 % interval of a mean of normal values (Student's t), in percent."""
    mean = float(np.mean(values))
    half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / len(values) ** 0.5)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return f"{text.percent(mean)} % ({text.percent(low)} to {text.percent(high)} %)"


def _curve(run: RunFolder, variant: str) -> list[tuple[str, float, float]]:
    """Number of labels as named, labels learned from, and the metric, by labels."""
    found = [
        (row["labels"], learned_from(run, row), row["metrics"][run.metric]["value"])
        for row in run.rows
        if row["variant"] == variant and row["metrics"] is not None
    ]
    return sorted(found, key=lambda item: item[1])
