"""Compares runs: the same in everything but times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    """A leaderboard.json without what was measured in seconds."""
    times = ("fit_seconds", "images_per_second")
    rows = [{k: v for k, v in row.items() if k not in times} for row in results["rows"]]
    return {**results, "rows": rows}


def assert_same_files(a: Path, b: Path) -> None:
    """All files the same, times aside."""
    names = {str(path.relative_to(a)) for path in a.rglob("*") if path.is_file()}
    assert names == {str(path.relative_to(b)) for path in b.rglob("*") if path.is_file()}
    for name in names:
        if name.endswith(("predictions.parquet", "data.parquet", "folds.parquet")):
            pd.testing.assert_frame_equal(pd.read_parquet(a / name), pd.read_parquet(b / name))
        if name.endswith("weights.safetensors"):
            assert (a / name).read_bytes() == (b / name).read_bytes()
