"""Execute: the trials of a run, its leaderboard, the opening of the test part, model and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelwise import bundle
from labelwise.data.dataset import Dataset
from labelwise.data.split import Protocol
from labelwise.ensemble import Members, ensembles, join, weigh
from labelwise.errors import RunError
from labelwise.files import append_line, remove_temporary, write_json, write_parquet
from labelwise.fitting import judge, run_finals, run_folds
from labelwise.folders import RUN_FILE
from labelwise.leaderboard import add_test, make_leaderboard, pool, suspects
from labelwise.machine import torch_device
from labelwise.plan import Plan
from labelwise.progress import Progress, clock
from labelwise.recipe.base import Context
from labelwise.recipe.variants import Variant
from labelwise.report.report import write_report
from labelwise.settings import Settings
from labelwise.store import tidy_stores
from labelwise.trials import (
    Row,
    absent_classes,
    final_models,
    rows_of,
)
from labelwise.twins import twins_of

MOST_SAID = 8  # warnings that are shown before the run; the report has all of them
DONE = "done"  # the status of a run that is


#: (variant, labels) -> why the row failed.
Problems = dict[tuple[str, str], str]


def execute(
    folder: Path,
    dataset: Dataset,
    settings: Settings,
    protocol: Protocol,
    record: dict[str, Any],
    asked: Sequence[Variant],
    progress: Progress,
) -> None:
    """Do what is not done of a run that has begun.

    Args:
        record: run.json, which it brings up to date.
        asked: the variants, before the plan fills in what they leave open.

    Raises:
        RunError: no variant finished, or the recommended one cannot be fitted to all labels.
    """
    remove_temporary(folder)
    tidy_stores()
    with _counting_seconds(folder, record) as spent:
        plan = Plan.from_json(record["plan"])
        variants = plan.apply(asked)
        judged = bool(len(protocol.test))
        everything = judged or not dataset.class_names or settings.save_models == "all"
        rows = rows_of(variants, protocol.fitted(everything))
        work = _Work(folder, dataset, settings, progress, everything)
        progress.plan(_steps(rows, plan, everything, settings.ensemble))
        progress.say(_announcement(dataset, protocol, variants, plan, settings))
        _say_notes(record, progress)
        problems = work.fit(rows)
        mixtures = work.mix(rows, problems) if settings.ensemble else []
        rows = _by_labels((*rows, *(members.row for members in mixtures)))
        leaderboard = work.measure(rows, problems, asked)
        winner = next(
            row
            for row in rows
            if row.variant.name == leaderboard["recommended"]
            and row.labels == leaderboard["recommended_labels"]
        )
        if not everything:
            work.fit_finally(winner, mixtures)
        progress.begin("judging and writing the report")
        if judged:
            _open_test(rows, dataset, folder, protocol)
            add_test(leaderboard, rows, dataset, folder, settings.seed)
        write_json(folder / "leaderboard.json", leaderboard)
        table = pool(winner.trials(folder, final=False))
        write_parquet(folder / "suspects.parquet", suspects(table, dataset))
        _save_recommended(winner, leaderboard, dataset, folder, record)
        record["seconds"] = spent()
        write_json(folder / RUN_FILE, record)
        write_report(folder, dataset)
    write_json(folder / RUN_FILE, {**record, "status": DONE})
    progress.end()


@contextmanager
def _counting_seconds(folder: Path, record: Mapping[str, Any]) -> Iterator[Callable[[], float]]:
    """What tells the seconds that a run has taken; if it is stopped, run.json has them."""
    started, before = time.perf_counter(), record.get("seconds", 0)

    def spent() -> float:
        return before + time.perf_counter() - started

    try:
        yield spent
    except BaseException:
        with suppress(OSError):  # what stopped the run is what the user is told
            write_json(folder / RUN_FILE, {**record, "seconds": spent()})
        raise


def _by_labels(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows with the same number of labels together, otherwise in their order."""
    counts = list(dict.fromkeys(row.labels for row in rows))
    return tuple(sorted(rows, key=lambda row: counts.index(row.labels)))


@dataclass(frozen=True)
class _Work:
    """What the steps of a run share.

    Attributes:
        everything: whether every row gets its final fit, not only the recommended one.
    """

    folder: Path
    dataset: Dataset
    settings: Settings
    progress: Progress
    everything: bool

    @property
    def context(self) -> Context:
        return Context(self.settings.seed, torch_device(self.settings.device))

    def fit(self, rows: Sequence[Row]) -> Problems:
        """Fit all trials of some rows; the rows that failed."""
        problems: Problems = {}
        place = (self.dataset, self.folder, self.context, self.progress)
        for number, row in enumerate(rows, start=1):
            which = f"[{number}/{len(rows)}]"
            problem = run_folds(row, *place, which)
            if problem is None and self.everything:
                problem = run_finals(row, *place, which)
            if problem is not None:
                problems[row.variant.name, row.labels] = problem
        return problems

    def mix(self, rows: Sequence[Row], problems: Problems) -> list[Members]:
        """An ensemble for every number of labels; those that cannot be made join `problems`."""
        mixtures, why_not = ensembles(rows, problems, self.dataset, self.folder)
        problems |= why_not
        for members in mixtures:
            key = (members.row.variant.name, members.row.labels)
            self.progress.begin(f"ensemble, {key[1]} labels")
            if key not in problems:
                weigh(members)
                try:
                    if self.everything:
                        join(members)
                except RunError as error:
                    problems[key] = str(error)
            self.progress.end()
        return mixtures

    def measure(
        self, rows: Sequence[Row], problems: Problems, asked: Sequence[Variant]
    ) -> dict[str, Any]:
        """The leaderboard, without test numbers."""
        self.progress.begin("measuring")
        leaderboard = make_leaderboard(
            rows,
            problems,
            self.dataset,
            self.folder,
            twins=twins_of(asked),
            metric=self.settings.metric,
            seed=self.settings.seed,
        )
        self.progress.end()
        if leaderboard["recommended"] is None:
            reasons = "; ".join(f"{name}: {why}" for (name, _), why in problems.items())
            raise RunError(f"No variant finished. {reasons}")
        return leaderboard

    def fit_finally(self, winner: Row, mixtures: Sequence[Members]) -> None:
        """The winner's final fit only: others would be judged and kept by nobody."""
        mixture = next((members for members in mixtures if members.row == winner), None)
        place = (self.dataset, self.folder, self.context, self.progress)
        for row in (winner,) if mixture is None else mixture.needed:
            problem = run_finals(row, *place, "[final]")
            if problem is not None:
                raise RunError(f"The final fit of '{row.variant.name}' failed: {problem}")
        if mixture is not None:
            join(mixture)


def _say_notes(record: Mapping[str, Any], progress: Progress) -> None:
    for origin in record.get("backbones", ()):
        progress.say(f"backbone {origin['name']}: license {origin['license']}")
    for sentence in record["warnings"][:MOST_SAID]:
        progress.say(f"note: {sentence}")
    if len(record["warnings"]) > MOST_SAID:
        progress.say(f"note: {len(record['warnings']) - MOST_SAID} more notes are in the report")


def _open_test(rows: Sequence[Row], dataset: Dataset, folder: Path, protocol: Protocol) -> None:
    """Judge every final model on the sealed test part, once; the opening is on record first."""
    log = folder / "sealed.jsonl"
    models = {
        f"{trial.variant}/{trial.name}": trial.record()
        for row in rows
        for trial in row.trials(folder, final=True)
    }
    names = sorted(name for name, record in models.items() if record is not None)
    if not log.exists():
        # Written before the first image is looked at: no opening can go unrecorded. A run that is
        # killed in between goes on with the same opening.
        opening = {
            "opening": 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "images": len(protocol.test),
            "models": names,
        }
        append_line(log, opening)
    for row, trial, model in final_models(rows, folder):
        split = next(s for s in row.splits if (s.repeat, s.fold) == (trial.repeat, trial.fold))
        judge(model, trial, dataset, protocol.test, absent_classes(dataset, split))


def _save_recommended(
    winner: Row,
    leaderboard: Mapping[str, Any],
    dataset: Dataset,
    folder: Path,
    record: Mapping[str, Any],
) -> None:
    """RUN/model: the winner's final fit with what is known about it."""
    _, trial, model = next(iter(final_models([winner], folder)))
    entry = next(
        row
        for row in leaderboard["rows"]
        if (row["variant"], row["labels"]) == (winner.variant.name, winner.labels)
    )
    facts = {
        **model.facts,
        "variant": winner.variant.name,
        "labels": winner.labels,
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "data_notes": list(dataset.context),
        "metrics": entry["metrics"],
        "test": entry["test"],
        "seed": record["settings"]["seed"],
    }
    bundle.save(replace(model, facts=facts), folder / "model")


def _steps(rows: Sequence[Row], plan: Plan, finals: bool, ensemble: bool) -> list[float]:
    """Estimated seconds of every step that the progress display will be told of."""
    steps, final = [], 0.0
    counts = len({row.labels for row in rows})
    for row in rows:
        folds = sum(split.fold >= 0 for split in row.splits)
        last = (len(row.splits) - folds) / (1 if finals else len(plan.seconds))
        seconds = plan.seconds[row.variant.name] / counts / (folds + last)
        steps += [seconds * folds, *([seconds * last] if finals else [])]
        final += 0.0 if finals else seconds * last
    steps += [1.0] * counts if ensemble else []
    return [*steps, plan.after / 2, *([] if finals else [final]), plan.after / 2]


def _announcement(
    dataset: Dataset,
    protocol: Protocol,
    variants: Sequence[Variant],
    plan: Plan,
    settings: Settings,
) -> str:
    labeled = len(dataset.labeled)
    parts = f"{protocol.folds} folds" if protocol.folds > 1 else "one held-out part"
    parts = parts if dataset.class_names else "nothing can be judged"
    test = f", {len(protocol.test)} images sealed for the test" if len(protocol.test) else ""
    lines = [
        f"{dataset.name}: {len(dataset.usable)} images, {labeled} labeled, "
        f"{len(dataset.class_names)} classes; {parts}{test}",
        f"about {clock(plan.total)} in all (budget {settings.budget}):",
    ]
    lines += [f"  {variant.name}: {plan.sentences[variant.name]}" for variant in variants]
    lines += [f"  {item.variant}: left out, {item.reason}" for item in plan.left_out]
    return "\n".join(lines)
