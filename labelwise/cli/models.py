"""Commands that use a model or a run: evaluate, predict, explain, mistakes, audit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labelwise.cli.app import app
from labelwise.cli.options import (
    Data,
    Format,
    Json,
    OutFile,
    Part,
    Quiet,
    Saved,
    Target,
    fraction,
    numbers,
)
from labelwise.cli.output import console, print_json, shown_progress
from labelwise.errors import OptionError


@app.command()
def evaluate(
    model: Saved,
    data: Data,
    target: Target = None,
    split: Part = None,
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
            print_json(found.to_json())
        else:
            console().print(nearness_table(found))
        return
    judged = judge_answers(model, data, target=target, split=split, unknown=unknown)
    if json_:
        print_json(judged.to_json())
    else:
        console().print(judgement_table(judged))


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
        unknown=fraction("--unknown", unknown, "a share such as 0.05, or 0 for never"),
        coverage=fraction("--coverage", coverage, "a share such as 0.9"),
        sets=sets,
        max_error=fraction("--max-error", max_error, "a share such as 0.02"),
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

    with shown_progress(quiet) as progress:
        shown = show(
            model,
            paths,
            out=out,
            of=of,
            method=method,
            channels=numbers("--channels", channels),
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
    split: Part = None,
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

    with shown_progress(quiet) as progress:
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

    with shown_progress(quiet) as progress:
        found = look(
            run,
            data,
            out=out,
            accept=fraction("--accept", accept, "a score such as 0.9"),
            progress=scanning(progress),
        )
    suspected = int((found.table["score"] > 0.5).sum())
    print(f"{suspected} of {len(found.table)} labels are suspicious", file=sys.stderr)
    if found.corrected is not None:
        print(found.corrected.resolve(), file=sys.stderr)
    print(found.page.resolve())
