"""Splits as the rows of folds.parquet, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labelwise.data.split import FINAL, Split


def final_roles(table: pd.DataFrame, labels: str | None) -> pd.DataFrame:
    """Of folds.parquet: what the model in RUN/model has been given at a number of labels.

    Args:
        table: with the columns labels, repeat and fold at least.
        labels: the number of labels, as LabelCount.name.
    """
    own = (table["fold"] == FINAL) & (table["repeat"] == 0)  # see execute._save_recommended
    return table[own & (table["labels"] == labels)]


def splits_table(splits: Sequence[Split]) -> pd.DataFrame:
    """The rows of folds.parquet: id, labels, repeat, fold (FINAL = -1), role."""
    parts = []
    for split in splits:
        for role in ("train", "validation", "held-out", "unlabeled"):
            rows = getattr(split, role.replace("-", "_"))
            parts.append(
                pd.DataFrame(
                    {
                        "id": rows,
                        "labels": split.labels,
                        "repeat": np.int32(split.repeat),
                        "fold": np.int32(split.fold),
                        "role": role,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def splits_from_table(table: pd.DataFrame) -> tuple[Split, ...]:
    """The splits of a folds.parquet, in its order."""
    splits = []
    keys = ["labels", "repeat", "fold"]
    for _, part in table.groupby(keys, sort=False):
        labels, repeat, fold = part[keys].iloc[0]
        rows = {role: ids.to_numpy(np.int64) for role, ids in part.groupby("role")["id"]}
        none = np.zeros(0, dtype=np.int64)
        splits.append(
            Split(
                labels=str(labels),
                repeat=int(repeat),
                fold=int(fold),
                train=rows.get("train", none),
                validation=rows.get("validation", none),
                held_out=rows.get("held-out", none),
                unlabeled=rows.get("unlabeled", none),
            )
        )
    return tuple(splits)
