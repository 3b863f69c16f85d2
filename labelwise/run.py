"""compare: the main job. Recipes side by side, under one protocol, into a run folder."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise import bundle
from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable, load
from labelwise.data.split import (
    Protocol,
    make_protocol,
    protocol_without_labels,
    splits_from_table,
    splits_table,
)
from labelwise.errors import DataError, OptionError, RunError
from labelwise.files import (
    append_line,
    as_path,
    expanded,
    intact,
    read_json,
    remove_temporary,
    write_json,
    write_parquet,
)
from labelwise.folders import (
    ANOTHER,
    RUN_FILE,
    asked_settings,
    check_same_data,
    data_record,
    locked,
    run_folder,
)
from labelwise.leaderboard import add_test, make_leaderboard, pool, suspects
from labelwise.machine import machine, torch_device, versions
from labelwise.measure.metrics import check_metric
from labelwise.model import Model
from labelwise.overlap import overlap_warning
from labelwise.plan import Plan, make_plan
from labelwise.progress import Progress, Silent, clock, scanning
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Context, Recipe
from labelwise.recipe.variants import Variant, not_a_recipe, parse_variants, recipe_of
from labelwise.record import read_record
from labelwise.report.report import write_report
from labelwise.settings import Settings, option_name
from labelwise.store import tidy_stores
from labelwise.transfer import SavedBackbone, familiar, find_backbone
from labelwise.trials import (
    Row,
    absent_classes,
    final_models,
    judge,
    rows_of,
    run_finals,
    run_folds,
)
from labelwise.twins import alike, twins_of, with_twins

MOST_SAID = 8  # warnings that are shown before the run; the report has all of them
RUNNING, DONE = "running", "done"


@dataclass(frozen=True)
class Run:
    """A run on disk."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", as_path(self.folder, "Run"))

    @property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return read_record(self.folder)

    @property
    def results(self) -> dict[str, Any]:
        """leaderboard.json."""
        file = self.folder / "leaderboard.json"
        with intact(file, "The run has to be done again, with another --out."):
            values: dict[str, Any] = read_json(file)
            return {**values, "metric": values["metric"], "rows": list(values["rows"])}

    @property
    def leaderboard(self) -> pd.DataFrame:
        """A row per variant and number of labels: the run's metric with its interval, and times."""
        results = self.results
        metric = results["metric"]
        rows = []
        for row in results["rows"]:
            value = (row["metrics"] or {}).get(metric) or {}
            test = (row["test"] or {}).get(metric) or {}
            rows.append(
                {
                    "variant": row["variant"],
                    "labels": row["labels"],
                    "status": row["status"],
                    metric: value.get("value"),
                    "low": value.get("low"),
                    "high": value.get("high"),
                    "n": value.get("n"),
                    f"train_{metric}": (row["train"] or {}).get(metric),
                    f"test_{metric}": test.get("value"),
                    "fit_seconds": row["fit_seconds"],
                }
            )
        return pd.DataFrame(rows)

    @property
    def model(self) -> Model:
        """The recommended model."""
        return bundle.load(self.folder / "model")

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"


def compare(
    data: Loadable,
    *,
    out: str | Path,
    recipes: str | Sequence[str | Recipe] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    began: float | None = None,
    **options: Any,
) -> Run:
    """Compare recipes on a data set and keep everything in a run folder.

    Args:
        data: what `load` takes.
        out: the run's folder; must not exist, unless `resume`.
        recipes: variants such as "cnn, pool=cnn(preset=mammals-pool)"; by default those that fit
            the data, the machine and the time budget.
        resume: continue a run that was interrupted; options not given are taken from it.
        progress: shown what is going on.
        command: how the user called it, for the record.
        began: the `time.perf_counter()` that the budget counts from; None: now.
        options: the fields of `Settings`.

    Raises:
        UsageError: the call or the data is unusable; nothing has been written then.
        RunError: no variant finished.
    """
    asked = _recipes(recipes)
    return _run(data, out, asked, resume, progress or Silent(), command, began, options)


def _run(
    data: Loadable,
    out: str | Path,
    asked: _Asked,
    resume: bool,
    progress: Progress,
    command: Sequence[str],
    began: float | None,
    options: Mapping[str, Any],
) -> Run:
    began = time.perf_counter() if began is None else began
    folder = run_folder(out, data)
    settings, variants = _settled(folder, asked, options, resume)
    dataset = load(data, target=settings.target, progress=scanning(progress))
    if not dataset.class_names:
        _check_without_labels(dataset, variants, settings)
    with locked(folder):
        # Once more: while the data was looked at, another process may have begun this run.
        settings, variants = _settled(folder, asked, options, resume)
        if (folder / RUN_FILE).exists():
            record, protocol = _continued(folder, dataset)
        else:
            record, protocol = _begun(
                folder, dataset, data, settings, command, variants, asked.any, progress, began
            )
        if record["status"] != DONE:
            _execute(folder, dataset, settings, protocol, record, variants, progress)
        if settings.save_models != "all":
            # Only now: until the run is done, these spare a resumed one the final fits.
            for model in (folder / "trials").glob("*/*/model*"):
                shutil.rmtree(model)
    return Run(folder)


def _execute(
    folder: Path,
    dataset: Dataset,
    settings: Settings,
    protocol: Protocol,
    record: dict[str, Any],
    asked: Sequence[Variant],
    progress: Progress,
) -> None:
    remove_temporary(folder)
    tidy_stores()
    started = time.perf_counter()
    plan = Plan.from_json(record["plan"])
    variants = plan.apply(asked)
    context = Context(settings.seed, torch_device(settings.device))
    rows = rows_of(variants, protocol.splits)
    judged = bool(len(protocol.test))
    everything = judged or not dataset.class_names or settings.save_models == "all"
    progress.plan(_steps(rows, plan, everything))
    progress.say(_announcement(dataset, protocol, variants, plan, settings))
    for origin in record.get("backbones", ()):
        progress.say(f"backbone {origin['name']}: license {origin['license']}")
    for sentence in record["warnings"][:MOST_SAID]:
        progress.say(f"note: {sentence}")
    if len(record["warnings"]) > MOST_SAID:
        progress.say(f"note: {len(record['warnings']) - MOST_SAID} more notes are in the report")

    problems: dict[tuple[str, str], str] = {}
    for number, row in enumerate(rows, start=1):
        place = f"[{number}/{len(rows)}]"
        problem = run_folds(row, dataset, folder, context, progress, place)
        if problem is None and everything:
            problem = run_finals(row, dataset, folder, context, progress, place)
        if problem is not None:
            problems[row.variant.name, row.labels] = problem
    progress.begin("measuring")
    leaderboard = make_leaderboard(
        rows,
        problems,
        dataset,
        folder,
        twins=twins_of(asked),
        metric=settings.metric,
        seed=settings.seed,
    )
    progress.end()
    if leaderboard["recommended"] is None:
        reasons = "; ".join(f"{name}: {why}" for (name, _), why in problems.items())
        raise RunError(f"No variant finished. {reasons}")
    winner = next(
        row
        for row in rows
        if row.variant.name == leaderboard["recommended"]
        and row.labels == leaderboard["recommended_labels"]
    )
    if not everything:
        # A final fit that nobody judges and nobody keeps would be wasted: only the winner's.
        problem = run_finals(winner, dataset, folder, context, progress, "[final]")
        if problem is not None:
            raise RunError(f"The final fit of '{winner.variant.name}' failed: {problem}")
    progress.begin("judging and writing the report")
    if judged:
        _open_test(rows, dataset, folder, protocol)
        add_test(leaderboard, rows, dataset, folder, settings.seed)
    write_json(folder / "leaderboard.json", leaderboard)
    table = pool(winner.trials(folder, final=False))
    write_parquet(folder / "suspects.parquet", suspects(table, dataset))
    _save_recommended(winner, leaderboard, dataset, folder, record)
    record["seconds"] = record.get("seconds", 0) + time.perf_counter() - started
    write_json(folder / RUN_FILE, record)
    write_report(folder, dataset)
    write_json(folder / RUN_FILE, {**record, "status": DONE})
    progress.end()


def _begun(
    folder: Path,
    dataset: Dataset,
    data: Loadable,
    settings: Settings,
    command: Sequence[str],
    variants: Sequence[Variant],
    asked_for: bool,
    progress: Progress,
    began: float,
) -> tuple[dict[str, Any], Protocol]:
    """Draw the splits, make the plan, and write the files a resumed run starts from."""
    if dataset.class_names:
        check_metric(settings.metric, len(dataset.class_names))
        protocol = make_protocol(
            dataset,
            labels=settings.label_counts,
            folds=settings.folds,
            repeats=settings.repeats,
            test=settings.test,
            seed=settings.seed,
        )
    else:
        protocol = protocol_without_labels(dataset)
    known = _familiar(variants, dataset, protocol.test)
    progress.say(f"{dataset.name}: measuring how fast this machine is")
    plan = make_plan(
        dataset,
        protocol,
        variants,
        asked_for=asked_for,
        finals=bool(len(protocol.test)) or not dataset.class_names or settings.save_models == "all",
        budget_seconds=settings.budget_seconds,
        elapsed=lambda: time.perf_counter() - began,
        context=Context(settings.seed, torch_device(settings.device)),
    )
    plan = alike(plan, twins_of(variants))
    table = dataset.table.copy()
    table.loc[protocol.test, "split"] = "test"
    write_parquet(folder / "data.parquet", table)
    write_parquet(folder / "folds.parquet", splits_table(protocol.splits))
    record = {
        "status": RUNNING,
        "command": list(command),
        "data": data_record(data, dataset),
        "settings": settings.model_dump(mode="json"),
        "variants": {v.name: v.recipe.configuration for v in variants},
        "backbones": [find_backbone(name).origin for name in _backbones(variants)],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "folds": protocol.folds,
        "plan": plan.to_json(),
        "warnings": [
            *dataset.warnings,
            *protocol.warnings,
            *known,
            *_overlaps(variants, dataset),
            *plan.warnings,
        ],
    }
    write_json(folder / RUN_FILE, record)  # last: a folder with it can be resumed
    return record, protocol


def _check_without_labels(
    dataset: Dataset, variants: Sequence[Variant], settings: Settings
) -> None:
    """Data without any label can be learned from by one recipe that needs none, and not judged."""
    able = [name for name, recipe in RECIPES.items() if not recipe.needs_labels]
    if len(variants) > 1 or variants[0].recipe.needs_labels:
        what = (
            "there is nothing to compare"
            if len(variants) > 1
            else f"the recipe {variants[0].recipe.name!r} has nothing to learn from"
        )
        raise DataError(
            f"{dataset.name}: no image has a label, so {what}. Sort some images into one folder "
            "per class, or name the label column with --target. Without labels there is "
            f"`labelwise train`, with one of the recipes {', '.join(able)}."
        )
    for name, default in (("test", None), ("folds", None), ("repeats", 1), ("labels", "all")):
        if getattr(settings, name) != default:
            raise OptionError(
                f"{option_name(name)} {getattr(settings, name)}: no image has a label, so nothing "
                "can be judged. Leave the option out."
            )


def _backbones(variants: Sequence[Variant]) -> list[str]:
    """Names of the backbones that variants build on, each once."""
    return list(dict.fromkeys(name for v in variants for name in v.recipe.backbones))


def _overlaps(variants: Sequence[Variant], dataset: Dataset) -> list[str]:
    """Warnings about backbones that know classes of the data."""
    found = (
        overlap_warning(find_backbone(name), dataset.class_names) for name in _backbones(variants)
    )
    return [sentence for sentence in found if sentence is not None]


def _familiar(variants: Sequence[Variant], dataset: Dataset, test: np.ndarray) -> list[str]:
    """Warnings about backbones that have learned from images which are judged here."""
    labeled = dataset.labeled
    warnings = []
    for name in _backbones(variants):
        backbone = find_backbone(name)
        if not isinstance(backbone, SavedBackbone):
            continue
        place, facts = expanded(name), backbone.model.facts
        if learned := familiar(place, facts, dataset, labeled):
            kept = len(test) and not familiar(place, facts, dataset, test)
            but = f" Of the {len(test)} images of the test part it has seen none." if kept else ""
            warnings.append(
                f"The backbone {name!r} {learned}: whatever builds on it is judged on images that "
                f"it knows, and looks better than it is.{but}"
            )
    return warnings


def _continued(folder: Path, dataset: Dataset) -> tuple[dict[str, Any], Protocol]:
    """What a run that was interrupted had begun with."""
    record = read_record(folder)
    check_same_data(folder, record, dataset)
    with intact(folder / "folds.parquet", ANOTHER):
        splits = splits_from_table(pd.read_parquet(folder / "folds.parquet"))
    with intact(folder / "data.parquet", ANOTHER):
        table = pd.read_parquet(folder / "data.parquet", columns=["id", "split", "label"])
        test = table[(table["split"] == "test") & table["label"].notna()]["id"].to_numpy()
    test = np.intersect1d(test, dataset.usable)
    return record, Protocol(splits, test, record["folds"], ())


@dataclass(frozen=True)
class _Asked:
    """The variants that were asked for.

    Attributes:
        texts: None if there are none.
        made: recipes given as values, from Python only.
        option: that named them, for messages.
        compared: with each other, and with their twins.
    """

    texts: tuple[str, ...] | None
    made: tuple[Recipe, ...]
    option: str
    compared: bool

    @property
    def any(self) -> bool:
        return bool(self.texts or self.made)


def _settled(
    folder: Path, asked: _Asked, options: Mapping[str, Any], resume: bool
) -> tuple[Settings, tuple[Variant, ...]]:
    """The settings and variants of this run."""
    given = {"recipes": asked.texts, **options}
    settings = asked_settings(Settings, folder, given, resume, called={"recipes": asked.option})
    return settings, _variants(folder, settings, asked)


def _recipes(
    recipes: str | Sequence[str | Recipe] | None,
    option: str = "--recipes",
    *,
    compared: bool = True,
) -> _Asked:
    if recipes is None:
        return _Asked(None, (), option, compared)
    listed = list(recipes) if isinstance(recipes, list | tuple) else [recipes]
    for item in listed:
        if not isinstance(item, str | Recipe):
            raise OptionError(not_a_recipe(option, item))
    if not listed:
        raise OptionError(f"{option}: none is named. Leave the option out for those that fit.")
    texts = tuple(item for item in listed if isinstance(item, str))
    made = tuple(item for item in listed if isinstance(item, Recipe))
    return _Asked(texts or None, made, option, compared)


def _variants(folder: Path, settings: Settings, given: _Asked) -> tuple[Variant, ...]:
    """What to compare; on resume what the run began with, which given recipes must equal."""
    asked: list[str | Recipe] = [*(settings.recipes or ()), *given.made]
    variants = parse_variants(
        asked or list(RECIPES),
        settings=settings.set,
        defaults=settings.recipe_fields,
        option=given.option,
    )
    named = settings.seen_classes
    if named is not None and not any(hasattr(v.recipe, "seen_classes") for v in variants):
        raise OptionError(
            f"--seen-classes {named}: none of these recipes can learn from some classes only. "
            "That is for embeddings: use metric, or leave the option out."
        )
    variants = with_twins(variants) if given.compared else variants
    if not (folder / RUN_FILE).exists():
        return variants
    began = read_record(folder)["variants"]
    if {variant.name: variant.recipe.configuration for variant in variants} == began:
        return variants
    if given.made:
        raise OptionError(
            f"--out {folder}: this run began with other recipes ({', '.join(began)}; their fields "
            "are in its run.json). Resume it with the same ones, or begin a new run."
        )
    return tuple(Variant(name, recipe_of(values)) for name, values in began.items())


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
    bundle.save(dataclasses.replace(model, facts=facts), folder / "model")


def _steps(rows: Sequence[Row], plan: Plan, finals: bool) -> list[float]:
    """Estimated seconds of every step that the progress display will be told of."""
    steps, final = [], 0.0
    counts = len({row.labels for row in rows})
    for row in rows:
        folds = sum(split.fold >= 0 for split in row.splits)
        last = (len(row.splits) - folds) / (1 if finals else len(plan.seconds))
        seconds = plan.seconds[row.variant.name] / counts / (folds + last)
        steps += [seconds * folds, *([seconds * last] if finals else [])]
        final += 0.0 if finals else seconds * last
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


def train(
    data: Loadable,
    *,
    recipe: str | Recipe,
    out: str | Path,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    began: float | None = None,
    **options: Any,
) -> Run:
    """One recipe under the protocol of `compare`, which the other arguments are those of.

    Data without any label are learned from by recipes that need none (`probe`): the result is a
    model without a head that embeds.
    """
    asked = _recipes([recipe], "--recipe", compared=False)
    if asked.texts and (count := len(parse_variants(asked.texts, option=asked.option))) > 1:
        raise OptionError(
            f"--recipe {recipe!r} names {count} recipes. Give one, or compare them with "
            "`labelwise compare`."
        )
    return _run(data, out, asked, resume, progress or Silent(), command, began, options)
