"""Pictures: what a decoder makes of images, kept beside a trial for the report."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from labelwise.data.dataset import Images
from labelwise.features import stored_pixels
from labelwise.files import write_parquet
from labelwise.model import Model

PICTURES = "pictures.parquet"
SHOWN = 10  # images with their reconstructions
DRAWN = 24  # samples
MEASURED = 500  # images whose reconstruction errors are known, at most


def keep_pictures(model: Model, images: Images, folder: Path) -> None:
    """Write reconstructions of some images, and samples where the model can draw them.

    The file has the columns kind ("reconstruction" or "sample"), id (row of the data set, -1 for a
    sample), error (mean squared, of pixels from 0 to 1), original and made (PNG; null for those of
    which only the error is known). Without a decoder there is no file.
    """
    if model.network.decoder is None:
        return
    order = np.random.default_rng(0).permutation(len(images))[:MEASURED]
    rows = _reconstructions(model, images.subset(order))
    if model.architecture.get("prior"):
        made = model.sample(DRAWN)
        rows += [_row("sample", -1, float("nan"), None, image) for image in made]
    columns = ["kind", "id", "error", "original", "made"]
    write_parquet(folder / PICTURES, pd.DataFrame(rows, columns=columns))


def _reconstructions(model: Model, images: Images) -> list[dict[str, object]]:
    originals = stored_pixels(images, model.preprocessing).numpy().astype(np.float32) / 255
    made = model.reconstruct(images)
    errors = np.square(made - originals).mean((1, 2, 3))
    return [
        _row("reconstruction", int(images.rows[n]), float(errors[n]), originals[n], made[n])
        if n < SHOWN
        else _row("reconstruction", int(images.rows[n]), float(errors[n]), None, None)
        for n in range(len(images))
    ]


def _row(
    kind: str, image: int, error: float, original: np.ndarray | None, made: np.ndarray | None
) -> dict[str, object]:
    pictures = {"original": _png(original), "made": _png(made)}
    return {"kind": kind, "id": image, "error": error, **pictures}


def _png(image: np.ndarray | None) -> bytes | None:
    """An image (C, H, W) in [0, 1] as a PNG."""
    from PIL import Image

    if image is None:
        return None
    pixels = (image * 255).round().clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()
