"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelwise.errors import OptionError

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
Part = Annotated[
    str | None, typer.Option(metavar="PART", help="Only this given part: train, val or test.")
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


def fraction(option: str, text: str | None, expected: str) -> float | None:
    """A fraction, or None; the ranges are checked by what uses it."""
    try:
        return None if text is None else float(text)
    except ValueError:
        raise OptionError(f"{option} {text}: expected {expected}.") from None


def numbers(option: str, text: str | None) -> list[int]:
    """Whole numbers between commas."""
    try:
        return [] if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"{option} {text}: expected whole numbers such as 0,7,12.") from None
