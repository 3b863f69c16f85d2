"""Bundle: a model as a folder, model.json and weights.safetensors. No pickle, no code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from labelwise import __version__
from labelwise.data.preprocess import Preprocessing
from labelwise.errors import BundleError, LayerError
from labelwise.files import write_file, write_json
from labelwise.model import Model, build

FORMAT = 1
MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"
LARGEST_JSON = 8 * 2**20  # bytes
LARGEST_WEIGHTS = 8 * 2**30


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class _Layers(_Strict):
    kind: Literal["layers"]
    layers: Annotated[str, Field(max_length=10_000)]
    mean: list[float]
    std: list[float]


class _Timm(_Strict):
    kind: Literal["timm"]
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=200)]
    chosen: Annotated[list[int], Field(max_length=64)]
    mean: list[float]
    std: list[float]


class _Preprocessing(_Strict):
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    color: Literal["rgb", "gray"]
    resize: Literal["crop", "squash", "pad"]


class _Weights(_Strict):
    bytes: Annotated[int, Field(ge=0, le=LARGEST_WEIGHTS)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Description(_Strict):
    """model.json, format 1."""

    format: Literal[1]
    labelwise: Annotated[str, Field(max_length=100)]
    class_names: Annotated[list[str], Field(max_length=100_000)]
    preprocessing: _Preprocessing
    architecture: Annotated[_Layers | _Timm, Field(discriminator="kind")]
    recipe: dict[str, Any]
    calibration: None = None
    unknown_threshold: None = None
    facts: dict[str, Any]
    weights: _Weights

    @pydantic.field_validator("class_names")
    @classmethod
    def _different(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        return names


def save(model: Model, folder: str | Path) -> Path:
    """Write a model into a folder and return it; files already there are replaced.

    The weights are published first: a kill in between leaves a description whose hash does not
    match, which `load` refuses.
    """
    from safetensors.torch import save as to_bytes

    folder = Path(folder)
    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    data = to_bytes(state)
    write_file(folder / WEIGHTS_FILE, lambda file: file.write(data))
    description = _Description(
        format=1,
        labelwise=__version__,
        class_names=list(model.class_names),
        preprocessing=_Preprocessing(**vars(model.preprocessing)),
        architecture=dict(model.architecture),  # type: ignore[arg-type]  # pydantic picks by kind
        recipe=dict(model.recipe),
        facts=dict(model.facts),
        weights=_Weights(bytes=len(data), sha256=hashlib.sha256(data).hexdigest()),
    )
    write_json(folder / MODEL_FILE, description.model_dump())
    return folder


def load(folder: str | Path) -> Model:
    """Read a saved model. Runs no code from the folder; checks sizes, hashes, names and shapes.

    Args:
        folder: of a model, or of a run (its recommended model is read).

    Raises:
        BundleError: names the file and what is wrong with it.
    """
    folder = model_folder(Path(folder))
    description = _description(folder / MODEL_FILE)
    data = _weights(folder / WEIGHTS_FILE, description.weights)
    preprocessing = Preprocessing(**description.preprocessing.model_dump())
    architecture = description.architecture.model_dump()
    try:
        classes = len(description.class_names) or None  # without classes there is no head
        network = build(architecture, classes, preprocessing.shape)
    except (LayerError, RuntimeError, ValueError, KeyError) as error:
        raise BundleError(
            f"{folder / MODEL_FILE}: this architecture cannot be built: {error}"
        ) from None
    _fill(network, data, folder / WEIGHTS_FILE)
    return Model(
        network=network.eval(),
        architecture=architecture,
        preprocessing=preprocessing,
        class_names=tuple(description.class_names),
        recipe=description.recipe,
        facts=description.facts,
    )


def model_folder(folder: Path) -> Path:
    """The folder that holds the model: of a run, its recommended one."""
    inner = folder / "model"
    return inner if not (folder / MODEL_FILE).exists() and (inner / MODEL_FILE).exists() else folder


def _description(file: Path) -> _Description:
    if not file.is_file():
        raise BundleError(
            f"{file} does not exist. Give the folder of a saved model (it holds {MODEL_FILE} and "
            f"{WEIGHTS_FILE}) or of a run."
        )
    if file.stat().st_size > LARGEST_JSON:
        raise BundleError(f"{file} is larger than {LARGEST_JSON >> 20} MB: not a saved model.")
    try:
        values = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not JSON ({error}): damaged, or not a saved model.") from None
    version = values.get("format") if isinstance(values, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise BundleError(
            f"{file} has format {version}; this labelwise {__version__} reads up to {FORMAT}. "
            "Install a newer labelwise."
        )
    try:
        return _Description.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:40] for part in first["loc"]) or "the document"
        raise BundleError(f"{file}: {where}: {first['msg'][:200]}. Not a saved model.") from None


def _weights(file: Path, expected: _Weights) -> bytes:
    if not file.is_file():
        raise BundleError(f"{file} does not exist; the model is not complete.")
    size = file.stat().st_size
    if size != expected.bytes:
        raise BundleError(f"{file} has {size} bytes, expected {expected.bytes}: damaged.")
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != expected.sha256:
        raise BundleError(f"{file} has SHA-256 {found}, expected {expected.sha256}: damaged.")
    return data


def _fill(network: Any, data: bytes, file: Path) -> None:
    """Put the tensors into the network; every name and shape must be as expected."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    try:
        found = from_bytes(data)
    except SafetensorError as error:
        raise BundleError(f"{file} is not a safetensors file: {error}") from None
    expected = network.state_dict()
    for what, names in (
        ("is missing", sorted(set(expected) - set(found))),
        ("is not part of the network", sorted(set(found) - set(expected))),
    ):
        if names:
            raise BundleError(
                f"{file}: {len(names)} tensors differ; the first, {names[0]!r}, {what}."
            )
    for name, value in expected.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            raise BundleError(
                f"{file}: {name!r} is {found[name].dtype} {tuple(found[name].shape)}, expected "
                f"{value.dtype} {tuple(value.shape)}."
            )
    network.load_state_dict(found)
