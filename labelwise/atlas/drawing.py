"""map: where a model puts images, as an interactive page with PCA, t-SNE and UMAP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from labelwise.atlas.arranging import arranged, placed
from labelwise.atlas.embedded import Embedded, embedded
from labelwise.atlas.facets import facets
from labelwise.atlas.notes import notes_of
from labelwise.atlas.page import Before, Content, render
from labelwise.atlas.sprites import Sprites, sprites
from labelwise.atlas.stored import Stored, read_stored, write_stored
from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable, load
from labelwise.data.source import Advance
from labelwise.errors import DataError, OptionError
from labelwise.files import as_path, expanded, write_text
from labelwise.model import Model
from labelwise.nn.graph import neighbors

MOST = 200_000  # points of a map; of more images it shows a sample
NEIGHBORS = 8
SEED = 0


@dataclass(frozen=True)
class Map:
    """A map of embeddings.

    Attributes:
        page: the HTML file.
        table: a row per image, as in the Parquet file beside the page: id, path, content (hash of
            the pixels), label, split, predicted, confidence, fitted (whether t-SNE and UMAP were
            fitted on it), and pca_x, pca_y, tsne_x, tsne_y, umap_x, umap_y as far as they exist.
        notes: what to know about it, as on the page.
    """

    page: Path
    table: pd.DataFrame
    notes: tuple[str, ...]


def map_embeddings(
    model: Model | str | Path,
    data: Loadable,
    *,
    out: str | Path,
    target: str | None = None,
    split: str | None = None,
    onto: str | Path | None = None,
    progress: Advance | None = None,
) -> Map:
    """Draw the images of a data set where a model puts them, as a page that opens offline.

    The coordinates stand beside the page in a Parquet file of the same name. Drawn again with the
    same model and images, the map is made of these and is the same.

    Args:
        model: a Model, the folder of one or of a run, or the name of a backbone.
        data: what `load` takes; labels are not needed.
        out: the .html file; it is replaced.
        target: the label column, where there are several.
        split: draw only images of this given part ("train", "val", "test"); None for all.
        onto: the .html or .parquet file of a map by the same model, to place the images on.
        progress: told how far it is.

    Raises:
        BackboneError, BundleError: there is no such model.
        DataError: the data, or the map in `onto`, cannot be used, or no image is in the part.
        OptionError: out is no .html file, or the map in `onto` was made by another model.
    """
    page = _page_file(out)
    file = page.with_suffix(".parquet")
    base = None if onto is None else _base(onto, file)
    kept = None
    if file.exists():
        kept = read_stored(file, f"--out {out}", "Remove it, or give another name.")
    tell = progress or (lambda done, total, what: None)

    def begin(what: str) -> None:
        tell(0, 1, f"{what}, step")

    dataset = load(data, target=target, progress=progress)
    every = _part(dataset, split)
    rows = _some(every)
    found = embedded(model, dataset, rows, progress)
    if base is None:
        stored = arranged(dataset, rows, found, kept, begin)
    else:
        stored = placed(dataset, rows, found, base, f"--onto {onto}")
    begin("nearest neighbors")
    near = neighbors(normalize(torch.from_numpy(found.vectors), dim=1), NEIGHBORS)[0].numpy()
    notes = tuple(notes_of(dataset, rows, len(every), split, found, stored, base))
    content = Content(
        title=Path(dataset.name).name,
        ids=rows,
        paths=stored.table["path"].tolist(),
        layouts=stored.layouts,
        facets=facets(stored.table, _class_names(dataset, found)),
        confidence=found.confidence,
        neighbors=near,
        notes=notes,
        before=None if base is None else _before(base),
    )
    images = dataset.images(rows)

    def small_copies(limit: int) -> Sprites:
        return sprites(images, limit, lambda done, of: tell(done, of, "small copies"))

    text = render(content, small_copies)
    write_stored(file, stored)  # first: a page without it would not be drawn the same again
    write_text(page, text)
    return Map(page, stored.table, notes)


def _page_file(out: str | Path) -> Path:
    page = expanded(as_path(out, "--out"))
    if page.suffix.lower() != ".html" or page.is_dir():
        raise OptionError(f"--out {out}: give the name of an .html file.")
    return page


def _base(onto: str | Path, own: Path) -> Stored:
    """The map that images are placed on, which must not be the one to be written."""
    given = expanded(as_path(onto, "--onto"))
    if given.suffix.lower() not in (".html", ".parquet"):
        raise OptionError(f"--onto {onto}: give the .html or the .parquet file of a map.")
    file = given.with_suffix(".parquet")
    if not file.is_file():
        raise OptionError(
            f"--onto {onto}: {file} does not exist. It stands beside a map's page and holds the "
            "coordinates. Move it there, or draw that map again."
        )
    if own.exists() and own.samefile(file):
        raise OptionError(f"--onto {onto}: --out would replace it. Give --out another name.")
    base = read_stored(file, f"--onto {onto}", "Draw that map again.")
    if base.onto:
        raise OptionError(
            f"--onto {onto}: its images were placed on another map themselves. Give that one."
        )
    return base


def _part(dataset: Dataset, split: str | None) -> np.ndarray:
    """Usable rows, of a given part if one is named."""
    rows = dataset.in_part(dataset.usable, split)
    if split is not None and not len(rows):
        raise DataError(f"{dataset.name}: there is no image in the part '{split}' to draw.")
    return rows


def _some(rows: np.ndarray) -> np.ndarray:
    """All rows, or a sample of very many, ascending."""
    if len(rows) <= MOST:
        return rows
    return np.sort(np.random.default_rng(SEED).choice(rows, MOST, replace=False))


def _class_names(dataset: Dataset, found: Embedded) -> tuple[str, ...]:
    """Those of the data, then what else the model knows."""
    return tuple(dict.fromkeys((*dataset.class_names, *found.class_names)))


def _before(base: Stored) -> Before:
    labels = base.table["label"].astype(object)
    return Before(
        base.table["path"].tolist(), labels.where(labels.notna(), None).tolist(), base.layouts
    )
