"""Commands about images as points: embed, map, similar."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labelwise.cli.app import app
from labelwise.cli.options import (
    Data,
    Embedder,
    Format,
    OutFile,
    Part,
    Quiet,
    Target,
)
from labelwise.cli.output import shown_progress
from labelwise.errors import OptionError


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

    with shown_progress(quiet) as progress:
        count = write_embeddings(out, model, data, target=target, progress=scanning(progress))
    print(f"{count} images: {out}", file=sys.stderr)


@app.command("map")
def map_embeddings(
    model: Embedder,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page; it is replaced.")],
    target: Target = None,
    split: Part = None,
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

    with shown_progress(quiet) as progress:
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
    with shown_progress(quiet) as progress:
        found = search(
            model, query, data, count=int(count), target=target, progress=scanning(progress)
        )
    print_answers(found, format_, out, likeness_table)
