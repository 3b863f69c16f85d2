"""Trials: one variant, number of labels, repeat and fold each. Finished ones are never touched."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise import bundle
from labelwise.attribution.kept import FOLDS, keep_maps
from labelwise.data.dataset import Dataset
from labelwise.data.split import FINAL, Split
from labelwise.errors import LabelwiseError, interruption
from labelwise.estimate import AGAIN
from labelwise.files import intact, read_json, write_json, write_parquet
from labelwise.held_out import NEVER_SEEN, calibration_of, novelty_of
from labelwise.judging import judge_embedding
from labelwise.measure.calibration import Calibration
from labelwise.measure.metrics import metric_names, metric_values
from labelwise.measure.novelty import Novelty
from labelwise.model import Model, energy
from labelwise.novelty import remembered, with_bank
from labelwise.pictures import keep_pictures
from labelwise.plan import task_of
from labelwise.progress import Progress
from labelwise.recipe.base import Context, Fitted, PseudoLabels, Recipe
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


@dataclass(frozen=True)
class Known:
    """What final models are given of what the folds have shown; None where nothing was judged."""

    novelty: Novelty | None
    calibration: Calibration | None

    @classmethod
    def of(cls, row: Row, dataset: Dataset, run: Path) -> Known:
        """By the fold trials of a row, which are finished."""
        judged = row.trials(run, final=False)
        return cls(
            novelty_of([found for t in judged if (found := t.novelty()) is not None]),
            calibration_of([t.predictions() for t in judged], dataset.groups),
        )

    def given_to(self, model: Model) -> Model:
        """The model that knows it."""
        return dataclasses.replace(model, novelty=self.novelty, calibration=self.calibration)


def run_folds(
    row: Row, dataset: Dataset, run: Path, context: Context, progress: Progress, place: str
) -> str | None:
    """Fit and judge the fold trials of a row that are not finished.

    Returns:
        None, or why the row failed; the trial in question says so too.
    """
    progress.begin(f"{place} {row.variant.name}, {row.labels} labels, folds")
    repeats = 1 + max(split.repeat for split in row.splits)
    for repeat in range(repeats):
        splits = [s for s in row.splits if s.repeat == repeat and s.fold != FINAL]
        open_ = [s for s in splits if not trial_of(run, row.variant.name, s).finished]
        if not open_:
            continue

        def advance(done: float, note: str, before: int = repeat) -> None:
            progress.advance((before + done) / repeats, note)

        seeded = dataclasses.replace(context, seed=context.seed + repeat, advance=advance)
        together = splits if row.variant.recipe.joint else open_
        problem = _run(row.variant, row.variant.recipe, together, dataset, run, seeded)
        if problem is not None:
            progress.end(f"failed: {problem}")
            return problem
    progress.end()
    return None


def run_finals(
    row: Row, dataset: Dataset, run: Path, context: Context, progress: Progress, place: str
) -> str | None:
    """Fit the final trials of a row that are not finished; each keeps its model.

    Returns:
        None, or why the row failed.
    """
    progress.begin(f"{place} {row.variant.name}, {row.labels} labels, final fit")
    for split in (s for s in row.splits if s.fold == FINAL):
        trial = trial_of(run, row.variant.name, split)
        if trial.finished:
            continue
        folds = [t.record() for t in row.trials(run, final=False) if t.repeat == split.repeat]
        recipe = row.variant.recipe.settled([record["chosen"] for record in folds if record])
        seeded = dataclasses.replace(
            context, seed=context.seed + split.repeat, advance=progress.advance
        )
        known = Known.of(row, dataset, run)
        problem = _run(row.variant, recipe, [split], dataset, run, seeded, known)
        if problem is not None:
            progress.end(f"failed: {problem}")
            return problem
    progress.end()
    return None


def judge(
    model: Model, trial: Trial, dataset: Dataset, rows: np.ndarray, absent: Sequence[int]
) -> None:
    """Write a trial's predictions for some rows, unless they are there.

    Those of a fold also get their energy and their distance to what was learned from: the final
    model's thresholds come from them. Test rows decide nothing, so nothing is kept of theirs.

    Args:
        rows: labeled rows that the model has not learned from; int64 (N,).
        absent: classes without an image in the train part.
    """
    file = trial.folder / "predictions.parquet"
    if file.exists():
        return
    logits, distances = model.answers(dataset.images(rows))
    proba = model.probabilities(logits)
    if len(absent):
        proba[:, list(absent)] = NEVER_SEEN
        proba /= proba.sum(axis=1, keepdims=True)
    if trial.fold != FINAL:
        novelty = {"id": rows, "energy": energy(logits).astype(np.float32), "distance": distances}
        write_parquet(trial.folder / NOVELTY_FILE, pd.DataFrame(novelty))
    write_predictions(trial, rows, dataset.labels[rows], proba)


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


def _run(
    variant: Variant,
    recipe: Recipe,
    splits: Sequence[Split],
    dataset: Dataset,
    run: Path,
    context: Context,
    known: Known | None = None,
) -> str | None:
    """Fit some splits together; every finished one is on disk before the next begins.

    Args:
        known: of final models, by the folds.
    """
    done = 0
    started = time.perf_counter()
    try:
        tasks = [
            dataclasses.replace(
                task_of(dataset, split),
                checkpoint=trial_of(run, variant.name, split).folder / CHECKPOINT,
            )
            for split in splits
        ]
        for split, fitted in zip(splits, recipe.fit_many(tasks, context), strict=True):
            if not trial_of(run, variant.name, split).finished:
                _finish(variant, split, fitted, dataset, run, known)
            done += 1
    except (LabelwiseError, MemoryError, RuntimeError) as error:
        if (stop := interruption(error)) is not None:
            raise stop from None
        # RuntimeError is what torch raises when it is out of memory, among others.
        reason = str(error).strip() or "out of memory"
        trial = trial_of(run, variant.name, splits[done])
        write_json(
            trial.folder / "trial.json",
            {
                "variant": variant.name,
                "recipe": recipe.configuration,
                "labels": trial.labels,
                "repeat": trial.repeat,
                "fold": trial.fold,
                "status": FAILED,
                "reason": reason,
                "seconds": time.perf_counter() - started,
            },
        )
        return reason
    return None


def _finish(
    variant: Variant,
    split: Split,
    fitted: Fitted,
    dataset: Dataset,
    run: Path,
    known: Known | None,
) -> None:
    """Publish a trial: predictions and history first, trial.json last."""
    trial = trial_of(run, variant.name, split)
    learned = np.sort(np.concatenate([split.train, split.validation]))
    absent = absent_classes(dataset, split)
    again = _some(learned)
    kept = bank_rows(fitted.model, learned, dataset.labels)
    embedding, logits = fitted.model.outputs(dataset.images(kept))
    model = with_bank(fitted.model, embedding)
    if split.fold == FINAL:
        for stage, earlier in fitted.stages.items():
            bundle.save(earlier, trial.folder / f"model-{stage}")
        if known is not None:
            model = known.given_to(model)
        bundle.save(model, trial.folder / "model")
    else:
        judge(model, trial, dataset, split.held_out, absent)
        if split.repeat == 0 and split.fold in FOLDS:
            every = np.sort(np.concatenate([learned, split.held_out]))
            keep_maps(model, dataset, every, trial.folder)
    shown = split.unlabeled if not dataset.class_names else split.held_out
    if len(shown):
        models = (fitted.model, *fitted.stages.values())
        makes = next((m for m in models if m.network.decoder is not None), fitted.model)
        keep_pictures(makes, dataset.images(shown), trial.folder)
    write_parquet(trial.folder / "history.parquet", pd.DataFrame(fitted.history))
    if fitted.pseudo:
        write_parquet(trial.folder / "pseudo.parquet", _pseudo_labels(fitted.pseudo, dataset))
    nearness = []
    if variant.recipe.embeds and len(split.held_out):
        images, labels = dataset.images(split.held_out), dataset.labels[split.held_out]
        nearness = judge_embedding(model, images, labels, dataset.class_names)
    train = {}
    if len(learned):
        rest = np.setdiff1d(again, kept)  # what is remembered was looked at
        logits = np.concatenate([logits, model.logits(dataset.images(rest))])
        labels = dataset.labels[np.concatenate([kept, rest])]
        train = _train_metrics(labels, model.probabilities(logits))
    write_record(
        trial,
        split,
        dataset,
        recipe=fitted.model.recipe,
        chosen=fitted.chosen,
        train=train,
        embedding=[row.to_json() for row in nearness],
        seconds=fitted.seconds,
        images_per_second=_images_per_second(fitted),
    )
    (trial.folder / CHECKPOINT).unlink(missing_ok=True)


def write_record(
    trial: Trial,
    split: Split,
    dataset: Dataset,
    *,
    recipe: Mapping[str, Any],
    chosen: Mapping[str, Any],
    seconds: float,
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
            "train": dict(train or {}),
            "embedding": list(embedding),
            "seconds": seconds,
            "images_per_second": images_per_second,
            "peak_memory_bytes": peak_memory(),
        },
    )


def _some(learned: np.ndarray) -> np.ndarray:
    """Of the images learned from those that are looked at again, spread evenly."""
    return learned[:: max(1, math.ceil(len(learned) / AGAIN))]


def bank_rows(model: Model, learned: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows that a trial's model remembers, in the order of its bank; int64.

    Args:
        learned: rows of the train and validation part, int64 (N,).
        labels: of the data set, by row.
    """
    some = _some(np.sort(learned))
    return some[remembered(model, labels[some])]


def _pseudo_labels(rounds: Sequence[PseudoLabels], dataset: Dataset) -> pd.DataFrame:
    """What a recipe took images for, beside the truth where the data has it: -1 is unknown.

    A label that --labels leaves out is known to the data; the recipe has not seen it.
    """
    tables = [
        pd.DataFrame(
            {
                "round": np.full(len(found.rows), number),
                "id": found.rows,
                "label": found.labels,
                "confidence": found.confidence,
                "truth": dataset.labels[found.rows],
            }
        )
        for number, found in enumerate(rounds, start=1)
    ]
    return pd.concat(tables, ignore_index=True)


def absent_classes(dataset: Dataset, split: Split) -> list[int]:
    """Classes without an image in the train or validation part of a split."""
    seen = np.concatenate([dataset.labels[split.train], dataset.labels[split.validation]])
    return sorted(set(range(len(dataset.class_names))) - set(seen.tolist()))


def _train_metrics(labels: np.ndarray, proba: np.ndarray) -> dict[str, float | None]:
    """Every metric on images learned from (validation included); no intervals."""
    values = {
        name: float(metric_values(name, labels, proba)) for name in metric_names(proba.shape[1])
    }
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _images_per_second(fitted: Fitted) -> float | None:
    """Training images passed through per second; None where a recipe has no epochs to time."""
    timed = [record for record in fitted.history if "images" in record]
    total = sum(record["seconds"] for record in timed)
    return sum(record["images"] for record in timed) / total if total else None


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
