"""mistakes: the images that a model is wrong about, with its reasons, to leaf through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelwise.attribution.attribute import METHODS, attribute
from labelwise.attribution.picture import overlay, save, shown
from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable, load
from labelwise.data.source import Advance
from labelwise.errors import LabelwiseError
from labelwise.features import stored_pixels
from labelwise.files import as_path, write_parquet, write_text
from labelwise.folders import RUN_FILE
from labelwise.measure import wilson
from labelwise.model import Model
from labelwise.neighborhood import most_alike
from labelwise.record import read_record
from labelwise.report.run_folder import RunFolder
from labelwise.report.template import inlined, templates
from labelwise.report.text import path as path_text
from labelwise.report.text import percent, plain
from labelwise.transfer import with_backbone
from labelwise.use import labeled_rows, labels_for, opened, warnings_of

WRONG, RIGHT = 200, 16  # images on the page
TOGETHER = 16  # images in memory
NEAR = 3  # images learned from that are shown beside each
PAGE, TABLE = "index.html", "mistakes.parquet"


@dataclass(frozen=True)
class Mistakes:
    """What was written.

    Attributes:
        page: the HTML file.
        table: a row per judged image: id, path, label, predicted (class names), probability (of the
            predicted class) and p_label; wrong ones first, the most confident first.
        warnings: what to know about the numbers.
    """

    page: Path
    table: pd.DataFrame
    warnings: tuple[str, ...]


def mistakes(
    model: Model | str | Path,
    data: Loadable,
    *,
    out: str | Path,
    target: str | None = None,
    split: str | None = None,
    progress: Advance | None = None,
) -> Mistakes:
    """Write a page with the images that a model is wrong about, where it looks, and why perhaps.

    Beside each stand the most similar images of those that the run learned from, if `model` is the
    folder of a run whose data are still there.

    Args:
        model, data, target, split: as in `evaluate`.
        out: folder for the page, its pictures and the table; files of the same names are replaced.
        progress: told how far it is.

    Raises:
        DataError: no labeled image, or of a class that the model does not know.
        UsageError: the model has no head.
    """
    folder = as_path(out, "out")
    place = None if isinstance(model, Model) else as_path(model, "model")
    judge = with_backbone(opened(model))
    judge.require_head()
    dataset = load(data, target=target, progress=progress)
    rows = labeled_rows(dataset, split)
    labels = labels_for(judge, dataset, rows)
    proba = judge.predict_proba(dataset.images(rows))
    table = _table(judge, dataset, rows, labels, proba)
    wrong = table[table["label"] != table["predicted"]].head(WRONG)
    right = table[table["label"] == table["predicted"]]
    some = right.sample(min(RIGHT, len(right)), random_state=0).sort_values("probability")
    chosen = pd.concat([wrong, some])
    near = _near(judge, place, dataset, chosen["id"].to_numpy())
    cards, method = _cards(judge, dataset, chosen, near, folder, progress)
    warnings = warnings_of(place, judge, dataset, rows)
    write_parquet(folder / TABLE, table)
    page = folder / PAGE
    write_text(page, _render(judge, table, cards, len(wrong), method, warnings))
    return Mistakes(page, table, warnings)


def _table(
    model: Model, dataset: Dataset, rows: np.ndarray, labels: np.ndarray, proba: np.ndarray
) -> pd.DataFrame:
    names = np.array(model.class_names, dtype=object)
    best = proba.argmax(axis=1)
    place = np.arange(len(rows))
    table = pd.DataFrame(
        {
            "id": rows,
            "path": dataset.table["path"].to_numpy()[rows],
            "label": names[labels],
            "predicted": names[best],
            "probability": proba[place, best],
            "p_label": proba[place, labels],
        }
    )
    order = np.lexsort((rows, -table["probability"], best == labels))
    return table.iloc[order].reset_index(drop=True)


@dataclass(frozen=True)
class _Near:
    """Images learned from, and which of them are most similar to each shown one."""

    dataset: Dataset
    rows: Mapping[int, list[int]]


def _near(model: Model, place: Path | None, dataset: Dataset, ids: np.ndarray) -> _Near | None:
    """Of the data that a run was made with; None where there is no run, or its data are gone."""
    if place is None or not (place / RUN_FILE).exists() or not len(ids):
        return None
    record = read_record(place)["data"]
    known = dataset
    if dataset.fingerprint != record["fingerprint"]:
        try:
            known = load(record["source"], target=record["target"])
        except (LabelwiseError, OSError):  # moved or changed since: the page has no neighbors
            return None
        if known.fingerprint != record["fingerprint"]:
            return None
    rows = RunFolder(place).learned
    alike = most_alike(
        dataset.images(ids), known, rows, lambda images, _: model.embed(images), NEAR
    )
    pairs = zip(alike.rows, np.isfinite(alike.cosines), strict=True)
    lists = [found[there].tolist() for found, there in pairs]
    return _Near(known, dict(zip(ids.tolist(), lists, strict=True)))


def _cards(
    model: Model,
    dataset: Dataset,
    chosen: pd.DataFrame,
    near: _Near | None,
    folder: Path,
    progress: Advance | None,
) -> tuple[list[dict[str, Any]], str | None]:
    """What the page shows of every image; the pictures are written."""
    cards: list[dict[str, Any]] = []
    method = None
    place = {name: k for k, name in enumerate(model.class_names)}
    for start in range(0, len(chosen), TOGETHER):
        some = chosen.iloc[start : start + TOGETHER].to_dict("records")
        pixels = stored_pixels(dataset.images([row["id"] for row in some]), model.preprocessing)
        for_answer = attribute(model, pixels, np.array([place[row["predicted"]] for row in some]))
        wrong = [index for index, row in enumerate(some) if row["label"] != row["predicted"]]
        labels = np.array([place[some[index]["label"]] for index in wrong], np.int64)
        for_label = dict(zip(wrong, attribute(model, pixels[wrong], labels).heat, strict=True))
        method = for_answer.method
        for index, row in enumerate(some):
            number = f"{len(cards) + 1:05}"
            names = {"input": f"{number}-input.png", "answer": f"{number}-answer.png"}
            save(folder / names["input"], shown(pixels[index]))
            save(folder / names["answer"], overlay(pixels[index], for_answer.heat[index]))
            if index in for_label:
                names["given"] = f"{number}-label.png"
                save(folder / names["given"], overlay(pixels[index], for_label[index]))
            like = [] if near is None else list(_like(near, row["id"], folder, model, number))
            cards.append(
                {
                    "path": path_text(row["path"]),
                    "label": plain(row["label"]),
                    "predicted": plain(row["predicted"]),
                    "probability": percent(row["probability"]),
                    "p_label": percent(row["p_label"]),
                    "near": like,
                    **names,
                }
            )
        if progress is not None:
            progress(len(cards), len(chosen), "image")
    return cards, method


def _like(
    near: _Near, row: int, folder: Path, model: Model, number: str
) -> Iterator[dict[str, str]]:
    for rank, image in enumerate(near.rows[row], start=1):
        name = f"{number}-near-{rank}.png"
        pixels = stored_pixels(near.dataset.images([image]), model.preprocessing)[0]
        save(folder / name, shown(pixels))
        label = near.dataset.class_names[near.dataset.labels[image]]
        path = path_text(near.dataset.table["path"].iat[image])
        yield {"name": name, "label": plain(label), "path": path}


def _render(
    model: Model,
    table: pd.DataFrame,
    cards: list[dict[str, Any]],
    wrong: int,
    method: str | None,
    warnings: tuple[str, ...],
) -> str:
    """The page; it loads the pictures beside it and nothing else."""
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for card in cards[:wrong]:
        pairs.setdefault((card["label"], card["predicted"]), []).append(card)
    mistaken = table[table["label"] != table["predicted"]]
    total = Counter(
        zip(mistaken["label"].map(plain), mistaken["predicted"].map(plain), strict=True)
    )
    page = templates("report").get_template("mistakes.html")
    return page.render(
        style=inlined("report", "report.css", "explain.css"),
        meaning="" if method is None else METHODS[method],
        judged=len(table),
        wrong=len(mistaken),
        shown=wrong,
        classes=list(_classes(model, table)),
        pairs=sorted(
            ((*pair, total[pair], found) for pair, found in pairs.items()),
            key=lambda item: (-item[2], item[:2]),
        ),
        right=cards[wrong:],
        warnings=[plain(sentence) for sentence in warnings],
    )


def _classes(model: Model, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Recall of every class that has images, the worst first."""
    right = (table["label"] == table["predicted"]).groupby(table["label"]).agg(["sum", "size"])
    found = [
        (name, wilson(float(hits), int(size)))
        for name, hits, size in right.itertuples()
        if name in model.class_names
    ]
    for name, recall in sorted(found, key=lambda item: (item[1].value, item[0])):
        yield {
            "name": plain(name),
            "n": recall.n,
            "recall": percent(recall.value),
            "interval": f"{percent(recall.low)} to {percent(recall.high)}",
        }
