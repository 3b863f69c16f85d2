"""The recommendation and the leaderboard: what was found, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labelwise.measure.metrics import METRICS
from labelwise.report import charts, text
from labelwise.report.run_folder import RunFolder


def headline(run: RunFolder) -> dict[str, Any]:
    """The recommendation, its number with what it was measured on, and the number to expect."""
    row, metric = run.recommended, run.metric
    label = METRICS[metric].label
    result: dict[str, Any] = {
        "variant": run.leaderboard["recommended"],
        "labels": run.leaderboard["recommended_labels"],
        "several": len(run.label_counts) > 1,
        "why": text.plain(run.leaderboard["why"]),
        "metric": label,
        "cards": [],
        "openings": [{**line, "time": text.moment(line["time"])} for line in run.openings],
        "warnings": [text.plain(sentence) for sentence in run.record["warnings"]],
    }
    if row is None or row["metrics"] is None:
        return result
    held = row["metrics"][metric]
    cards = [_card(f"{label}, held out", held, metric, measured_on(run, held["n"]))]
    if row["test"] is not None:
        test = row["test"][metric]
        cards.append(_card(f"{label}, test", test, metric, _sealed(test["n"])))
    elif run.leaderboard["corrected"] is not None and _candidates(run) > 1:
        cards.append(_corrected(run))
    train = (row["train"] or {}).get(metric)
    if train is not None:
        told = "on the images it learned from; far above the held-out number means overfitting"
        cards.append(_card(f"{label}, train", {"value": train}, metric, told))
    return result | {"cards": cards}


def _card(name: str, number: Mapping[str, Any], metric: str, told: str) -> dict[str, str]:
    limits = text.interval(number, metric)
    return {
        "name": name,
        "value": text.value(number["value"], metric),
        "interval": "" if limits == text.MISSING else limits,
        "told": told,
    }


def measured_on(run: RunFolder, n: int) -> str:
    """What the held-out number rests on, in words."""
    folds, repeats = run.record["folds"], run.repeats
    images = text.counted(n, "labeled image")
    if folds == 1:
        return f"on {images} held out from training"
    often = f", {repeats} times over" if repeats > 1 else ""
    return (
        f"{folds}-fold cross-validation{often}: {images}, each answered by a model that never saw "
        "it or a duplicate of it"
    )


def _sealed(n: int) -> str:
    return f"{text.counted(n, 'image')}, sealed until every decision was made"


def _corrected(run: RunFolder) -> dict[str, str]:
    number, metric = run.leaderboard["corrected"], run.metric
    told = (
        f"what to expect of the best of {_candidates(run)} variants ('{number['variant']}') after "
        "the luck of having been chosen on the same images is taken off; there is no test part"
    )
    return _card(f"{METRICS[metric].label}, corrected for selection", number, metric, told)


def _candidates(run: RunFolder) -> int:
    """Variants with a result at the number of labels that decides."""
    last = run.leaderboard["recommended_labels"]
    return sum(row["labels"] == last and row["metrics"] is not None for row in run.rows)


def leaderboard(run: RunFolder) -> list[dict[str, Any]]:
    """Per number of labels: an axis, and a row per variant, the best first, failed ones last."""
    groups = []
    for labels in run.label_counts:
        rows = [row for row in run.rows if row["labels"] == labels]
        scale = charts.interval_scale(rows, run.metric)
        rows.sort(key=lambda row: _place(row, run.metric))
        groups.append(
            {
                "labels": text.labels_name(labels),
                "axis": charts.interval_axis(scale, run.metric) if scale else "",
                "rows": [
                    {**_shown(run, row), "bar": charts.interval_bar(row, run.metric, scale)}
                    if scale and row["metrics"]
                    else {**_shown(run, row), "bar": ""}
                    for row in rows
                ],
            }
        )
    return groups


def _place(row: Mapping[str, Any], metric: str) -> float:
    """Sorts the best first, what has no number last."""
    value = ((row["metrics"] or {}).get(metric) or {}).get("value")
    sign = -1 if METRICS[metric].higher_is_better else 1
    return float("inf") if value is None else sign * value


def _shown(run: RunFolder, row: Mapping[str, Any]) -> dict[str, Any]:
    metric = run.metric
    held = (row["metrics"] or {}).get(metric) or {}
    test = (row["test"] or {}).get(metric) or {}
    chosen = run.recommended
    return {
        "variant": row["variant"],
        "fields": _fields(row["recipe"]),
        "recommended": chosen is not None
        and (row["variant"], row["labels"]) == (chosen["variant"], chosen["labels"]),
        "failed": row["metrics"] is None,
        "reason": text.plain(row["reason"] or ""),
        "value": text.value(held.get("value"), metric),
        "interval": text.interval(held, metric),
        "train": text.value((row["train"] or {}).get(metric), metric),
        "test": text.value(test.get("value"), metric),
        "test_interval": text.interval(test, metric),
        "seconds": text.seconds(row["fit_seconds"]),
        "verdict": _verdict(run.leaderboard["pairs"], row),
    }


def _fields(recipe: Mapping[str, Any]) -> str:
    """All fields of a recipe in one line, for a tooltip."""
    shown = (text.field(name, value) for name, value in recipe.items() if name != "name")
    return f"{recipe.get('name', '')}: " + ", ".join(f"{name} {value}" for name, value in shown)


def _verdict(pairs: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, str]:
    """How a row stands against the best one of its number of labels."""
    here = [pair for pair in pairs if pair["labels"] == row["labels"] and not pair.get("gain")]
    if row["metrics"] is None:
        return {"word": "failed", "detail": ""}
    pair = next((pair for pair in here if pair["b"] == row["variant"]), None)
    if pair is None:
        return {"word": "best" if here else "only one", "detail": ""}
    word = {
        "a better": f"worse than '{pair['a']}'",
        "b better": f"better than '{pair['a']}'",
        "cannot tell": f"cannot tell from '{pair['a']}'",
    }[pair["verdict"]]
    return {"word": word, "detail": text.difference(pair, flip=True) + text.chance(pair["p"])}


def overall(run: RunFolder) -> list[dict[str, str]]:
    """Every metric of the recommended row: held-out, train, test."""
    row = run.judged
    if row is None:
        return []
    test = row["test"] or {}
    return [
        {
            "name": METRICS[name].label,
            "better": "" if METRICS[name].higher_is_better else "lower is better",
            "value": text.value(number["value"], name),
            "interval": text.interval(number, name),
            "train": text.value((row["train"] or {}).get(name), name),
            "test": text.value((test.get(name) or {}).get("value"), name),
            "test_interval": text.interval(test.get(name), name),
        }
        for name, number in row["metrics"].items()
        if name in METRICS
    ]


def per_class(run: RunFolder) -> list[dict[str, Any]]:
    """Each class with its numbers, the worst F1 first."""
    row = run.judged
    if row is None:
        return []
    names = ("precision", "recall", "f1", "specificity", "fall_out")
    shown = [
        {
            "name": text.plain(result["name"]),
            "n": result["n"],
            "numbers": [
                {
                    "value": text.value(result[name]["value"], "accuracy"),
                    "interval": text.interval(result[name], "accuracy"),
                    "sort": result[name]["value"],
                }
                for name in names
            ],
            "counts": [result[name] for name in ("tp", "fp", "fn", "tn")],
        }
        for result in row["per_class"]
    ]

    def worst(item: dict[str, Any]) -> float:
        found = item["numbers"][2]["sort"]
        return 2.0 if found is None else float(found)

    return sorted(shown, key=worst)


def spread(run: RunFolder) -> list[dict[str, Any]]:
    """Accuracy fold by fold and repeat by repeat, to show how far they lie apart."""
    return [
        {
            "variant": row["variant"],
            "labels": text.labels_name(row["labels"]),
            "folds": [text.percent(value) for value in row["spread"]["folds"]],
            "repeats": [text.percent(value) for value in row["spread"]["repeats"]],
            "range": f"{text.percent(min(row['spread']['folds']))} to "
            f"{text.percent(max(row['spread']['folds']))} %",
        }
        for row in run.rows
        if row["metrics"] is not None
    ]
