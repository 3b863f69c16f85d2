"""The program itself: what commands are added to, and when it began."""

from __future__ import annotations

import os
import time
from typing import Annotated

# Read by OpenMP when torch is first imported, so it must stand before that: a thread that waits
# sleeps instead of spinning, which leaves the cores to the decoders.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from labelwise import __version__

# What a budget counts from: the start of the process, which has only computed until here.
BEGAN = time.perf_counter() - time.process_time()

app = typer.Typer(
    name="labelwise",
    help="From a folder of images, few of them labeled, to the best classifier those labels can "
    "buy, with proof of how good it is.\n\nStart with: labelwise demo",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def labelwise(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    # No docstring: the program's help is that of `app`.
    if version:
        typer.echo(f"labelwise {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
