"""Pretrained: a network of timm with the weights in a file."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelwise.backbones.base import Backbone, sha256_of
from labelwise.backbones.configuration import configuration_of, require_commercial
from labelwise.data.preprocess import Preprocessing
from labelwise.errors import BackboneError, LayerError
from labelwise.foreign import brief, read_checkpoint, read_tensors, size_of

if TYPE_CHECKING:
    import torch

    from labelwise.nn.taps import Taps

LARGEST_FILE = 32 * 2**30  # bytes of weights

State = dict[str, "torch.Tensor"]


def _as_named(state: State) -> State:
    return state


@dataclass(frozen=True)
class Pretrained(Backbone):
    """A network of timm with weights from a package, a cache, a file or a folder.

    Attributes:
        timm_name: the architecture in timm.
        rename: from the tensors' names in the file to those in timm.
    """

    timm_name: str
    rename: Callable[[State], State] = field(default=_as_named, compare=False)

    def body(self) -> Taps:
        from labelwise.nn.limits import parameters_at_most
        from labelwise.nn.taps import Taps

        data = self._data()
        try:
            with parameters_at_most(len(data)):
                body = Taps(self.timm_name)
        except LayerError as error:
            raise BackboneError(f"{self.file}: {brief(error)}") from None
        state = _in_timm(self._state(data), body.net, self.timm_name)
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

    def _state(self, data: bytes) -> State:
        safe = self.file.suffix == ".safetensors"
        try:
            return self.rename(read_tensors(data) if safe else read_checkpoint(data))
        except ValueError as error:
            raise BackboneError(f"{self.file} {error}") from None


def make_pretrained(
    name: str,
    timm_name: str,
    file: Path,
    values: Mapping[str, Any],
    *,
    sha256: str | None = None,
    named: bool = False,
    rename: Callable[[State], State] = _as_named,
) -> Pretrained:
    """The network of an architecture and a file, described by values of a timm configuration.

    Args:
        sha256: that the file must have when it is read; None: the one it has now.
        named: the user named the very file or folder, so its license may be non-commercial.

    Raises:
        BackboneError: the configuration cannot be used, or forbids commercial use.
    """
    from labelwise.nn.taps import takes_any_size

    configuration = configuration_of(name, values)
    if not named:
        require_commercial(name, configuration)
    side = configuration.input_size[-1]
    return Pretrained(
        name=name,
        file=file,
        sha256=sha256 or sha256_of(file),
        license=configuration.terms,
        mean=tuple(configuration.mean),
        std=tuple(configuration.std),
        preprocessing=Preprocessing(side, side),
        resizable=takes_any_size(timm_name),
        timm_name=timm_name,
        rename=rename,
    )


def _in_timm(state: State, net: torch.nn.Module, timm_name: str) -> State:
    """Tensors as timm's network has them; it knows the names that the authors of some gave."""
    import timm

    module = sys.modules[timm.model_entrypoint(timm_name).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None or set(net.state_dict()) <= set(state):
        return state
    try:
        converted: State = convert(state, net)
    except Exception:  # of another network: what is missing is said by the caller
        return state
    return converted
