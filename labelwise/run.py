"""compare: the main job. Recipes side by side, under one protocol, into a run folder."""

from __future__ import annotations

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
)
from labelwise.data.splits_table import splits_from_table, splits_table
from labelwise.ensemble import check_name
from labelwise.errors import DataError, OptionError
from labelwise.execute import DONE, execute
from labelwise.files import (
    as_path,
    intact,
    read_json,
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
from labelwise.machine import machine, torch_device, versions
from labelwise.measure.metrics import check_metric
from labelwise.model import Model
from labelwise.overlap import backbones_of, known_already
from labelwise.plan import make_plan
from labelwise.progress import Progress, Silent, scanning
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Context, Recipe
from labelwise.recipe.variants import Variant, not_a_recipe, parse_variants, recipe_of
from labelwise.record import read_record
from labelwise.settings import Settings, option_name
from labelwise.transfer import find_backbone
from labelwise.twins import alike, twins_of, with_twins

RUNNING = "running"  # the status of a run that is not done


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
    _check_ensemble(settings, variants, dataset, asked.compared)
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
            execute(folder, dataset, settings, protocol, record, variants, progress)
        if settings.save_models != "all":
            # Only now: until the run is done, these spare a resumed one the final fits.
            for model in (folder / "trials").glob("*/*/model*"):
                shutil.rmtree(model)
    return Run(folder)


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
    known = known_already(variants, dataset, protocol.test)
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
        "backbones": [find_backbone(name).origin for name in backbones_of(variants)],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "folds": protocol.folds,
        "plan": plan.to_json(),
        "warnings": [
            *dataset.warnings,
            *protocol.warnings,
            *known,
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


def _check_ensemble(
    settings: Settings, variants: Sequence[Variant], dataset: Dataset, compared: bool
) -> None:
    if not settings.ensemble:
        return
    check_name(variants)
    if not compared or len(variants) < 2 or not dataset.class_names:
        why = "images without a label" if not dataset.class_names else "one variant"
        raise OptionError(
            f"--ensemble: there is nothing to mix in {why}. An ensemble is made of two or more "
            "variants that `labelwise compare` has judged."
        )


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
