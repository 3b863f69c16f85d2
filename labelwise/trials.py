"""Trials: one variant, number of labels, repeat and fold each. Finished ones are never touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise import bundle
from labelwise.data.dataset import Dataset
from labelwise.data.split import FINAL, Split
from labelwise.files import intact, read_json, write_json, write_parquet
from labelwise.model import Model
from labelwise.recipe.variants import Variant
from labelwise.transfer import with_backbone

NOVELTY_FILE = "novelty.parquet"
CHECKPOINT = "checkpoint.safetensors"  # of a fit that is not finished
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Trial:
    """A place in a run's folder: RUN/trials/<variant>/labels-<n>_repeat-<r>_<fold-k|final>."""

    run: Path
    variant: str
    labels: str
    repeat: int
    fold: int

    @property
    def name(self) -> str:
        """The folder's name."""
        part = "final" if self.fold == FINAL else f"fold-{self.fold}"
        return f"labels-{self.labels}_repeat-{self.repeat}_{part}"

    @property
    def folder(self) -> Path:
        """Where the trial's files are."""
        return self.run / "trials" / self.variant / self.name

    def record(self) -> dict[str, Any] | None:
        """trial.json, or None if the trial is not finished; a failed one counts as not finished."""
        file = self.folder / "trial.json"
        if not file.exists():
            return None
        with intact(file, f"Delete {self.folder} and resume: it is fitted again."):
            values: dict[str, Any] = read_json(file)
            if values["status"] != DONE:
                return None
            needed = ("train", "chosen", "seconds", "images_per_second")
            return {**values, **{name: values[name] for name in needed}}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do; a final trial also needs its model."""
        if self.record() is None:
            return False
        return self.fold != FINAL or (self.folder / "model").exists()

    def predictions(self) -> pd.DataFrame:
        """predictions.parquet: id, fold, label, predicted, p_0..p_{K-1}; and the repeat."""
        file = self.folder / "predictions.parquet"
        with intact(file, f"Delete {self.folder} and resume: it is fitted again."):
            return pd.read_parquet(file).assign(repeat=self.repeat)

    def novelty(self) -> pd.DataFrame | None:
        """novelty.parquet: id, energy and distance of judged images; None of an older labelwise."""
        file = self.folder / NOVELTY_FILE
        if not file.exists():
            return None
        with intact(file, f"Delete {self.folder} and resume: it is fitted again."):
            return pd.read_parquet(file)


def trial_of(run: Path, variant: str, split: Split) -> Trial:
    """The trial that learns from a split."""
    return Trial(run, variant, split.labels, split.repeat, split.fold)


@dataclass(frozen=True)
class Row:
    """A row of the leaderboard: a variant at a number of labels, with its splits."""

    variant: Variant
    labels: str
    splits: tuple[Split, ...]

    def trials(self, run: Path, *, final: bool) -> list[Trial]:
        """Its trials, either of the folds or the final ones."""
        return [
            trial_of(run, self.variant.name, split)
            for split in self.splits
            if (split.fold == FINAL) == final
        ]


def rows_of(variants: Sequence[Variant], splits: Sequence[Split]) -> tuple[Row, ...]:
    """All rows of a run, by number of labels, then by variant."""
    counts = list(dict.fromkeys(split.labels for split in splits))
    return tuple(
        Row(variant, labels, tuple(split for split in splits if split.labels == labels))
        for labels in counts
        for variant in variants
    )


def write_predictions(
    trial: Trial, rows: np.ndarray, labels: np.ndarray, proba: np.ndarray
) -> None:
    """Write predictions.parquet.

    Args:
        rows, labels: of the data set and their classes, int64 (N,).
        proba: float (N, K).
    """
    table = {
        "id": rows,
        "fold": np.full(len(rows), trial.fold, dtype=np.int32),
        "label": labels,
        "predicted": proba.argmax(axis=1),
    }
    columns = {f"p_{k}": proba[:, k].astype(np.float32) for k in range(proba.shape[1])}
    write_parquet(trial.folder / "predictions.parquet", pd.DataFrame({**table, **columns}))


def write_record(
    trial: Trial,
    split: Split,
    dataset: Dataset,
    *,
    recipe: Mapping[str, Any],
    chosen: Mapping[str, Any],
    seconds: float,
    preprocessing: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    embedding: Sequence[Mapping[str, Any]] = (),
    images_per_second: float | None = None,
) -> None:
    """Write trial.json, last of a trial's files: it is finished then."""
    write_json(
        trial.folder / "trial.json",
        {
            "variant": trial.variant,
            "recipe": dict(recipe),
            "labels": trial.labels,
            "repeat": trial.repeat,
            "fold": trial.fold,
            "status": DONE,
            "reason": None,
            "images": {
                "train": len(split.train),
                "validation": len(split.validation),
                "held-out": len(split.held_out),
                "unlabeled": len(split.unlabeled),
            },
            "absent_classes": [dataset.class_names[k] for k in absent_classes(dataset, split)],
            "chosen": dict(chosen),
            **({} if preprocessing is None else {"preprocessing": dict(preprocessing)}),
            "train": dict(train or {}),
            "embedding": list(embedding),
            "seconds": seconds,
            "images_per_second": images_per_second,
            "peak_memory_bytes": peak_memory(),
        },
    )


def absent_classes(dataset: Dataset, split: Split) -> list[int]:
    """Classes without an image in the train or validation part of a split."""
    seen = np.concatenate([dataset.labels[split.train], dataset.labels[split.validation]])
    return sorted(set(range(len(dataset.class_names))) - set(seen.tolist()))


def peak_memory() -> int | None:
    """The most memory that this process has had resident, in bytes; None where not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def final_models(rows: Sequence[Row], run: Path) -> Iterator[tuple[Row, Trial, Model]]:
    """The models of all finished final trials."""
    for row in rows:
        for trial in row.trials(run, final=True):
            if trial.record() is not None and (trial.folder / "model").exists():
                yield row, trial, with_backbone(bundle.load(trial.folder / "model"))
