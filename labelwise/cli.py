"""The command line: one short function per command, each calling the function of the same name."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

# Read by OpenMP when torch is first imported, so it must stand before that: a thread that waits
# sleeps instead of spinning, which leaves the cores to the decoders.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from typer.exceptions import TyperException

from labelwise import __version__
from labelwise.errors import LabelwiseError, OptionError, interruption
from labelwise.machine import keep_memory
from labelwise.plain import message_line

# What a budget counts from: the start of the process, which has only computed until here.
BEGAN = time.perf_counter() - time.process_time()
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 130  # what typer makes of Ctrl-C
ENDED: dict[Any, str] = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
KEPT = "what was finished is kept (a run goes on with --resume)"

app = typer.Typer(
    name="labelwise",
    help="From a folder of images, few of them labeled, to the best classifier those labels can "
    "buy, with proof of how good it is.\n\nStart with: labelwise demo",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# Numbers are read with the other options, in Settings: one place that says what was expected.
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder or archive of images, CSV, JSON lines or Parquet manifest, .npz or .npy, "
        "folder of Parquet files, or a name (digits, elpv, mnist, ...).",
    ),
]
Saved = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Folder of a saved model, or of a run.")
]
Embedder = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Folder of a saved model or of a run, or a backbone's name."
    ),
]
Format = Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")]
OutFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write there instead of printing.")
]
Out = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run; it is made.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Target = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Label column, where there are several.")
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Labels to learn from: all, 40, 4/class, or several: 1,4,25/class."
    ),
]
Folds = Annotated[
    str | None,
    typer.Option(metavar="N", help="Folds; by default 5, or one part above 5,000 labels."),
]
Repeats = Annotated[
    str | None, typer.Option(metavar="N", help="Repetitions with other folds. Default 1.")
]
Test = Annotated[
    str | None, typer.Option(metavar="FRACTION", help="Share of the labels to seal for a test.")
]
Seed = Annotated[str | None, typer.Option(metavar="N", help="Of everything random. Default 0.")]
Metric = Annotated[str | None, typer.Option(help="What to compare by. Default accuracy.")]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER", help="Pretrained network (see labelwise doctor) or a saved model."
    ),
]
ImageSize = Annotated[str | None, typer.Option(metavar="N", help="Pixels a side.")]
Color = Annotated[
    str | None,
    typer.Option(metavar="rgb|gray", help="Colors to use. By default those the images have."),
]
Resize = Annotated[
    str | None,
    typer.Option(metavar="crop|squash|pad", help="How other shapes become square. Default crop."),
]
SeenClasses = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", help="Classes that an embedding (metric) learns from. Default all."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="VARIANT.FIELD=VALUE", help="Change a hyperparameter; may be repeated."
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Options from a TOML file.")]
Budget = Annotated[str | None, typer.Option(metavar="TIME", help="90s, 10m, 2h. Default 10m.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps. Default auto.")]
SaveModels = Annotated[
    str | None, typer.Option(help="recommended, or all final fits. Default recommended.")
]
Continue = Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")]


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
        with _progress(quiet or json_) as progress:
            run = job(**fixed, **options, resume=resume, progress=progress, command=_command())
        (show or _show_run)(run, json_)

    # Typer reads the options off the signature.
    parameters = [*own, *_parameters(_run_options)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__name__, command.__doc__ = job.__name__, job.__doc__
    return app.command()(command)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


@app.callback(invoke_without_command=True)
def labelwise(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"labelwise {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


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

    with _progress(quiet or json_) as progress:
        run = run_demo(out, resume=resume, progress=progress, command=_command())
    _show_run(run, json_)


@app.command()
def check(data: Data, target: Target = None, json_: Json = False) -> None:
    """What is in the data, and what is wrong with it: a decision for every file.

    Example: labelwise check photos
    """
    from labelwise.checks import check as look
    from labelwise.progress import scanning

    with _progress(json_) as progress:
        found = look(data, target=target, progress=scanning(progress))
    if json_:
        _print_json(found.to_json())
    else:
        _console().print(found.summary())


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
        _print_json({"run": str(tuning.folder), "report": str(tuning.report), **results})
        return
    console = _console()
    console.print(tuning_table(tuning.trials, results))
    for text in (results["variant"], results["caution"], results["next"]):
        console.print(text, soft_wrap=True, markup=False, end="\n\n")
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


@app.command()
def evaluate(
    model: Saved,
    data: Data,
    target: Target = None,
    split: Annotated[
        str | None, typer.Option(metavar="PART", help="Only this given part: train, val or test.")
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Images of other classes: how well are they told from known ones? May be DATA "
            "itself, whose classes that the model knows are left out here.",
        ),
    ] = None,
    embedding: Annotated[
        bool,
        typer.Option(
            "--embedding", help="Judge the embedding instead, also on classes that are new to it."
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """A saved model on other labeled images.

    \b
    Examples:
    labelwise evaluate runs/first photos-of-may
    labelwise evaluate runs/first photos-of-may --unknown holiday-photos
    labelwise evaluate runs/likeness other-photos --embedding
    """
    from labelwise.tables import judgement_table, nearness_table
    from labelwise.use import evaluate as judge_answers
    from labelwise.use import judge

    if embedding:
        if unknown is not None:
            raise OptionError("--embedding and --unknown are two questions: leave one of them out.")
        found = judge(model, data, target=target, split=split)
        if json_:
            _print_json(found.to_json())
        else:
            _console().print(nearness_table(found))
        return
    judged = judge_answers(model, data, target=target, split=split, unknown=unknown)
    if json_:
        _print_json(judged.to_json())
    else:
        _console().print(judgement_table(judged))


@app.command()
def predict(
    model: Saved,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images and folders.")],
    unknown: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="How many images of known classes may be called unknown: 0.1, 0.05, 0.02, 0.01, "
            "or 0 for never. Default 0.05.",
        ),
    ] = None,
    coverage: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Give sets of classes that hold the true one so often: 0.8, 0.9, 0.95, 0.98 "
            "or 0.99.",
        ),
    ] = None,
    sets: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="lac: small sets. aps, raps: larger where it is hard. per-class: so often in "
            "every class.",
        ),
    ] = "lac",
    max_error: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Answer only as long as no more answers are wrong: 0.1, 0.05, 0.02, 0.01.",
        ),
    ] = None,
    format_: Format = "table",
    out: OutFile = None,
) -> None:
    """A saved model's answers for new images.

    The status is `unknown` for an image unlike all it has learned from, `unsure` where --max-error
    leaves it without an answer.

    \b
    Examples:
    labelwise predict runs/first new.jpg more-photos --format csv --out answers.csv
    labelwise predict runs/first new.jpg --unknown 0.01
    labelwise predict runs/first more-photos --coverage 0.9
    labelwise predict runs/first more-photos --max-error 0.02
    """
    from labelwise.tables import check_format, predictions_table, print_answers
    from labelwise.use import predict as answer

    check_format(format_, out)
    answers = answer(
        model,
        paths,
        unknown=_share("--unknown", unknown, "0.05, or 0 for never"),
        coverage=_share("--coverage", coverage, "0.9"),
        sets=sets,
        max_error=_share("--max-error", max_error, "0.02"),
    )
    if not len(answers):
        print("labelwise: there is no file to answer for", file=sys.stderr)
    print_answers(answers, format_, out, predictions_table)


@app.command()
def explain(
    model: Saved,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images and folders.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures and the page.")],
    of: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="NAME", help="What to look for. Default: the most probable class."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="cam, grad-cam or occlusion. Default auto: the most exact one that is possible."
        ),
    ] = "auto",
    channels: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Channels of the last maps to show as they are."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Where a model looks: class activation maps as pictures, and one page with all of them.

    \b
    Examples:
    labelwise explain runs/first photos/cat --out looks
    labelwise explain runs/first new.jpg --class dog --out looks
    labelwise explain runs/first new.jpg --channels 0,7,12 --out looks
    """
    from labelwise.explaining import explain as show
    from labelwise.progress import scanning

    with _progress(quiet) as progress:
        shown = show(
            model,
            paths,
            out=out,
            of=of,
            method=method,
            channels=_numbers("--channels", channels),
            progress=scanning(progress),
        )
    aside = int((shown.table["status"] != "ok").sum())
    if aside:
        files = "1 file is" if aside == 1 else f"{aside} files are"
        print(f"labelwise: {files} set aside; the page says why", file=sys.stderr)
    if shown.alarm:
        print(f"labelwise: {shown.alarm}", file=sys.stderr)
    print(shown.page.resolve())


@app.command()
def mistakes(
    model: Saved,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page and pictures.")],
    target: Target = None,
    split: Annotated[
        str | None, typer.Option(metavar="PART", help="Only this given part: train, val or test.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """The images that a model is wrong about, where it looks and what is similar, on a page.

    \b
    Examples:
    labelwise mistakes runs/first photos-of-may --out mistakes
    labelwise mistakes runs/first photos --split val --out mistakes
    """
    from labelwise.leafing import mistakes as show
    from labelwise.progress import scanning

    with _progress(quiet) as progress:
        found = show(model, data, out=out, target=target, split=split, progress=scanning(progress))
    wrong = int((found.table["label"] != found.table["predicted"]).sum())
    for sentence in found.warnings:
        print(f"note: {sentence}", file=sys.stderr)
    print(f"{wrong} of {len(found.table)} images are wrong", file=sys.stderr)
    print(found.page.resolve())


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page and the table.")],
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="The run's data, where they have moved.")
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Write a manifest too, with the proposed labels from this score (0 to 1) on.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Labels that are probably wrong, to look at and put right; nothing is changed.

    \b
    Examples:
    labelwise audit runs/first --out audit
    labelwise audit runs/first --out audit --accept 0.9
    """
    from labelwise.auditing import audit as look
    from labelwise.progress import scanning

    with _progress(quiet) as progress:
        found = look(
            run,
            data,
            out=out,
            accept=_share("--accept", accept, "0.9"),
            progress=scanning(progress),
        )
    suspected = int((found.table["score"] > 0.5).sum())
    print(f"{suspected} of {len(found.table)} labels are suspicious", file=sys.stderr)
    if found.corrected is not None:
        print(found.corrected.resolve(), file=sys.stderr)
    print(found.page.resolve())


@app.command()
def embed(
    model: Embedder,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="The table; it is replaced.")],
    target: Target = None,
    quiet: Quiet = False,
) -> None:
    """Images as points: the embedding of every image, as a Parquet table.

    \b
    Examples:
    labelwise embed runs/first photos --out embeddings.parquet
    labelwise embed efficientnet-lite0 photos --out embeddings.parquet
    """
    from labelwise.embedding import write_embeddings
    from labelwise.progress import scanning

    with _progress(quiet) as progress:
        count = write_embeddings(out, model, data, target=target, progress=scanning(progress))
    print(f"{count} images: {out}", file=sys.stderr)


@app.command("map")
def map_embeddings(
    model: Embedder,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page; it is replaced.")],
    target: Target = None,
    split: Annotated[
        str | None, typer.Option(metavar="PART", help="Only this given part: train, val or test.")
    ] = None,
    onto: Annotated[
        Path | None,
        typer.Option(metavar="OLD.html", help="Place the images on this map instead."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Images where a model puts them: an interactive page with PCA, t-SNE and UMAP.

    \b
    Examples:
    labelwise map runs/first photos --out map.html
    labelwise map runs/first photos --split test --out map.html
    labelwise map efficientnet-lite0 photos --out map.html
    labelwise map runs/first new-photos --onto map.html --out new.html
    """
    from labelwise.atlas.drawing import map_embeddings as draw
    from labelwise.progress import scanning

    with _progress(quiet) as progress:
        drawn = draw(
            model,
            data,
            out=out,
            target=target,
            split=split,
            onto=onto,
            progress=scanning(progress),
        )
    for note in drawn.notes:
        print(note, file=sys.stderr)
    print(drawn.page.resolve())


@app.command()
def similar(
    model: Embedder,
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="The file of an image.")],
    data: Data,
    count: Annotated[str, typer.Option(metavar="N", help="Images to show.")] = "10",
    target: Target = None,
    format_: Format = "table",
    out: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """The images of a data set that are most like a given one, best first.

    \b
    Examples:
    labelwise similar runs/first new.jpg photos
    labelwise similar efficientnet-lite0 new.jpg photos --count 50 --format csv --out like-it.csv
    """
    from labelwise.likeness import similar as search
    from labelwise.progress import scanning
    from labelwise.tables import check_format, likeness_table, print_answers

    check_format(format_, out)
    if not count.isdecimal():
        raise OptionError(f"--count {count}: expected a whole number, at least 1.")
    with _progress(quiet) as progress:
        found = search(
            model, query, data, count=int(count), target=target, progress=scanning(progress)
        )
    print_answers(found, format_, out, likeness_table)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them.")] = None,
    json_: Json = False,
) -> None:
    """The recipes there are; with a name, its hyperparameters, defaults and meaning.

    Example: labelwise recipes cnn
    """
    from labelwise.recipe.describe import recipes as describe
    from labelwise.tables import recipes_table

    found = describe(name)
    if json_:
        _print_json(found)
    else:
        _console().print(recipes_table(found))


@app.command()
def doctor(
    json_: Json = False,
    empty_cache: Annotated[
        bool, typer.Option("--empty-cache", help="Delete all stored features first.")
    ] = False,
    download: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Fetch the weights of this timm network first."),
    ] = None,
) -> None:
    """The machine, the versions, the backbones at hand, and what would need a download.

    \b
    Examples:
    labelwise doctor
    labelwise doctor --download resnet50.a1_in1k
    """
    from labelwise.machine import doctor as examine
    from labelwise.store import empty_stores
    from labelwise.tables import doctor_table

    if download is not None:
        from labelwise.backbones import download_weights

        download_weights(download)
    if empty_cache:
        empty_stores()
    found = examine()
    if json_:
        _print_json(found)
    else:
        _console().print(doctor_table(found))


def main() -> None:
    """Entry point: a message instead of a traceback, and the exit status of design section 8."""
    _fix_output()
    _shorten_warnings()
    keep_memory()
    _end_orderly()
    try:
        sys.exit(app(standalone_mode=False))
    except LabelwiseError as error:
        _say(error)
        sys.exit(error.exit_status)
    except TyperException as error:  # an unknown option, a missing argument
        command = getattr(getattr(error, "ctx", None), "command_path", "labelwise")
        _say(f"{error.format_message().rstrip('.')}. See: {command} --help")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code in ENDED:
            _say(f"{ENDED[stop.code]}; {KEPT}")
        raise
    except RuntimeError as error:
        ended = interruption(error)
        if ended is None:
            raise
        code = ended.code if isinstance(ended, SystemExit) else INTERRUPTED
        _say(f"{ENDED.get(code, 'ended')}; {KEPT}")
        sys.exit(code)
    except BrokenPipeError:  # `labelwise ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        hint = "Finished trials are kept; go on with --resume when this is mended."
        runs = {"demo", "compare", "train", "tune"} & set(sys.argv[1:2])
        where = f": {error.filename}" if error.filename else ""
        _say(f"{error.strerror or error}{where}. {hint if runs else ''}".rstrip())
        sys.exit(1)


def _say(message: object) -> None:
    print(f"labelwise: {message_line(message)}", file=sys.stderr)


def _shorten_warnings() -> None:
    """What labelwise itself warns of is one line for the user; where in the code is no help."""
    usual, own = warnings.showwarning, str(Path(__file__).parent)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(own):
            _say(f"note: {message}")
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _fix_output() -> None:
    """File names that are not valid Unicode are shown escaped instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end_orderly() -> None:
    """Let SIGTERM end the program as Ctrl-C does: no temporary file left, locks released."""

    def terminate(*_: object) -> None:
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, terminate)


def _share(option: str, text: str | None, example: str) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise OptionError(f"{option} {text}: expected a share such as {example}.") from None


def _numbers(option: str, text: str | None) -> list[int]:
    try:
        return [] if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"{option} {text}: expected whole numbers such as 0,7,12.") from None


def _progress(quiet: bool) -> Any:
    from contextlib import closing

    from labelwise.progress import make_progress

    return closing(make_progress(quiet))


def _with_config(given: dict[str, Any], config: Path | None) -> dict[str, Any]:
    """Options from the command line, over those from the file."""
    from labelwise.settings import read_config

    options = read_config(config, given) if config is not None else {}
    return {**options, **{name: value for name, value in given.items() if value is not None}}


def _command() -> list[str]:
    return ["labelwise", *sys.argv[1:]]


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def _show_run(run: Any, as_json: bool) -> None:
    from labelwise.tables import leaderboard_table

    if as_json:
        _print_json({"run": str(run.folder), "report": str(run.report), **run.results})
        return
    _console().print(leaderboard_table(run.results))
    _console().print(run.results["why"], soft_wrap=True, markup=False)
    print(run.report.resolve())


if __name__ == "__main__":
    main()
