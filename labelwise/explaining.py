"""explain: where a model looks in some images, as pictures and one page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from labelwise.attribution.attribute import AUTO, METHODS, attribute, check_method
from labelwise.attribution.checks import cells, shares, shortcut
from labelwise.attribution.kept import FILE as MAPS
from labelwise.attribution.picture import channel, overlay, save, shown
from labelwise.data.decode import decode
from labelwise.data.source import Advance
from labelwise.data.source import shown as shown_path
from labelwise.errors import DataError, OptionError
from labelwise.files import as_path, write_parquet, write_text
from labelwise.model import OK, Model, files_in
from labelwise.nn.network import Body
from labelwise.report.template import inlined, templates
from labelwise.report.text import path as path_text
from labelwise.report.text import percent, plain
from labelwise.use import opened

TOGETHER = 16  # images in memory
FEW = 10  # images below which nothing is said about shortcuts
MOST_CHANNELS = 16
SMALL = 32  # a side, of the mean map in which a shortcut is looked for
PAGE = "index.html"


@dataclass(frozen=True)
class Explanation:
    """What was written.

    Attributes:
        page: the HTML file.
        table: a row per file: path, label (class name, the most probable), probability, shown
            (class whose heat is shown), picture and input (file names beside the page; None without
            an answer), status.
        method: how the heat was found, a key of METHODS; None if no file could be read.
        alarm: a sentence if the heat of all images together looks like a shortcut.

    Beside the page stands maps.parquet: path, shown, and heat on a grid of 16 x 16, row by row.
    """

    page: Path
    table: pd.DataFrame
    method: str | None
    alarm: str | None


def explain(
    model: Model | str | Path,
    paths: Iterable[str | Path] | str | Path,
    *,
    out: str | Path,
    of: str | None = None,
    method: str = AUTO,
    channels: Sequence[int] = (),
    progress: Advance | None = None,
) -> Explanation:
    """Write for every image a picture of where a model looks, and a page with all of them.

    Args:
        model: a Model, or the folder of one or of a run.
        paths: image files, and folders of these.
        out: folder for the pictures and the page; files of the same names are replaced.
        of: name of the class to look for; None: in each image the most probable one.
        method: cam, grad-cam or occlusion; auto: the most exact one that the network allows.
        channels: of the last maps, to be shown as they are; at most MOST_CHANNELS.
        progress: told how far it is.

    Raises:
        OptionError: there is no such class, method or channel.
        UsageError: the model has no head.
        DataError: there is no file.
    """
    model = opened(model)
    model.require_head()
    check_method(method)
    wanted = _class(model, of)
    _check_channels(model, channels)
    folder = as_path(out, "out")
    files = list(files_in(paths))
    if not files:
        raise DataError("There is no file to explain. Give images, or a folder with some.")
    rows: list[dict[str, Any]] = []
    heat, used = np.zeros((SMALL, SMALL)), None
    for start in range(0, len(files), TOGETHER):
        some = files[start : start + TOGETHER]
        found, maps, way = _explained(model, some, folder, len(rows), wanted, method, channels)
        heat, used = heat + shares(maps).sum(axis=0), way or used
        rows += found
        if progress is not None:
            progress(len(rows), len(files), "image")
    table = pd.DataFrame(rows)
    answered = int((table["status"] == OK).sum())
    alarm = shortcut(heat / answered).alarm if answered >= FEW else None
    page = folder / PAGE
    write_text(page, render(table, used, alarm))
    write_parquet(folder / MAPS, table[table["status"] == OK][["path", "shown", "heat"]])
    kept = table.drop(columns=["channels", "heat"])
    return Explanation(page, kept, used, alarm)


def _explained(
    model: Model,
    files: Sequence[Path],
    folder: Path,
    before: int,
    wanted: int | None,
    method: str,
    channels: Sequence[int],
) -> tuple[list[dict[str, Any]], np.ndarray, str | None]:
    """Rows of some files, and their maps on a small grid; the pictures are written."""
    rows, pixels = [], []
    for path in files:
        decoded = decode(path, at_least=model.preprocessing.size)
        row: dict[str, Any] = {"path": shown_path(path), "label": None, "probability": None}
        row |= {"shown": None, "picture": None, "input": None, "channels": [], "heat": None}
        row["status"] = OK if decoded.pixels is not None else f"set aside: {decoded.reason}"
        rows.append(row)
        if decoded.pixels is not None:
            pixels.append(model.preprocessing(decoded.pixels, decoded.full))
    if not pixels:
        return rows, np.zeros((0, SMALL, SMALL), np.float32), None
    batch = torch.stack(pixels)
    proba = model.probabilities(model.pixel_logits(batch))
    best = proba.argmax(axis=1)
    classes = best if wanted is None else np.full(len(best), wanted)
    found = attribute(model, batch, classes, method)
    grids = cells(found.heat).reshape(len(batch), -1)
    raw = _channels(model, batch, channels)
    answered = [(number, row) for number, row in enumerate(rows, before + 1) if row["status"] == OK]
    for place, (number, row) in enumerate(answered):
        # Names of files never become part of a path.
        names = {"picture": f"{number:05}-heat.png", "input": f"{number:05}-input.png"}
        save(folder / names["picture"], overlay(batch[place], found.heat[place]))
        save(folder / names["input"], shown(batch[place]))
        for index, values in zip(channels, raw[place] if len(raw) else [], strict=True):
            name = f"{number:05}-channel-{index}.png"
            save(folder / name, channel(values))
            row["channels"].append((index, name))
        row |= {
            "label": model.class_names[best[place]],
            "probability": float(proba[place, best[place]]),
            "shown": model.class_names[classes[place]],
            "heat": grids[place],
            **names,
        }
    grid = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(found.heat)[:, None], SMALL)
    return rows, grid[:, 0].numpy(), found.method


@torch.inference_mode()
def _channels(model: Model, pixels: torch.Tensor, channels: Sequence[int]) -> np.ndarray:
    """Of the last maps; float32 (N, len(channels), h, w)."""
    if not channels:
        return np.zeros((0,))
    network = model.network
    maps, _ = cast(Body, network.body)(network.normalized(pixels.to(network.mean.device)))
    return maps[-1][:, list(channels)].float().cpu().numpy()


def _check_channels(model: Model, channels: Sequence[int]) -> None:
    if not channels:
        return
    network = model.network
    blank = torch.zeros(1, *model.preprocessing.shape, dtype=torch.uint8)
    with torch.inference_mode():
        maps, _ = cast(Body, network.body)(network.normalized(blank.to(network.mean.device)))
    if not maps:
        raise OptionError("channels: this network has no maps, only numbers for whole images.")
    count = maps[-1].shape[1]
    if len(channels) > MOST_CHANNELS or any(not 0 <= index < count for index in channels):
        raise OptionError(
            f"channels={','.join(map(str, channels))}: expected up to {MOST_CHANNELS} numbers from "
            f"0 to {count - 1}, of the {count} channels of the last maps."
        )


def _class(model: Model, name: str | None) -> int | None:
    if name is None:
        return None
    if name not in model.class_names:
        known = ", ".join(map(repr, model.class_names[:10]))
        raise OptionError(f"class {name!r}: the model does not know it; it knows {known}.")
    return model.class_names.index(name)


def render(table: pd.DataFrame, method: str | None, alarm: str | None) -> str:
    """The page; it loads the pictures beside it and nothing else."""
    page = templates("report").get_template("explain.html")
    return page.render(
        style=inlined("report", "report.css", "explain.css"),
        meaning="" if method is None else METHODS[method],
        alarm=alarm,
        rows=list(_shown(table)),
        aside=[
            (path_text(row["path"]), plain(row["status"]))
            for row in table.to_dict("records")
            if row["status"] != OK
        ],
    )


def _shown(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table[table["status"] == OK].to_dict("records"):
        yield {
            "path": path_text(row["path"]),
            "label": plain(row["label"]),
            "probability": percent(row["probability"]),
            "other": plain(row["shown"]) if row["shown"] != row["label"] else None,
            "picture": row["picture"],
            "input": row["input"],
            "channels": row["channels"],
        }
