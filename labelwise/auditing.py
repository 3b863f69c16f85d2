"""audit: labels that are probably wrong, to look at, and a manifest with some put right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from labelwise.bundle import load as load_model
from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable, load
from labelwise.data.source import Advance
from labelwise.errors import DataError, OptionError
from labelwise.files import as_path, expanded, write_parquet, write_text
from labelwise.folders import RUN_FILE, check_same_data
from labelwise.held_out import by_image
from labelwise.measure.suspicion import NEIGHBORS, disagreement, doubt, suspicion
from labelwise.nn.graph import neighbors, spread_out
from labelwise.nn.projected import Projected
from labelwise.report import text
from labelwise.report.run_folder import RunFolder
from labelwise.report.template import inlined, templates
from labelwise.report.thumbnails import Album
from labelwise.run import Run
from labelwise.transfer import with_backbone

SHOWN = 200  # images on the page
NEAR = 3  # neighbors shown beside each
NO_FILES = (
    "these images are no files of their own (arrays, archives, Parquet), so a manifest cannot name "
    "them; suspects.parquet has their ids and the proposed classes."
)
PAGE, TABLE, CORRECTED = "index.html", "suspects.parquet", "corrected.csv"


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        page: the HTML file.
        table: a row per labeled image that was judged, most suspicious first: id, path, label,
            proposed (class names), score, p_label, p_proposed (out of fold), neighbors (share with
            another label; not a number if the embedding has learned the labels), and cleanlab
            (whether it suspects the label, where it is installed).
        corrected: the manifest, if labels were accepted.
    """

    page: Path
    table: pd.DataFrame
    corrected: Path | None


def audit(
    run: Run | str | Path,
    data: Loadable | None = None,
    *,
    out: str | Path,
    accept: float | None = None,
    progress: Advance | None = None,
) -> Audit:
    """Rank the labels of a run's data by how likely they are wrong. Nothing is changed.

    Args:
        run: a finished run; its recommended variant's out-of-fold answers judge.
        data: what the run was made with; None: the source that the run has on record.
        out: folder for the page and the table; files of the same names are replaced.
        accept: write a manifest in which labels with at least this score are the proposed ones.
        progress: told how far the data are read.

    Raises:
        DataError: the data are others than those of the run, or no label was judged.
        OptionError: `accept` is not in [0, 1], there is a manifest that it would replace, or the
            images are no files that a manifest could name.
    """
    folder = as_path(out, "out")
    if accept is not None and not 0 <= accept <= 1:
        raise OptionError(f"accept={accept}: expected a score from 0 to 1, such as 0.9.")
    if accept is not None and (folder / CORRECTED).exists():
        raise OptionError(f"{folder / CORRECTED} exists. Move it away, or give another --out.")
    done = run if isinstance(run, Run) else Run(as_path(run, "run"))
    if not (done.folder / RUN_FILE).exists():
        raise DataError(
            f"{done.folder}: there is no run. Give the folder that `labelwise compare --out` or "
            "`labelwise train --out` has made."
        )
    record = done.record
    source = record["data"]["source"] if data is None else data
    try:
        dataset = load(source, target=record["data"]["target"], progress=progress)
    except DataError as error:
        if data is not None:
            raise
        message = f"{error} These were the data of the run: say with --data where they are."
        raise DataError(message) from None
    check_same_data(done.folder, record, dataset)
    files = _files(source, dataset)
    refused = None if files is not None else NO_FILES
    if accept is not None and refused is not None:
        raise OptionError(f"accept={accept}: {refused} Leave it out for the page and the table.")
    table, near = _ranked(done.folder, dataset)
    page = folder / PAGE
    write_parquet(folder / TABLE, table)
    rows = _manifest_rows(done.folder, dataset, files or [])
    write_text(page, render(dataset, table, near, rows, refused))
    corrected = None
    if accept is not None:
        corrected = folder / CORRECTED
        write_text(corrected, _manifest(rows, table, accept).to_csv(index=False))
    return Audit(page, table, corrected)


def _ranked(folder: Path, dataset: Dataset) -> tuple[pd.DataFrame, dict[int, list[int]]]:
    """The table, and the nearest images of each."""
    run = RunFolder(folder)
    row = run.judged
    if row is None:
        raise DataError(f"{folder}: no label was judged in this run, so none can be suspected.")
    found = run.predictions(row)
    ids, proba = by_image(found.ids, found.proba)
    labels = dataset.labels[ids]
    near, cosines, blind = _nearest(folder, dataset, ids)
    doubts = doubt(labels, proba)
    # A network that has learned a wrong label puts its image among the wrong class.
    told = blind and near.shape[1] > 0
    other = disagreement(labels, near, np.maximum(cosines, 0)) if told else None
    others = proba.copy()
    others[np.arange(len(ids)), labels] = -1
    best = others.argmax(axis=1)
    names = np.array(dataset.class_names, dtype=object)
    table = pd.DataFrame(
        {
            "id": ids,
            "path": dataset.table["path"].to_numpy()[ids],
            "label": names[labels],
            "proposed": names[best],
            "score": suspicion(doubts, other),
            "p_label": proba[np.arange(len(ids)), labels],
            "p_proposed": proba[np.arange(len(ids)), best],
            "neighbors": np.nan if other is None else other,
        }
    )
    if (second := _second_opinion(labels, proba)) is not None:
        table["cleanlab"] = second
    nearest = {int(i): ids[rows].tolist() for i, rows in zip(ids, near[:, :NEAR], strict=True)}
    order = np.lexsort((ids, -table["score"].to_numpy()))
    return table.iloc[order].reset_index(drop=True), nearest


def _nearest(
    folder: Path, dataset: Dataset, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Of every image the most similar other ones by the recommended model, their cosines, and
    whether its embedding was made without these labels.
    """
    model = with_backbone(load_model(folder / "model"))
    points = spread_out(torch.from_numpy(model.embed(dataset.images(ids))))
    index, cosines = neighbors(points, NEIGHBORS)
    blind = model.backbone is not None and not isinstance(model.network.body, Projected)
    return index.numpy(), cosines.numpy(), blind


def _second_opinion(labels: np.ndarray, proba: np.ndarray) -> np.ndarray | None:
    """Which labels cleanlab suspects; bool (N,), None where it is not installed."""
    if find_spec("cleanlab") is None or len(np.unique(labels)) < proba.shape[1]:
        return None
    from cleanlab.filter import find_label_issues

    return np.asarray(find_label_issues(labels, proba, n_jobs=1), dtype=bool)


def _files(source: Loadable, dataset: Dataset) -> list[str] | None:
    """Of every image the file's whole path, so that a manifest may lie anywhere; None if one has
    no file of its own, as in an array or an archive.
    """
    if not isinstance(source, str | Path):
        return None
    place = expanded(source).resolve()
    folder = place if place.is_dir() else place.parent
    files = [folder / path for path in dataset.table["path"]]
    return [str(file) for file in files] if all(map(Path.is_file, files)) else None


def _manifest_rows(run: Path, dataset: Dataset, files: Sequence[str]) -> pd.DataFrame:
    """All usable images as a manifest has them, by id; the part drawn for the test is marked."""
    stored = pd.read_parquet(run / "data.parquet", columns=["id", "split"]).set_index("id")["split"]
    names = np.array([*dataset.class_names, None], dtype=object)  # the last for UNLABELED = -1
    table = pd.DataFrame(
        {
            "path": files or dataset.table["path"],
            "label": names[dataset.labels],
            "split": stored.reindex(range(len(dataset.table))).to_numpy(),
            "group": dataset.table["group"].to_numpy(),
        }
    ).iloc[dataset.usable]
    empty = [name for name in ("split", "group") if table[name].isna().all()]
    return table.drop(columns=empty)


def _manifest(rows: pd.DataFrame, table: pd.DataFrame, accept: float) -> pd.DataFrame:
    """With the proposed labels that are accepted."""
    taken = table[table["score"] >= accept]
    result = rows.copy()
    result.loc[taken["id"].to_numpy(), "label"] = taken["proposed"].to_numpy()
    return result


def render(
    dataset: Dataset,
    table: pd.DataFrame,
    near: dict[int, list[int]],
    manifest: pd.DataFrame,
    refused: str | None,
) -> str:
    """The page: the most suspicious labels, each to be kept, changed or left out."""
    album = Album(dataset)
    first = table.head(SHOWN).to_dict("records")
    # Images of the test part are not shown: who looks at them has no test part left.
    tested = set(manifest.index[manifest["split"] == "test"]) if "split" in manifest else set()
    conflicts = [g for g in dataset.duplicates if g.conflict and not tested & set(g.rows)]
    album.add(row["id"] for row in first)
    album.add(row for group in conflicts for row in group.rows)
    album.add(image for row in first for image in near[row["id"]])
    images = album.embed()
    names = [*map(text.plain, dataset.class_names), ""]  # the last for UNLABELED = -1
    paths = [text.path(path) for path in dataset.table["path"]]

    def shot(row: int) -> dict[str, Any]:
        label = names[int(dataset.labels[row])] or "no label"
        return {"image": images.get(str(row)), "path": paths[row], "label": label}

    rows = [
        {
            "id": row["id"],
            "shot": shot(row["id"]),
            "label": text.plain(row["label"]),
            "proposed": text.plain(row["proposed"]),
            "score": f"{row['score']:.3f}",
            "why": _why(row),
            "near": [shot(image) for image in near[row["id"]]],
        }
        for row in first
    ]
    columns = [name for name in manifest.columns if name != "label"]
    held = {
        "ids": manifest.index.tolist(),
        "columns": {
            name: [None if pd.isna(value) else str(value) for value in manifest[name]]
            for name in columns
        },
        "labels": [int(dataset.labels[row]) for row in manifest.index],
        "classes": list(dataset.class_names),
        "proposed": {str(row["id"]): dataset.class_names.index(row["proposed"]) for row in first},
    }
    page = templates("report").get_template("audit.html")
    return page.render(
        style=inlined("report", "report.css", "audit.css"),
        script=inlined("report", "audit.js"),
        rows=rows,
        total=len(table),
        suspected=int((table["score"] > 0.5).sum()),
        conflicts=[[shot(row) for row in group.rows] for group in conflicts],
        manifest=held,
        refused=refused,
    )


def _why(row: Mapping[Any, Any]) -> Sequence[str]:
    """Sentences that say what speaks against a label."""
    found = [
        f"{text.percent(row['p_label'])} % for the label, {text.percent(row['p_proposed'])} % for "
        "the other class, by a model that has not seen this image"
    ]
    if not pd.isna(row["neighbors"]):
        found.append(f"{text.percent(row['neighbors'])} % of its neighbors have another label")
    if row.get("cleanlab"):
        found.append("cleanlab suspects it too")
    return found
