"""embed: images as points, by a saved model or a pretrained network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from labelwise.data.dataset import Dataset, Images
from labelwise.data.load import Loadable, load
from labelwise.data.source import Advance
from labelwise.errors import OptionError
from labelwise.features import AT_ONCE, embeddings, input_of
from labelwise.files import write_file
from labelwise.model import Model
from labelwise.transfer import find_backbone


def embed(
    model: Model | str | Path,
    data: Loadable,
    *,
    target: str | None = None,
    progress: Advance | None = None,
) -> pd.DataFrame:
    """Embeddings of all usable images; what was computed before comes from the store.

    Args:
        model: a Model, the folder of one or of a run, or the name of a backbone.
        data: what `load` takes; labels are not needed.
        target: the label column, where there are several.
        progress: told how far it is.

    Returns:
        A row per image: id (row of the Dataset), path, label (class name or null), split (train,
        val, test as given, or null), and e_0..e_{D-1}, float32.

    Raises:
        BackboneError, BundleError: there is no such model.
        DataError: the data cannot be used.
    """
    return pd.concat(list(_tables(model, load(data, target=target), progress)), ignore_index=True)


def write_embeddings(
    file: Path,
    model: Model | str | Path,
    data: Loadable,
    *,
    target: str | None = None,
    progress: Advance | None = None,
) -> int:
    """The table of `embed` as a Parquet file, a part at a time; gives the number of its rows.

    Raises:
        OptionError: the file's name does not end in .parquet, or names a folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix.lower() != ".parquet" or file.is_dir():
        raise OptionError(f"--out {file}: give the name of a .parquet file.")
    dataset = load(data, target=target, progress=progress)
    tables = _tables(model, dataset, progress)
    first = pa.Table.from_pandas(next(tables), preserve_index=False)

    def write(stream: object) -> None:
        with pq.ParquetWriter(stream, first.schema) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(pa.Table.from_pandas(table, first.schema, preserve_index=False))

    write_file(file, write)
    return len(dataset.usable)


def _tables(
    model: Model | str | Path, dataset: Dataset, progress: Advance | None
) -> Iterator[pd.DataFrame]:
    """The rows of `embed`, at most AT_ONCE at a time."""
    rows = dataset.usable
    vectors = embedder(model, dataset, len(rows), progress)
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        found = vectors(dataset.images(some), start)
        facts = pd.DataFrame(
            {
                "id": some,
                "path": dataset.table["path"].iloc[some].to_numpy(),
                "label": label_names(dataset, some),
                "split": dataset.table["split"].iloc[some].array,
            }
        )
        columns = [f"e_{index}" for index in range(found.shape[1])]
        yield pd.concat([facts, pd.DataFrame(found, columns=columns)], axis=1)


def label_names(dataset: Dataset, rows: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """Class names of some rows, null where there is no label; string (n,)."""
    names = np.array([*dataset.class_names, None], dtype=object)  # the last for UNLABELED = -1
    return pd.array(names[dataset.labels[rows]], dtype="string")


def embedder(
    model: Model | str | Path, dataset: Dataset, total: int, progress: Advance | None
) -> Callable[[Images, int], np.ndarray]:
    """What gives the embeddings of some images, told how many came before; float32 (n, D).

    Args:
        dataset: whose images say in which size a pretrained network looks at all.
        total: images that are to be embedded, for progress.
    """
    if not isinstance(model, Model):
        backbone = find_backbone(str(model))
        preprocessing = input_of(backbone, dataset.images(dataset.usable))

    def vectors(images: Images, before: int) -> np.ndarray:
        done = before

        def advance(count: int, of: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total, "embedding")

        if isinstance(model, Model):
            found = model.embed(images)
        else:
            found = embeddings(images, backbone, preprocessing, advance=advance).numpy()
        advance(before + len(images) - done, len(images))  # those that were stored as well
        return found

    return vectors
