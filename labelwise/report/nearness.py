"""Nearness: how near the embedding of a variant puts images of a class, beside its floors."""

from __future__ import annotations

from typing import Any

from labelwise.judging import ALL, SEEN, UNSEEN
from labelwise.report import text
from labelwise.report.run_folder import RunFolder

COLUMNS = (
    ("recall@1", "nearest is right"),
    ("precision@8", "of 8 nearest"),
    ("r_precision", "R-precision"),
    ("map@r", "MAP@R"),
    ("prototype_accuracy", "nearest class mean"),
)
CLASSES = {SEEN: "learned from", UNSEEN: "never seen", ALL: "all"}


def section(run: RunFolder) -> list[dict[str, Any]]:
    """A block per variant that is made for its embedding, at the number of labels that decides."""
    labels = run.leaderboard["recommended_labels"]
    blocks = []
    for row in (row for row in run.rows if row["labels"] == labels):
        judged = [
            r["embedding"] for t in run.trials(row) if (r := t.record() or {}).get("embedding")
        ]
        if judged:
            rows = [_line(found) for found in judged[0] if found["metrics"]]
            blocks.append({"variant": row["variant"], "folds": len(judged), "rows": rows})
    return blocks


def _line(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "classes": CLASSES[found["part"]],
        "vectors": found["vectors"],
        "n": text.count(found["n"]),
        "values": [
            (text.percent(value["value"]), text.interval(value, "accuracy"))
            for value in (found["metrics"][name] for name, _ in COLUMNS)
        ],
    }
