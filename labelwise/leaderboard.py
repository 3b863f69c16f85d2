"""Leaderboard: the trials of a run pooled into numbers, intervals, verdicts, a recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise.data.dataset import Dataset
from labelwise.held_out import by_image, of_one_repeat, probabilities
from labelwise.measure import (
    corrected_for_selection,
    evaluate,
    interval_json,
    recommend,
    verdicts,
)
from labelwise.measure.suspicion import doubt
from labelwise.measure.trust import Trust, json_safe
from labelwise.trials import DONE, FAILED, Row, Trial
from labelwise.twins import Twins, twin_pairs

UNJUDGED = "No image has a label, so nothing was judged. The model has no head: it embeds images."


def make_leaderboard(
    rows: Sequence[Row],
    problems: Mapping[tuple[str, str], str],
    dataset: Dataset,
    run: Path,
    *,
    twins: Sequence[Twins],
    metric: str,
    seed: int,
) -> dict[str, Any]:
    """Everything in leaderboard.json but the test numbers.

    Args:
        problems: (variant, labels) -> why the row failed.
        twins: variants that are compared with each other besides with the best.
        metric: what rows are compared by.

    Returns:
        {"metric", "rows", "pairs", "recommended", "recommended_labels", "why", "corrected"}, where
        `corrected` is the best row's number corrected for selection; all JSON-safe. Of a pair, a is
        the best variant and `gain` None; or a is a variant, b its twin, and `gain` what the twin
        does without.
    """
    pooled = {
        (row.variant.name, row.labels): pool(row.trials(run, final=False))
        for row in rows
        if (row.variant.name, row.labels) not in problems and row.trials(run, final=False)
    }
    entries = [_entry(row, problems, pooled, dataset, run, seed) for row in rows]
    pairs: list[dict[str, Any]] = []
    chosen: tuple[str | None, str | None, str] = (None, None, "No variant finished.")
    corrected = None
    for labels in _by_size(rows):  # the largest number of labels comes last and decides
        group = {name: table for (name, count), table in pooled.items() if count == labels}
        if not group:
            continue
        first = next(iter(group.values()))
        options: dict[str, Any] = {
            "metric": metric,
            "groups": dataset.groups[first["id"]],
            "images": first["id"].to_numpy(),
            "seed": seed,
        }
        probas = {name: probabilities(table) for name, table in group.items()}
        found = verdicts(first["label"].to_numpy(), probas, **options)
        pairs += [{"labels": labels, **json_safe(asdict(pair)), "gain": None} for pair in found]
        pairs += [
            {"labels": labels, **json_safe(asdict(pair)), "gain": pair_of.gain}
            for pair_of, pair in twin_pairs(twins, first["label"].to_numpy(), probas, **options)
        ]
        ranks = {row.variant.name: row.variant.recipe.rank for row in rows}
        best = found[0].a if found else next(iter(group))
        winner, why = recommend(found, ranks, best)
        chosen = (winner, labels, why)
        if len(probas) > 1:  # of one variant nothing was selected
            expected = corrected_for_selection(first["label"].to_numpy(), probas, **options)
            corrected = {"variant": best, **interval_json(expected)}
    unjudged = [entry for entry in entries if entry["status"] == DONE and not entry["metrics"]]
    if unjudged:
        chosen = (unjudged[0]["variant"], unjudged[0]["labels"], UNJUDGED)
    name, labels_of, why = chosen
    return {
        "metric": metric,
        "rows": entries,
        "pairs": pairs,
        "recommended": name,
        "recommended_labels": labels_of,
        "why": why,
        "corrected": corrected,
    }


def add_test(
    leaderboard: dict[str, Any], rows: Sequence[Row], dataset: Dataset, run: Path, seed: int
) -> None:
    """Fill in `test` and `test_per_class` of rows from the predictions of their final fits."""
    entries = {(entry["variant"], entry["labels"]): entry for entry in leaderboard["rows"]}
    for row in rows:
        trials = [t for t in row.trials(run, final=True) if t.record() is not None]
        if not trials or not all((t.folder / "predictions.parquet").exists() for t in trials):
            continue
        evaluation = _evaluate(pool(trials), dataset, seed)
        entries[row.variant.name, row.labels] |= {
            "test": evaluation["metrics"],
            "test_per_class": evaluation["per_class"],
        }


def suspects(table: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Labels that look wrong: another class is more probable, out of fold.

    Returns:
        id, path, label, proposed (class names) and score, most suspicious first. The score is the
        `doubt` of the answers, averaged over repeats.
    """
    if not len(table):
        return pd.DataFrame(columns=["id", "path", "label", "proposed", "score"])
    ids, proba = by_image(table["id"].to_numpy(), probabilities(table))
    labels, proposed = dataset.labels[ids], proba.argmax(axis=1)
    names = np.array(dataset.class_names, dtype=object)
    result = pd.DataFrame(
        {
            "id": ids,
            "path": dataset.table["path"].to_numpy()[ids],
            "label": names[labels],
            "proposed": names[proposed],
            "score": doubt(labels, proba),
        }
    )
    wrong = result[labels != proposed]
    return wrong.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)


def pool(trials: Sequence[Trial]) -> pd.DataFrame:
    """The predictions of some trials after one another, by repeat and image."""
    if not trials:
        return pd.DataFrame()
    return pd.concat([t.predictions() for t in trials]).sort_values(
        ["repeat", "id"], ignore_index=True
    )


def _entry(
    row: Row,
    problems: Mapping[tuple[str, str], str],
    pooled: Mapping[tuple[str, str], pd.DataFrame],
    dataset: Dataset,
    run: Path,
    seed: int,
) -> dict[str, Any]:
    key = (row.variant.name, row.labels)
    entry: dict[str, Any] = {
        "variant": row.variant.name,
        "recipe": row.variant.recipe.configuration,
        "labels": row.labels,
        "status": FAILED if key in problems else DONE,
        "reason": problems.get(key),
        "metrics": None,
        "trust": None,
        "train": None,
        "test": None,
        "test_per_class": None,
        "fit_seconds": None,
        "images_per_second": None,
    }
    if key in problems:
        return entry
    if key not in pooled:  # without labels there are no folds, and no numbers
        finals = [record for t in row.trials(run, final=True) if (record := t.record())]
        return entry | {"fit_seconds": _mean([record["seconds"] for record in finals])}
    records = [record for t in row.trials(run, final=False) if (record := t.record())]
    evaluation = _evaluate(pooled[key], dataset, seed)
    rates = [record["images_per_second"] for record in records if record["images_per_second"]]
    return entry | {
        "reason": row.variant.recipe.remark([record["chosen"] for record in records]),
        "metrics": evaluation["metrics"],
        "per_class": evaluation["per_class"],
        "confusion": evaluation["confusion"],
        "notes": evaluation["notes"],
        "spread": _spread(pooled[key]),
        "trust": _trust(pooled[key], dataset),
        "train": {
            name: _mean([record["train"].get(name) for record in records])
            for name in records[0]["train"]
        },
        "fit_seconds": sum(record["seconds"] for record in records) / len(records),
        "images_per_second": float(np.median(rates)) if rates else None,
    }


def _trust(table: pd.DataFrame, dataset: Dataset) -> dict[str, Any] | None:
    labels, proba, parts = of_one_repeat(table, dataset.groups)
    return Trust.of(labels, proba, parts).to_json() if len(labels) else None


def _evaluate(table: pd.DataFrame, dataset: Dataset, seed: int) -> dict[str, Any]:
    return evaluate(
        table["label"].to_numpy(),
        probabilities(table),
        class_names=dataset.class_names,
        groups=dataset.groups[table["id"]],
        images=table["id"].to_numpy(),
        seed=seed,
    ).to_json()


def _spread(table: pd.DataFrame) -> dict[str, list[float]]:
    """Accuracy of every fold and of every repeat, to show how far they lie apart."""
    right = (table["label"] == table["predicted"]).astype(float)
    by_fold = right.groupby([table["repeat"], table["fold"]]).mean()
    return {
        "folds": [float(value) for value in by_fold],
        "repeats": [float(value) for value in right.groupby(table["repeat"]).mean()],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _by_size(rows: Sequence[Row]) -> list[str]:
    """The numbers of labels in ascending order of what they come to."""
    size = {row.labels: sum(len(split.train) for split in row.splits) for row in rows}
    return sorted(size, key=lambda labels: size[labels])
