"""Looks at what runs left: whole files, the same in everything but times."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from labelwise import bundle


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


def assert_whole(folder: Path) -> None:
    """Every published file can be read to its end."""
    read = {
        ".json": lambda path: json.loads(path.read_text("utf-8")),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
        ".parquet": pd.read_parquet,
        ".safetensors": load_file,
        ".npy": np.load,
    }
    for path in folder.rglob("[!.]*"):
        if path.suffix in read:
            read[path.suffix](path)
        elif path.suffix == ".html":
            assert path.read_text("utf-8").endswith("</html>")
        elif path.suffix == ".ids":
            assert len(path.read_text().split()) == len(np.load(path.with_suffix(".npy")))
        elif path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for model in folder.rglob("model"):
        if len(list(model.glob("[!.]*"))) == 2:
            bundle.load(model)
