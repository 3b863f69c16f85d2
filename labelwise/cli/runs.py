"""Commands that look at data and make runs: demo, check, compare, train, tune."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from labelwise.cli.app import BEGAN, app
from labelwise.cli.options import (
    Backbone,
    Budget,
    Color,
    Config,
    Continue,
    Data,
    Device,
    Folds,
    ImageSize,
    Json,
    Labels,
    Metric,
    Out,
    Quiet,
    Repeats,
    Resize,
    SaveModels,
    Seed,
    SeenClasses,
    Set,
    Target,
    Test,
)
from labelwise.cli.output import console, print_json, shown_progress


def _run_options(
    target: Target = None,
    labels: Labels = None,
    folds: Folds = None,
    repeats: Repeats = None,
    test: Test = None,
    seed: Seed = None,
    metric: Metric = None,
    backbone: Backbone = None,
    image_size: ImageSize = None,
    color: Color = None,
    resize: Resize = None,
    seen_classes: SeenClasses = None,
    set: Set = None,
    config: Config = None,
    budget: Budget = None,
    device: Device = None,
    resume: Continue = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """The options that every command shares which makes a run."""


def _run_command(
    job: Callable[..., Any], show: Callable[[Any, bool], None] | None = None
) -> Callable[..., None]:
    """A command that makes a run: `job` with the shared options, a display, and what it ends with.

    The job's own options can come from the --config file as well, but for its arguments.
    """
    own = [p for p in _parameters(job) if p.kind != p.VAR_KEYWORD]
    arguments = [p.name for p in own if p.default is p.empty]

    def command(**values: Any) -> None:
        fixed = {name: values.pop(name) for name in arguments}
        config, resume, quiet, json_ = (
            values.pop(name) for name in ("config", "resume", "quiet", "json_")
        )
        options = _with_config({**values, "set": tuple(values["set"] or ()) or None}, config)
        with shown_progress(quiet or json_) as progress:
            run = job(**fixed, **options, resume=resume, progress=progress, command=called_as())
        (show or _show_run)(run, json_)

    # Typer reads the options off the signature.
    parameters = [*own, *_parameters(_run_options)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__name__, command.__doc__ = job.__name__, job.__doc__
    return app.command()(command)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.")] = Path("demo-run"),
    resume: Continue = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """The main job on 2,624 real solar-cell photos; no network needed.

    Example: labelwise demo --out runs/demo
    """
    from labelwise.showcase import demo as run_demo

    with shown_progress(quiet or json_) as progress:
        run = run_demo(out, resume=resume, progress=progress, command=called_as())
    _show_run(run, json_)


@app.command()
def check(data: Data, target: Target = None, json_: Json = False) -> None:
    """What is in the data, and what is wrong with it: a decision for every file.

    Example: labelwise check photos
    """
    from labelwise.checks import check as look
    from labelwise.progress import scanning

    with shown_progress(json_) as progress:
        found = look(data, target=target, progress=scanning(progress))
    if json_:
        print_json(found.to_json())
    else:
        console().print(found.summary())


@_run_command
def compare(
    data: Data,
    out: Out,
    recipes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help='Variants, such as "cnn, pool=cnn(preset=mammals-pool), probe". By default those '
            "that fit the data, the machine and the budget.",
        ),
    ] = None,
    save_models: SaveModels = None,
    ensemble: Annotated[
        bool | None,
        typer.Option("--ensemble", help="Also a weighted mean of all variants' answers."),
    ] = None,
    **options: Any,
) -> Any:
    """The main job: recipes side by side, a leaderboard, a report and the best model.

    \b
    Examples:
    labelwise compare photos --out runs/first
    labelwise compare photos --out runs/curve --labels 1,4,25/class --recipes cnn,probe
    labelwise compare labels.csv --target species --test 0.2 --out runs/second
    labelwise compare photos --out runs/mixed --recipes 'probe, finetune, cnn' --ensemble
    """
    from labelwise.run import compare as run_compare

    options |= {"save_models": save_models, "ensemble": ensemble}
    return run_compare(data, out=out, recipes=recipes, began=BEGAN, **options)


@_run_command
def train(
    data: Data,
    recipe: Annotated[str, typer.Option(metavar="NAME", help="Recipe, as cnn(epochs=5).")],
    out: Out,
    **options: Any,
) -> Any:
    """One recipe, with the same protocol, report and saved model as compare.

    \b
    Examples:
    labelwise train photos --recipe probe --out runs/probe
    labelwise train other-photos --recipe probe --backbone runs/first --out runs/transfer
    """
    from labelwise.run import train as run_train

    return run_train(data, recipe=recipe, out=out, began=BEGAN, **options)


def _show_tuning(tuning: Any, as_json: bool) -> None:
    from labelwise.tables import tuning_table

    results = tuning.results
    if as_json:
        print_json({"run": str(tuning.folder), "report": str(tuning.report), **results})
        return
    shown = console()
    shown.print(tuning_table(tuning.trials, results))
    for text in (results["variant"], results["caution"], results["next"]):
        shown.print(text, soft_wrap=True, markup=False, end="\n\n")
    print(tuning.report.resolve())


@partial(_run_command, show=_show_tuning)
def tune(
    data: Data,
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="Recipe, as cnn(epochs=5); given fields are fixed.")
    ],
    out: Out,
    trials: Annotated[int | None, typer.Option(help="At most so many. Default 40.")] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=RANGE",
            help="Instead of the declared range: lr=1e-4..1e-2 or 'batch=16|32'; may be repeated.",
        ),
    ] = None,
    **options: Any,
) -> Any:
    """Search over a recipe's fields by successive halving; the test part is never looked at.

    Here --set is FIELD=VALUE and fixes a field, and --folds are inner folds of the labels.

    \b
    Examples:
    labelwise tune photos --recipe cnn --out runs/tuned --test 0.2 --trials 40 --budget 10m
    labelwise tune photos --recipe cnn --out runs/lr --set batch=32 --search lr=1e-4..1e-2
    """
    from labelwise.tuning.search import tune as run_search

    searches = search if isinstance(search, str) else tuple(search or ()) or None
    return run_search(data, out=out, recipe=recipe, trials=trials, search=searches, **options)


def _with_config(given: dict[str, Any], config: Path | None) -> dict[str, Any]:
    """Options from the command line, over those from the file."""
    from labelwise.settings import read_config

    options = read_config(config, given) if config is not None else {}
    return {**options, **{name: value for name, value in given.items() if value is not None}}


def called_as() -> list[str]:
    """The call, for the record."""
    return ["labelwise", *sys.argv[1:]]


def _show_run(run: Any, as_json: bool) -> None:
    from labelwise.tables import leaderboard_table

    if as_json:
        print_json({"run": str(run.folder), "report": str(run.report), **run.results})
        return
    console().print(leaderboard_table(run.results))
    console().print(run.results["why"], soft_wrap=True, markup=False)
    print(run.report.resolve())
