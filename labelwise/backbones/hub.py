"""The hubs: weights that lie in the caches of Hugging Face and torch, and downloads into these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from labelwise.backbones.base import sha256_of
from labelwise.backbones.configuration import configuration_of, known_values, require_commercial
from labelwise.backbones.pretrained import Pretrained, make_pretrained
from labelwise.download import PATIENCE, download
from labelwise.errors import BackboneError
from labelwise.foreign import brief

WEIGHTS = "model.safetensors"  # of a repository of timm on the Hugging Face hub
LARGEST_DOWNLOAD = 8 * 2**30  # bytes
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")  # torch hub's custom for names of files


@dataclass(frozen=True)
class Source:
    """Where timm says that weights are.

    Attributes:
        repository: on the Hugging Face hub, or "".
        url: of a file, or "".
    """

    repository: str
    url: str

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The source in values of a timm configuration."""
        return cls(str(values.get("hf_hub_id") or ""), str(values.get("url") or ""))

    @property
    def file(self) -> Path:
        """Where torch hub keeps the file of the url."""
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]

    @property
    def digest(self) -> str:
        """First digits of the file's SHA-256, where its name has them."""
        found = _DIGEST.search(self.url)
        return found[1] if found else ""

    def cached(self) -> Path | None:
        """The file that a former download left.

        Raises:
            BackboneError: it is not the one that its name says.
        """
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, WEIGHTS) if self.repository else None
        if isinstance(found, str):
            return Path(found)
        if not self.url or not self.file.is_file():
            return None
        if not sha256_of(self.file).startswith(self.digest):
            raise BackboneError(
                f"{self.file} has SHA-256 {sha256_of(self.file)}, which does not begin with "
                f"{self.digest}: damaged. Delete it, and download it again."
            )
        return self.file

    def fetch(self) -> Path:
        """Download into the cache.

        Raises:
            ValueError: says why it cannot be had.
        """
        if self.repository:
            return _from_hugging_face(self.repository)
        if not self.url:
            raise ValueError("timm lists no weights for it.")
        download(self.url, self.file, largest=LARGEST_DOWNLOAD, digest=self.digest)
        return self.file

    def __str__(self) -> str:
        places = [f"{self.repository} in the Hugging Face cache"] if self.repository else []
        return " and ".join([*places, *([str(self.file)] if self.url else [])])


def find_cached(name: str) -> Pretrained:
    """The network of a timm name whose weights lie in a cache.

    Raises:
        BackboneError: they do not; says where they were looked for and what to do.
    """
    values = known_values(name)
    source = Source.of(values)
    if (file := source.cached()) is not None:
        return make_pretrained(name, name, file, values)
    looked = str(source) or "nothing, since timm lists no weights for it"
    raise BackboneError(
        f"The weights of {name!r} are not on this machine; looked for {looked}. Nothing is "
        f"downloaded unless asked for: where there is a network, `labelwise doctor --download "
        f"{name}`; or give them as {name}@FILE.safetensors or timm:FOLDER."
    )


def download_weights(name: str) -> Pretrained:
    """Fetch the weights of a timm name into the hubs' cache, unless they are there.

    Raises:
        BackboneError: unknown name, no network, not the file expected, or a license that forbids
            commercial use: such weights have to be fetched and named by hand.
    """
    values = known_values(name)
    require_commercial(name, configuration_of(name, values))
    source = Source.of(values)
    try:
        if source.cached() is None:
            source.fetch()
    except ValueError as error:
        raise BackboneError(
            f"The weights of {name!r} cannot be downloaded: {brief(error)} Try again where there "
            f"is a network, or bring them as a file: {name}@FILE.safetensors."
        ) from None
    return find_cached(name)


def cached_names() -> Iterator[str]:
    """Names of timm whose weights seem to lie in a cache."""
    import timm
    import torch
    from huggingface_hub import constants

    repositories = {path.name for path in Path(constants.HF_HUB_CACHE).glob("models--*")}
    files = {path.name for path in (Path(torch.hub.get_dir()) / "checkpoints").glob("*")}
    if not repositories and not files:
        return
    for name in timm.list_models(pretrained=True):
        source = Source.of(vars(timm.get_pretrained_cfg(name)))
        folder = f"models--{source.repository.replace('/', '--')}"
        if folder in repositories or source.url.rsplit("/", 1)[-1] in files:
            yield name


def _from_hugging_face(repository: str) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        # Unlike the download it does not try again and again: without a network that is known soon.
        size = get_hf_file_metadata(hf_hub_url(repository, WEIGHTS), timeout=PATIENCE).size
        if size is None or size > LARGEST_DOWNLOAD:
            raise ValueError(f"{repository} has {size} bytes; expected {LARGEST_DOWNLOAD} at most.")
        return Path(hf_hub_download(repository, WEIGHTS, etag_timeout=PATIENCE))
    except ValueError:
        raise
    except Exception as error:  # the hub's client fails in many ways
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{repository} on the Hugging Face hub: {first.rstrip('.')}.") from None
