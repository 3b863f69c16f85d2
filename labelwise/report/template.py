"""Templates of pages, escaped by default, and our own styles and scripts that stand in them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from labelwise.report import text


@cache
def templates(folder: str) -> Environment:
    """Those in a folder of the package; what data fills in is escaped."""
    environment = Environment(
        loader=PackageLoader("labelwise", folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "count": text.count,
        "counted": text.counted,
        "percent": text.percent,
        "labels_name": text.labels_name,
    }
    return environment


@cache
def inlined(folder: str, *names: str) -> Markup:
    """Files of a folder of the package, one after another, as they are: our own are no data."""
    found = [files("labelwise").joinpath(folder, name).read_text("utf-8") for name in names]
    return Markup("".join(found))
