"""Fitting: the trials of a row, learned and judged. Finished ones are never touched."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from labelwise import bundle
from labelwise.attribution.kept import FOLDS, keep_maps
from labelwise.data.dataset import Dataset
from labelwise.data.split import FINAL, Split
from labelwise.errors import LabelwiseError, interruption
from labelwise.estimate import AGAIN
from labelwise.files import write_json, write_parquet
from labelwise.held_out import calibration_of, novelty_of, without_absent
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
from labelwise.trials import (
    CHECKPOINT,
    FAILED,
    NOVELTY_FILE,
    Row,
    Trial,
    absent_classes,
    trial_of,
    write_predictions,
    write_record,
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
    known = None
    for split in (s for s in row.splits if s.fold == FINAL):
        trial = trial_of(run, row.variant.name, split)
        if trial.finished:
            continue
        known = known or Known.of(row, dataset, run)
        folds = [t.record() for t in row.trials(run, final=False) if t.repeat == split.repeat]
        recipe = row.variant.recipe.settled([record["chosen"] for record in folds if record])
        seeded = dataclasses.replace(
            context, seed=context.seed + split.repeat, advance=progress.advance
        )
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
    proba = without_absent(model.probabilities(logits), absent)
    if trial.fold != FINAL:
        novelty = {"id": rows, "energy": energy(logits).astype(np.float32), "distance": distances}
        write_parquet(trial.folder / NOVELTY_FILE, pd.DataFrame(novelty))
    write_predictions(trial, rows, dataset.labels[rows], proba)


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
        preprocessing=vars(fitted.model.preprocessing),
        chosen=fitted.chosen,
        train=train,
        embedding=[row.to_json() for row in nearness],
        seconds=fitted.seconds,
        images_per_second=_images_per_second(fitted),
    )
    (trial.folder / CHECKPOINT).unlink(missing_ok=True)


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


def _some(learned: np.ndarray) -> np.ndarray:
    """Of the images learned from those that are looked at again, spread evenly."""
    return learned[:: max(1, math.ceil(len(learned) / AGAIN))]
