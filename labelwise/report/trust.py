"""Trust: how sure the recommended variant may be, what its sets hold, when not to answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelwise.data.dataset import Dataset
from labelwise.held_out import of_one_repeat
from labelwise.leaderboard import pool
from labelwise.measure import wilson
from labelwise.measure.conformal import METHODS
from labelwise.measure.reliability import reliability
from labelwise.measure.selective import risk_coverage
from labelwise.measure.temperature import crossed
from labelwise.report import text
from labelwise.report.charts import Line, chart
from labelwise.report.run_folder import RunFolder

BEFORE, AFTER = 1, 0  # colors
BARS = 10  # of confidence
POINTS = 80  # of the curve of errors, at most
SHOWN = 0.02  # of the images: before so many are answered the curve is noise
NUMBERS = (
    (
        "log_loss",
        "log loss",
        "minus the logarithm of the probability of the true class, on average",
    ),
    ("brier", "Brier score", "squared distance of the probabilities from the truth"),
    ("ece", "calibration error", "how far confidence is from accuracy; 15 bins of equal width"),
    ("ece_even", "same, even bins", "as many images in every bin"),
    (
        "ece_classes",
        "same, by class",
        "probability of a class against its frequency, mean of classes",
    ),
)
FRACTIONS = ("ece", "ece_even", "ece_classes")
#: What the rules for sets are called on the page.
NAMES = {
    "lac": "smallest sets (lac)",
    "aps": "larger where it is hard (aps)",
    "raps": "the same, few classes (raps)",
    "per-class": "so often in every class (per-class)",
}


def section(run: RunFolder, dataset: Dataset) -> dict[str, Any] | None:
    """The section for the recommended row; None where nothing was judged."""
    row = run.judged
    trust = None if row is None else row.get("trust")
    if row is None or trust is None:
        return None
    labels, proba, parts = of_one_repeat(pool(run.trials(row)), dataset.groups)
    helped = trust["temperature"] != 1
    # An older labelwise has not given its models what this page would promise.
    used = run.model is None or run.model.calibration is not None
    tempered = crossed(labels, proba, parts) if helped else proba
    lines = [_bars("at its temperature" if helped else "as it is", AFTER, labels, tempered)]
    lines += [_bars("as it was", BEFORE, labels, proba)] if helped else []
    lowest = min(x for line in lines for x, _ in line.points)
    lines[0] = Line(**{**vars(lines[0]), "thin": [[(lowest, lowest), (1.0, 1.0)]]})
    return {
        "temperature": f"{trust['temperature']:.2f}" if helped else None,
        "used": used,
        "count": text.count(trust["count"]),
        "reliability": chart(
            "right, %", lines, x_label="confidence", percent=True, limits=(0.0, 1.0)
        ),
        "legend": [(line.name, line.color) for line in lines],
        "numbers": [
            {
                "name": name,
                "meaning": meaning,
                "values": [
                    _number(key, trust[when][key])
                    for when in (("before", "after") if helped else ("before",))
                ],
            }
            for key, name, meaning in NUMBERS
        ],
        "by_chance": _percent(trust["after"]["by_chance"]),
        "within": trust["after"]["ece"] <= trust["after"]["by_chance"],
        "coverage": f"{100 * trust['coverage']:g} %",
        "sets": [_sets(method, trust["sets"][method]) for method in METHODS if trust["sets"]],
        "errors": _errors(labels, tempered),
        "area": f"{trust['area']:.4f}",
        "best_area": f"{trust['best_area']:.4f}",
        "answers": [
            {
                "error": f"{100 * float(error):g} %",
                "share": _percent(found["share"]) if found["share"] else "none",
                "wrong": "" if found["error"] is None else _percent(found["error"]),
            }
            for error, found in trust["answers"].items()
        ],
    }


def _bars(name: str, color: int, labels: np.ndarray, proba: np.ndarray) -> Line:
    """Accuracy by confidence, with Wilson's intervals."""
    found = reliability(labels, proba, BARS)
    points = list(zip(found.confidence.tolist(), found.accuracy.tolist(), strict=True))
    limits = [
        wilson(accuracy * count, int(count))
        for accuracy, count in zip(found.accuracy, found.count, strict=True)
    ]
    return Line(name, color, points, intervals=[(limit.low, limit.high) for limit in limits])


def _errors(labels: np.ndarray, proba: np.ndarray) -> Any:
    """Errors among the surest images, by how many are answered."""
    curve = risk_coverage(labels, proba)
    first = int(SHOWN * len(curve.risk))
    places = np.unique(np.linspace(first, len(curve.risk) - 1, POINTS).astype(int))
    points = [(100 * float(curve.coverage[k]), float(curve.risk[k])) for k in places]
    line = Line("wrong", AFTER, points)
    return chart(
        "wrong among the answers, %",
        [line],
        x_label="images answered, the surest first, %",
        percent=True,
        limits=(0.0, 1.0),
        bare=True,
    )


def _percent(fraction: float) -> str:
    return f"{text.percent(fraction)} %"


def _number(key: str, value: float) -> str:
    return _percent(value) if key in FRACTIONS else text.decimal(value)


def _sets(method: str, found: dict[str, Any]) -> dict[str, str]:
    worst = found["worst"]
    return {
        "method": NAMES[method],
        "meaning": METHODS[method],
        "covered": _percent(found["covered"]),
        "worst": "" if worst is None else _percent(worst),
        "size": f"{found['size']:.2f}",
        "single": _percent(found["single"]),
        "empty": _percent(found["empty"]),
    }
