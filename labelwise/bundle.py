"""Bundle: a model as a folder, model.json and weights.safetensors. No pickle, no code."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from labelwise import __version__
from labelwise.architecture import build
from labelwise.data.preprocess import Preprocessing
from labelwise.description import (
    FORMAT,
    LARGEST_WEIGHTS,
    Description,
    Weights,
    from_bytes,
    to_bytes,
)
from labelwise.errors import BundleError, LayerError
from labelwise.files import write_file
from labelwise.foreign import LARGEST_HEADER, LARGEST_JSON, brief, read_tensors, size_of
from labelwise.measure.calibration import Calibration
from labelwise.measure.novelty import Novelty
from labelwise.model import Model

if TYPE_CHECKING:
    import torch

    from labelwise.nn.network import Network

MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"
# Mean and deviation of pixels, of the network and of members of an ensemble.
SCALING = re.compile(r"(body\.members\.\d+\.)?(mean|std)")


def save(model: Model, folder: str | Path) -> Path:
    """Write a model into a folder and return it; files already there are replaced.

    The weights are published first: a kill in between leaves a description whose hash does not
    match, which `load` refuses.

    Raises:
        BundleError: `load` would refuse it, for example because a fact is no number.
    """
    from safetensors.torch import save as tensors_to_bytes

    folder = Path(folder)
    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    weights = tensors_to_bytes(state)
    values = {
        "format": FORMAT,
        "labelwise": __version__,
        "class_names": list(model.class_names),
        "preprocessing": vars(model.preprocessing),
        "architecture": dict(model.architecture),
        "recipe": dict(model.recipe),
        "calibration": None if model.calibration is None else model.calibration.to_json(),
        "unknown_threshold": None if model.novelty is None else model.novelty.to_json(),
        "facts": dict(model.facts),
        "weights": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
    }
    try:
        description = to_bytes(values)
    except ValueError as error:
        raise BundleError(f"This model cannot be saved: its {MODEL_FILE} {error}") from None
    write_file(folder / WEIGHTS_FILE, lambda file: file.write(weights))
    write_file(folder / MODEL_FILE, lambda file: file.write(description))
    return folder


def load(folder: str | Path) -> Model:
    """Read a saved model. Runs no code from the folder; checks sizes, hashes, names and shapes.

    Nothing larger than the weights file is put into memory: the network is built only as far as
    the file could fill it.

    Args:
        folder: of a model, or of a run (its recommended model is read).

    Raises:
        BundleError: names the file and what is wrong with it.
    """
    from labelwise.nn.limits import parameters_at_most

    folder = model_folder(Path(folder))
    description = _description(folder / MODEL_FILE)
    preprocessing = Preprocessing(**description.preprocessing.model_dump())
    architecture = description.architecture.model_dump(exclude_defaults=True)
    _check_size(folder / WEIGHTS_FILE, description.weights.bytes)
    try:
        classes = len(description.class_names) or None  # without classes there is no head
        with parameters_at_most(description.weights.bytes // 4):
            network = build(architecture, classes, preprocessing.shape)
    except (LayerError, RuntimeError, ValueError, KeyError) as error:
        raise BundleError(
            f"{folder / MODEL_FILE}: this architecture cannot be built: {brief(error)}"
        ) from None
    _fill(network, folder / WEIGHTS_FILE, description.weights)
    unknown, calibration = description.unknown_threshold, description.calibration
    return Model(
        network=network.eval(),
        architecture=architecture,
        preprocessing=preprocessing,
        class_names=tuple(description.class_names),
        recipe=description.recipe,
        facts=description.facts,
        novelty=None if unknown is None else Novelty.from_json(unknown.model_dump()),
        calibration=None
        if calibration is None
        else Calibration.from_json(calibration.model_dump(by_alias=True)),
    )


def model_folder(folder: Path) -> Path:
    """The folder that holds the model: of a run, its recommended one."""
    inner = folder / "model"
    return inner if not (folder / MODEL_FILE).exists() and (inner / MODEL_FILE).exists() else folder


def _description(file: Path) -> Description:
    _size(file, LARGEST_JSON)
    try:
        return from_bytes(file.read_bytes())
    except ValueError as error:
        raise BundleError(f"{file} {error}") from None


def _size(file: Path, largest: int) -> int:
    """Bytes of a file of the bundle, which it must hold itself."""
    if file.is_symlink():
        raise BundleError(f"{file} is a link; expected the file itself. Copy it there.")
    if not file.exists():
        raise BundleError(
            f"{file} does not exist. Give the folder of a saved model (it holds {MODEL_FILE} and "
            f"{WEIGHTS_FILE}) or of a run."
        )
    try:
        return size_of(file, largest)
    except ValueError as error:
        raise BundleError(f"{file} {error} Not a saved model.") from None


def _check_size(file: Path, expected: int) -> None:
    if (size := _size(file, LARGEST_WEIGHTS)) != expected:
        raise BundleError(f"{file} has {size} bytes, expected {expected}: damaged.")


def _fill(network: Network, file: Path, expected: Weights) -> None:
    """Put the tensors of a file into the network; names, shapes and types must be as expected."""
    from labelwise.nn.neighbor_head import NeighborHead

    own = network.state_dict()
    needed = sum(value.nbytes for value in own.values())
    if not needed <= expected.bytes <= needed + LARGEST_HEADER:
        raise BundleError(
            f"{file} has {expected.bytes} bytes; the network in {MODEL_FILE} has {needed}. They "
            "differ: the files are of two models."
        )
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != expected.sha256:
        raise BundleError(f"{file} has SHA-256 {found}, expected {expected.sha256}: damaged.")
    try:
        tensors = read_tensors(data)
    except ValueError as error:
        raise BundleError(f"{file} {error}") from None
    _check_tensors(tensors, own, file)
    network.load_state_dict(tensors)
    for name, module in network.named_modules():
        if isinstance(module, NeighborHead) and not module.is_sound:
            raise BundleError(f"{file}: '{name}.labels' names classes that there are not: damaged.")


def _check_tensors(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], file: Path
) -> None:
    import torch

    for what, names in (
        ("is missing", sorted(set(expected) - set(found))),
        ("is not part of the network", sorted(set(found) - set(expected))),
    ):
        if names:
            raise BundleError(
                f"{file}: {len(names)} tensors differ; the first, '{brief(names[0])}', {what}."
            )
    for name, value in expected.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            raise BundleError(
                f"{file}: {name!r} is {found[name].dtype} {tuple(found[name].shape)}, expected "
                f"{value.dtype} {tuple(value.shape)}."
            )
    for name in filter(SCALING.fullmatch, expected):  # both files have them
        if not torch.equal(found[name], expected[name]):
            raise BundleError(f"{file}: {name!r} is not the one in {MODEL_FILE}: damaged.")
