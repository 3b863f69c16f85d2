"""Runs all hostile cases in one process under an audit hook, which cannot be taken off again.

    python -m tests.audited FOLDER

Writes FOLDER/outcomes.json: per case what was said, how long it took, and what the hook saw.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import labelwise
from labelwise import bundle
from labelwise.backbones import find_pretrained
from labelwise.data.load import load
from labelwise.errors import BundleError, LabelwiseError
from labelwise.model import Model
from labelwise.tables import predictions_table, print_answers
from labelwise.use import predict as answer
from tests import hostile
from tests.images import write

FORBIDDEN = (
    "pickle.find_class",
    "marshal.load",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.",
    "ctypes.dlopen",
    "urllib.Request",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "shutil.",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
INSTALLED = (sys.prefix, sys.base_prefix, str(Path(labelwise.__file__).parent), "<frozen ")
READ = ("model.json", "weights.safetensors", "config.json", "model.safetensors")
READ += ("image.png", "image.png.npz")
RENEWED = 400


class Watch:
    """What code does while armed, as far as it is forbidden."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.folder: str | None = None
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if (
            event.startswith(FORBIDDEN)
            or self._foreign_code(event, args)
            or self._opens(event, args)
        ):
            self.events.append(f"{event} {args!r:.200}")

    def _foreign_code(self, event: str, args: tuple[Any, ...]) -> bool:
        return event == "exec" and not args[0].co_filename.startswith(INSTALLED)

    def _opens(self, event: str, args: tuple[Any, ...]) -> bool:
        if event != "open":
            return False
        path, _, flags = args
        return bool(flags & WRITING) or path not in {f"{self.folder}/{name}" for name in READ}

    def run(self, folder: Path, call: Callable[[], object]) -> dict[str, Any]:
        """What a call came to: status, words on both streams, seconds of a core, events."""
        out, err, status = io.StringIO(), io.StringIO(), 0
        self.events, self.folder = [], str(folder)
        started = time.process_time()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                call()
        except LabelwiseError as error:
            status = error.exit_status
            print(f"labelwise: {error}", file=err)
        except BaseException as error:
            status = -1
            print(f"TRACEBACK {error!r}", file=err)
        finally:
            seconds, self.folder = time.process_time() - started, None
        result = {"status": status, "seconds": seconds, "out": out.getvalue()}
        return {**result, "err": err.getvalue(), "events": self.events}


def predict(folder: Path) -> None:
    """What `labelwise predict` does."""
    print_answers(answer(folder, folder / "image.png"), "csv", None, predictions_table)


def flips(origin: Path, folder: Path) -> dict[str, Any]:
    """Single changed bits: of model.json every one, of the weights 1,000; and 20 lengths.

    With a renewed hash, which has the network built for every bit, the first 400 of the 1,000.
    """
    shutil.copytree(origin, folder)
    bits = 8 * (folder / "weights.safetensors").stat().st_size
    chosen = [int(bit) for bit in np.random.default_rng(0).choice(bits, 1000, replace=False)]
    every = range(8 * (folder / "model.json").stat().st_size)
    wrong = [*_kept(folder, "model.json", every), *_kept(folder, "weights.safetensors", chosen)]
    return {
        "wrong": wrong,
        **_truncated(origin, folder),
        **_renewed(origin, folder, chosen[:RENEWED]),
    }


def _kept(folder: Path, name: str, bits: Iterable[int]) -> Iterator[str]:
    """Flips that are not refused by the hash of the file."""
    for bit in bits:
        with _flipped(folder / name, bit):
            said = _refusal(folder)
        if not said or f"{name} " not in said or "SHA-256" not in said:
            yield f"{name} bit {bit}: {said}"


@contextlib.contextmanager
def _flipped(file: Path, bit: int) -> Iterator[None]:
    """One bit changed in place, and back."""
    with file.open("r+b", buffering=0) as raw:
        raw.seek(bit // 8)
        (byte,) = raw.read(1)
        for value in (byte ^ 1 << bit % 8, byte):
            raw.seek(bit // 8)
            raw.write(bytes([value]))
            if value != byte:
                yield


def _refusal(folder: Path) -> str | None:
    """The one line that a model is refused with; None if it loads."""
    found = _loaded(folder)
    return found if isinstance(found, str) else None


def _loaded(folder: Path) -> Model | str:
    """The model, or the line that it is refused with."""
    try:
        return bundle.load(folder)
    except BundleError as error:
        return str(error)


def _truncated(origin: Path, folder: Path) -> dict[str, list[str | None]]:
    """What is said of weights cut at 20 places, with the old hash and with a new one."""
    data = (origin / "weights.safetensors").read_bytes()
    old, new = [], []
    for number, length in enumerate(np.linspace(0, len(data) - 1, 20)):
        part = data[: int(length)]
        shutil.copy(origin / "model.json", folder)
        (folder / "weights.safetensors").write_bytes(part)
        old.append(_refusal(folder))
        renewed = folder / f"renewed-{number}"
        hostile.with_weights(origin, renewed, part)
        new.append(_refusal(renewed))
    (folder / "weights.safetensors").write_bytes(data)
    return {"cut": old, "cut and renewed": new}


def _renewed(origin: Path, folder: Path, bits: Iterable[int]) -> dict[str, Any]:
    """Flips whose hash is right again: refused, or every weight is what the file says."""
    values, file = hostile.document(origin), folder / "weights.safetensors"
    refused, untrue, loaded = 0, [], 0
    for bit in bits:
        with _flipped(file, bit):
            data = file.read_bytes()
            values["weights"]["sha256"] = hashlib.sha256(data).hexdigest()
            hostile.write_document(folder, values)
            found = _loaded(folder)
            if isinstance(found, str):
                refused += 1
                continue
            loaded += 1
            untrue += _untrue(found.network.state_dict(), data)
    return {"refused": refused, "loaded": loaded, "untrue": untrue}


def _untrue(state: dict[str, torch.Tensor], data: bytes) -> list[str]:
    """Tensors that are not what the bytes of a file say, read a second way."""
    length = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:length])
    spans = {
        name: slice(*entry["data_offsets"]) for name, entry in entries.items() if name in state
    }
    return [
        n for n, v in state.items() if v.contiguous().numpy().tobytes() != data[length:][spans[n]]
    ]


def main(folder: Path) -> None:
    made = hostile.bundles(folder / "made")
    for kind in made.values():
        write(kind / "image.png")
    watch = Watch()
    for kind in made.values():  # all that is imported late is imported now
        with contextlib.redirect_stdout(io.StringIO()):
            predict(kind)
    data = pickle.dumps(hostile.Bomb())
    bombs = [lambda: pickle.loads(data), Path("/etc/passwd").read_bytes, lambda: exec("1")]
    with contextlib.chdir(folder):  # where the pickle's command writes
        noticed = [bool(watch.run(folder, bomb)["events"]) for bomb in bombs]
    valid = {name: watch.run(kind, lambda kind=kind: predict(kind)) for name, kind in made.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    models = []
    place = folder / "case"
    for case in hostile.all_models(made):
        case.write(place)
        if not (place / "image.png").exists():
            os.link(made["cnn"] / "image.png", place / "image.png")
        result = watch.run(place, lambda: predict(place))
        models.append({"name": case.name, "loads": case.loads, **result})
        shutil.rmtree(place)
    backbones = []
    for case in hostile.backbones(folder):
        case.write(place)
        result = watch.run(place, lambda: find_pretrained(f"timm:{place}").body())
        backbones.append({"name": case.name, "loads": case.loads, **result})
        shutil.rmtree(place)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    objects = {"x_train": np.array([hostile.Bomb()] * 3, object), "y_train": [0] * 3}
    for name, arrays in (("good", {"x_train": np.zeros((3, 4, 4))}), ("image.png", objects)):
        np.savez(folder / name, **arrays)
        found = watch.run(folder, lambda name=name: load(folder / f"{name}.npz"))
    report = {"valid": valid, "models": models, "backbones": backbones, "kilobytes": grown}
    report["noticed"] = noticed
    report |= {"flips": flips(made["cnn"], folder / "flips"), "objects": found}
    (folder / "outcomes.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
