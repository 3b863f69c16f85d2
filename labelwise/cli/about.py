"""Commands about labelwise itself: recipes, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from labelwise.cli.app import app
from labelwise.cli.options import Json
from labelwise.cli.output import console, print_json


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
        print_json(found)
    else:
        console().print(recipes_table(found))


@app.command()
def doctor(
    json_: Json = False,
    empty_cache: Annotated[
        bool, typer.Option("--empty-cache", help="Delete all stored embeddings and pixels first.")
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
        print_json(found)
    else:
        console().print(doctor_table(found))
