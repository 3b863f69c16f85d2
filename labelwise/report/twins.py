"""Twins: what the one thing was worth that sets a variant apart from its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labelwise.measure.metrics import METRICS
from labelwise.report import text
from labelwise.report.run_folder import RunFolder

WORDS = {"a better": "helped", "b better": "hurt", "cannot tell": "cannot tell"}


def section(run: RunFolder) -> dict[str, Any] | None:
    """A line per variant and twin, by number of labels; None if the run has no twins."""
    pairs = [pair for pair in run.leaderboard["pairs"] if pair.get("gain")]
    if not pairs:
        return None
    gains = list(dict.fromkeys(str(pair["gain"]) for pair in pairs))
    return {
        "title": f"What {gains[0]} brought" if len(gains) == 1 else "What it brought",
        "several": len(gains) > 1,
        "metric": METRICS[run.metric].label,
        "rows": [_line(run, pair) for pair in pairs],
    }


def _line(run: RunFolder, pair: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "labels": text.labels_name(pair["labels"]),
        "gain": text.plain(pair["gain"]),
        "sides": [_side(run, pair[side], pair["labels"]) for side in "ab"],
        "difference": text.difference(pair, flip=False) + text.chance(pair["p"]),
        "verdict": WORDS[pair["verdict"]],
    }


def _side(run: RunFolder, variant: str, labels: str) -> dict[str, str]:
    """The numbers of one of the two."""
    row = next(r for r in run.rows if (r["variant"], r["labels"]) == (variant, labels))
    held, test = row["metrics"][run.metric], (row["test"] or {}).get(run.metric)
    return {
        "variant": variant,
        "value": text.value(held["value"], run.metric),
        "interval": text.interval(held, run.metric),
        "test": text.value(test["value"], run.metric) if test else "",
    }
