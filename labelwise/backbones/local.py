"""Weights that the user names: the folder of a timm model, or a file beside an architecture's name.

    timm:FOLDER                      config.json and model.safetensors
    NAME@FILE.safetensors            weights of the timm architecture NAME
    NAME@FILE.pth#sha256=HEX         the same in torch's format, which must have this SHA-256

A safetensors file holds nothing but numbers. One of torch's is a pickle: it is unpickled by torch's
reader that runs no code, and only if it is the very file that the user means.
"""

from __future__ import annotations

import re
from pathlib import Path

from labelwise.backbones.base import sha256_of
from labelwise.backbones.configuration import known_values
from labelwise.backbones.pretrained import LARGEST_FILE, Pretrained, make_pretrained
from labelwise.errors import BackboneError
from labelwise.files import expanded
from labelwise.foreign import LARGEST_JSON, brief, read_document, size_of

FOLDER = "timm:"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def find_in_folder(name: str) -> Pretrained:
    """The network of `timm:FOLDER`.

    Raises:
        BackboneError: the folder does not hold a timm model; names what is wrong.
    """
    folder = expanded(name.removeprefix(FOLDER))
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
        values = {**known_values(timm_name), **own}
        return make_pretrained(name, timm_name, weights, values, named=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(
            f"{config} is not the config.json of a timm model: {brief(repr(error))}"
        ) from None


def find_in_file(name: str) -> Pretrained:
    """The network of `NAME@FILE`.

    Raises:
        BackboneError: unknown architecture, no such file, or not the one that was meant.
    """
    timm_name, _, rest = name.partition("@")
    path, _, fragment = rest.partition("#")
    values, file = known_values(timm_name), expanded(path)
    try:
        size_of(file, LARGEST_FILE)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise BackboneError(f"{name!r}: {file}: {brief(problem)}") from None
    found = sha256_of(file)
    _check_hash(file, fragment, found)
    return make_pretrained(name, timm_name, file, values, sha256=found, named=True)


def _check_hash(file: Path, fragment: str, found: str) -> None:
    given = fragment.removeprefix("sha256=").lower()
    if not fragment:
        if file.suffix == ".safetensors":
            return
        raise BackboneError(
            f"{file} is no .safetensors file, so its SHA-256 must be given, from where you have "
            f"the file: {file.name}#sha256=... It has {found}."
        )
    if not fragment.startswith("sha256=") or not _SHA256.fullmatch(given):
        raise BackboneError(
            f"#{brief(fragment)} behind {file.name}: expected #sha256= and 64 hexadecimal digits."
        )
    if given != found:
        raise BackboneError(
            f"{file} has SHA-256 {found}, not the {given} that was given: it is another file, or "
            "damaged. Get it again."
        )
