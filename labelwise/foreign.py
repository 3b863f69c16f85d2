"""Files that somebody else wrote: read without trust, refused in one short line.

Every function here raises ValueError; its caller names the file and chooses the exception.
"""

from __future__ import annotations

import io
import json
import math
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field

if TYPE_CHECKING:
    import torch

LARGEST_JSON = 4 * 2**20  # bytes; this much of nothing but brackets is read in about a second
LARGEST_HEADER = 2 * 2**20  # bytes of a safetensors header, enough for 20,000 tensors
WEIGHTS_IN = ("state_dict", "model")  # names that checkpoints have their weights under
LONGEST_MESSAGE = 300  # characters

#: Per channel, of pixels in [0, 1]. The limits only keep what follows finite.
Means = Annotated[
    list[Annotated[float, Field(strict=True, ge=-1000, le=1000)]],
    Field(min_length=1, max_length=3),
]
Deviations = Annotated[
    list[Annotated[float, Field(strict=True, ge=1e-6, le=1000)]],
    Field(min_length=1, max_length=3),
]


def size_of(file: Path, largest: int) -> int:
    """Bytes of a regular file, known before it is opened: a pipe would wait forever."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is a folder, a pipe or a device; expected a file.")
    if found.st_size > largest:
        raise ValueError(f"has {found.st_size} bytes; expected {largest} at most.")
    return found.st_size


def read_document(data: bytes) -> Any:
    """The JSON document in UTF-8 bytes; all its numbers are finite."""
    try:
        return json.loads(data.decode("utf-8"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {brief(error)}.") from None


def read_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a safetensors file; all their values are finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if (length := int.from_bytes(data[:8], "little")) > LARGEST_HEADER:
        raise ValueError(f"is not a safetensors file: its header claims {length} bytes.")
    try:
        return _all_finite(load(data))
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"is not a safetensors file of plain numbers: {brief(error)}.") from None


def read_checkpoint(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a .pth file, unpickled by torch's reader that runs no code."""
    import torch

    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles and archives fail in many ways
        raise ValueError(f"is not a checkpoint of tensors: {brief(error)}") from None
    if isinstance(found, dict):  # training scripts put the weights beside other things
        found = next((found[name] for name in WEIGHTS_IN if name in found), found)
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise ValueError("is not a checkpoint of tensors: expected names and tensors, no more.")
    return _all_finite(found)


def _all_finite(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    wrong = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
    if wrong:
        raise ValueError(
            f"holds values that are not finite in {len(wrong)} tensors, the first is "
            f"'{brief(wrong[0])}': the training failed, or the file is damaged."
        )
    return tensors


def brief(text: object) -> str:
    """Words from a file as they may stand in a message: short, on one line, without escapes."""
    shown = repr(str(text))[1:-1]
    return shown if len(shown) <= LONGEST_MESSAGE else f"{shown[:LONGEST_MESSAGE]}…"


def first_problem(error: pydantic.ValidationError) -> str:
    """Where a document is not as expected, and how."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"]) or "the document"
    return brief(f"{where}: {first['msg']}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value
