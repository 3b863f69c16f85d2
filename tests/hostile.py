"""Hostile models as data: every case writes one folder, as somebody would who can write any bytes.

Hashes and sizes always match what is written, unless a case is about them: the parsers are tested,
not the hash in front of them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelwise import bundle
from labelwise.architecture import build
from labelwise.data.preprocess import Preprocessing
from labelwise.model import Model

KINDS = ("cnn", "mlp", "probe", "vae", "kmeans")
#: a path into a JSON document: keys and indices
Place = tuple[str | int, ...]

LAYERS = "conv4 3x3 relu, max 2, batch norm, dense 8 relu"
DECODER = "dense 784 relu, maps 4x14x14, deconv3 3x3"
FACTS = {
    "backbone": {"name": "x", "license": "Apache-2.0"},
    "variant": "cnn",
    "labels": "all",
    "data": {"name": "photos", "fingerprint": "ab12"},
    "data_notes": ["a note"],
    "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": None, "n": 10}},
    "test": None,
    "seed": 0,
}
TEXTS = ["os.system", "../../etc/passwd", "/etc/passwd", "http://127.0.0.1:9/x"]
MEGABYTES = {"3 MB of text": "x" * 3_000_000, "10 MB of text": "x" * 10_000_000}
NUMBERS = ["-1", "1e308", "1e999", "NaN", "-Infinity", "true", "9" * 4000, "1" + "0" * 30, '"1"']
MARK = "\0here"  # where JSON text is put as it is
NESTED = "[" * 10_000 + "]" * 10_000
MILLION = "[" + "0," * 999_999 + "0]"


@dataclass(frozen=True)
class Case:
    """A folder to write, and whether the model in it is to load and answer as before."""

    name: str
    write: Callable[[Path], object]
    loads: bool = False


def model(kind: str) -> Model:
    """A small network with random weights: cnn, mlp, probe, vae or kmeans."""
    torch.manual_seed(0)
    side, channels = 16, 1 if kind == "mlp" else 3
    norms = {"mean": [0.4] * channels, "std": [0.2] * channels}
    architecture: dict[str, Any] = {"kind": "layers", "layers": LAYERS, **norms}
    if kind == "mlp":
        architecture["layers"] = "dense 8 relu"
    if kind == "probe":
        side = 32
        architecture = {"kind": "timm", "name": "test_efficientnet", "chosen": [2, 5], **norms}
    if kind == "vae":
        architecture |= {"layers": "conv4 3x3 relu, dense 6", "hidden": [5], "prior": "normal"}
        architecture["decoder"] = DECODER
    if kind == "kmeans":
        architecture = {"kind": "centroids", "count": 5, "side": 4, **norms}
    return Model(
        network=build(architecture, 2, (channels, side, side)).eval(),
        architecture=architecture,
        preprocessing=Preprocessing(side, side, "gray" if kind == "mlp" else "rgb"),
        class_names=("bad", "good"),
        recipe={"name": "cnn", "lr": 0.01, "layers": [1, 2]} if kind == "cnn" else {},
        facts=FACTS if kind == "cnn" else {},
    )


def seal(text: str | bytes) -> bytes:
    """A JSON object with the SHA-256 of all before it as its last entry, as docs/protocol.md."""
    head = (text.encode() if isinstance(text, str) else text).rstrip()[:-1].rstrip()
    return head + f',\n "sha256": "{hashlib.sha256(head).hexdigest()}"\n}}\n'.encode()


def document(folder: Path) -> dict[str, Any]:
    """What a model.json says, without the seal."""
    values = json.loads((folder / "model.json").read_text())
    values.pop("sha256", None)
    return values


def write_document(folder: Path, values: Any, raw: dict[str, str] | None = None) -> None:
    """Write a model.json; strings that are keys of `raw` become that JSON text as it is."""
    text = json.dumps(values, indent=1)
    for mark, replacement in (raw or {}).items():
        text = text.replace(json.dumps(mark), replacement)
    sealed = values.get("format") != 1
    (folder / "model.json").write_bytes(seal(text) if sealed else text.encode())


def places(values: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of a document at every depth, with its place."""
    yield place, values
    items: Any = ()
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, list):
        items = enumerate(values)
    for key, value in items:
        yield from places(value, (*place, key))


def replaced(values: Any, place: Place, new: Any) -> Any:
    """A copy with another value at a place."""
    if not place:
        return new
    changed = copy.deepcopy(values)
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = new
    return changed


def renamed(values: Any, place: Place, new: str) -> Any:
    """A copy with another key at a place."""
    changed = copy.deepcopy(values)
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    items = [(new if key == place[-1] else key, value) for key, value in holder.items()]
    holder.clear()
    holder.update(items)
    return changed


def free(place: Place) -> bool:
    """Whether a text at this place is only data, which may be anything."""
    return (
        (place[0] in ("recipe", "facts") and len(place) > 1)
        or place == ("labelwise",)
        or (place[0] == "class_names" and len(place) == 2)
    )


#: of the free places those whose type is fixed
TYPED = {
    ("labelwise",),
    ("class_names", 0),
    ("class_names", 1),
    ("recipe", "name"),
    ("facts", "labels"),
    ("facts", "data"),
    ("facts", "backbone"),
}


def texts(origin: Path, replacements: dict[str, str]) -> Iterator[Case]:
    """Every string and every key of a model.json, in turn, replaced by each of some texts."""
    values = document(origin)
    for place, value in places(values):
        for name, text in replacements.items():
            small = len(text) < 4_000_000
            raw = {MARK: f'"{text}"'}
            if isinstance(value, str):
                harmless = free(place) and small and (place != ("labelwise",) or len(text) <= 100)
                changed = replaced(values, place, MARK)
                yield _changed(origin, f"{place} is {name}", changed, harmless, raw)
            if place and isinstance(place[-1], str):
                harmless = place[0] in ("recipe", "facts") and len(place) > 1 and small
                changed = renamed(values, place, MARK)
                yield _changed(origin, f"the key {place} is {name}", changed, harmless, raw)


def numbers(origin: Path) -> Iterator[Case]:
    """Every number, true, false and null of a model.json replaced by odd numbers."""
    values = document(origin)
    for place, value in places(values):
        if not isinstance(value, int | float | None):
            continue
        for text in NUMBERS:
            finite = text not in ("1e999", "NaN", "-Infinity")
            harmless = free(place) and place not in TYPED and finite
            changed = replaced(values, place, MARK)
            yield _changed(origin, f"{place} is {text[:40]}", changed, harmless, {MARK: text})


def lists(origin: Path) -> Iterator[Case]:
    """Every list and every object of a model.json replaced by one far too deep or too long."""
    values = document(origin)
    for place, value in places(values):
        if not place or not isinstance(value, list | dict):
            continue
        changed = replaced(values, place, MARK)
        yield _changed(origin, f"{place} is deep", changed, False, {MARK: NESTED})
        harmless = free(place) and place not in TYPED
        yield _changed(origin, f"{place} is long", changed, harmless, {MARK: MILLION})


def class_names(origin: Path) -> Iterator[Case]:
    """Names of classes that are no names."""
    values = document(origin)
    for names, loads in (
        (["\x1b[2J\x07\n", "\u202egnp.exe"], True),
        (["\ud800", "good"], False),
        (["good", "good"], False),
        ([], False),
        (["good"], False),
        (["bad", "good", "third"], False),
        ([None, "good"], False),
    ):
        changed = replaced(values, ("class_names",), names)
        yield _changed(origin, f"the classes {names!a}", changed, loads)


ARCHITECTURES = [
    "dense 1000000000",
    "dense 65536, dense 65536, dense 65536",
    "100 x [dense 65536]",
    "1000 x [1000 x [conv4096 9x9]]",
    "100 x [100 x [100 x [100 x [conv4096 9x9]]]]",
    "100 x [" * 200 + "relu" + "]" * 200,
    "1 x [" * 1500 + "relu" + "]" * 1500,
    "100 x [100 x [relu]]",
    "100 x [100 x [max 1 stride 1]]",
    "100 x [9 x [max 9 stride 1 same]]",
    "conv65536 9999x9999 same",
    "conv4 3x3 pad 65536",
    "max 60000 same",
    "avg 60000 same stride 1",
    "9" * 9_990,
    "dense " + "9" * 9_990,
    "9" * 9_900 + " x [relu]",
    "[" * 10_000,
    "," * 10_000,
    "os.system('true')",
    "conv4 3x3 relu\n\x1b[2J",
    "",
]
DECODERS = [
    "dense 1000000000",
    "dense 65536, dense 65536, dense 65536, " + DECODER,
    "100 x [100 x [linear]]",
    "100 x [9 x [up 1]], " + DECODER,
    "maps 65536x9999x9999",
    "maps 6x1x1, up 65536, up 65536",
    "maps 6x1x1, up 9999x9999, conv3 9999x9999",
    "maps 6x1x1, deconv65536 9999x9999 to 16x16",
    "maps 6x1x1, deconv3 16x16 stride 65536 pad 65536",
    "maps 6x1x1, deconv3 16x16 to 9999x9999",
    "maps 6x1x1, up 16",
    "os.system('true')",
    "",
]
TIMM = ["vit_7b_patch16_dinov3", "eva02_enormous_patch14_clip_224", "convnext_xxlarge", "resnet152"]
TIMM += ["test_vit", "convnext_tiny_in22ft1k", "resnet18.no_such_tag", "resnet18.a1_in1k", "a.b.c"]
TIMM += [
    "hf-hub:a/b",
    "local-dir:/tmp",
    "hf_hub:timm/resnet18",
    "../x",
    "os.system",
    "not_a_network",
]


def architectures(cnn: Path, probe: Path) -> Iterator[Case]:
    """Networks that ask for memory and time, and sizes that do not fit."""
    values = document(cnn)
    for text in ARCHITECTURES:
        changed = replaced(values, ("architecture", "layers"), text)
        for side in (16, 2048):
            changed = replaced(changed, ("preprocessing", "height"), side)
            changed = replaced(changed, ("preprocessing", "width"), side)
            yield _changed(cnn, f"the layers {text[:60]!r} at {side}", changed)
    values = document(probe)
    for name in TIMM:
        changed = replaced(values, ("architecture", "name"), name)
        yield _changed(probe, f"the timm net {name}", changed)
    for chosen in ([], [6], [-1], [10**30], list(range(64)), [True], [2.0]):
        changed = replaced(values, ("architecture", "chosen"), chosen)
        yield _changed(probe, f"the stages {chosen[:5]}", changed)
    gray = replaced(values, ("preprocessing", "color"), "gray")
    for origin, start in ((cnn, document(cnn)), (probe, values), (probe, gray)):
        for key in ("mean", "std"):
            for new in ([], [0.5], [0.2] * 4, [0.0] * 3, [1e-300] * 3, [0.5, "0.5", 0.5]):
                changed = replaced(start, ("architecture", key), new)
                yield _changed(origin, f"{origin.name} {key} is {new}", changed)


def codes(vae: Path, kmeans: Path) -> Iterator[Case]:
    """Decoders, heads and centroids that ask for memory and time, or do not fit."""
    values = document(vae)
    for text in DECODERS:
        changed = replaced(values, ("architecture", "decoder"), text)
        yield _changed(vae, f"the decoder {text[:60]!r}", changed)
    for hidden in ([65_536] * 16, [0], [2**70], [5.0], [True], [[5]], [], [5, 5], [1] * 1000):
        changed = replaced(values, ("architecture", "hidden"), hidden)
        yield _changed(vae, f"the hidden layers {hidden[:3]}", changed)
    values = document(kmeans)
    for count, side, pixels in (
        (65_536, 4, 16),
        (5, 2048, 16),
        (5, 2047, 2048),
        (5, 100, 2048),
        (65_536, 1, 2048),
        (0, 4, 16),
        (5, 16, 16),
        (6, 4, 16),
        (5, 5, 16),
    ):
        changed = replaced(values, ("architecture", "count"), count)
        changed = replaced(changed, ("architecture", "side"), side)
        for length in ("height", "width"):
            changed = replaced(changed, ("preprocessing", length), pixels)
        yield _changed(kmeans, f"{count} centroids of {side} pixels at {pixels}", changed)


def header(tensors: dict[str, Any]) -> bytes:
    """The header of a safetensors file."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def weights(origin: Path) -> Iterator[Case]:
    """weights.safetensors written by hand."""
    data = (origin / "weights.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    first, second = sorted(entries, key=lambda name: entries[name]["data_offsets"])[:2]

    def entry(**changes: Any) -> bytes:
        return header({**entries, first: {**entries[first], **changes}}) + body

    def numbered(name: str, value: float) -> bytes:
        start, stop = entries[name]["data_offsets"]
        fill = struct.pack("<f", value) * ((stop - start) // 4)
        return data[: 8 + length] + body[:start] + fill + body[stop:]

    start, stop = entries[first]["data_offsets"]
    extra = {"dtype": "F32", "shape": [0], "data_offsets": [len(body), len(body)]}
    cases = {
        "empty": b"",
        "three bytes": b"abc",
        "no tensors": header({}),
        "only zeros": bytes(len(data)),
        "a header of 2**63 bytes": struct.pack("<Q", 2**63) + data[8:],
        "a header of 100 MB": struct.pack("<Q", 100_000_000) + data[8:],
        "a header as long as the file": struct.pack("<Q", len(data) - 8) + data[8:],
        "a header that is not UTF-8": data[:8] + b"\xff" * length + body,
        "a header that is a list": header([]) + body,  # type: ignore[arg-type]
        "a deep header": struct.pack("<Q", 20_000) + NESTED.encode() + body,
        "a header of 20,000 tensors": header({f"t{i}": extra for i in range(20_000)}) + body,
        "the key of a tensor twice": _twice(data, first) + body,
        "a hole": header(entries) + b"\0" * 4 + body,
        "overlaps": entry(data_offsets=entries[second]["data_offsets"]),
        "offsets behind the end": entry(data_offsets=[start, 10**15]),
        "negative offsets": entry(data_offsets=[-4, stop]),
        "offsets from back to front": entry(data_offsets=[stop, start]),
        "another type": entry(dtype="I32"),
        "a wider type": entry(dtype="F64"),
        "an unknown type": entry(dtype="os.system"),
        "a type that torch has not": entry(dtype="F4"),
        "a shape that overflows": entry(shape=[2**62, 2**62]),
        "a shape of zeros": entry(shape=[0, 2**62]),
        "a negative shape": entry(shape=[-1]),
        "a shape of text": entry(shape=["1"]),
        "another shape": entry(shape=[1, *entries[first]["shape"]]),
        "one more tensor": header({**entries, "os.system": extra}) + body,
        "a tensor with a long name": header({**entries, "\x1b\n" * 1000: extra}) + body,
        "a tensor less": header({k: v for k, v in entries.items() if k != first}) + body,
        "metadata of another type": header({"__metadata__": {"a": [1]}, **entries}) + body,
        "another mean than in model.json": numbered("mean", 0.3),
        "a deviation of zero": numbered("std", 0.0),
        "NaN weights": numbered("head.weight", float("nan")),
        "infinite weights": numbered("head.bias", float("inf")),
        "weights that overflow": numbered("body.spatial.0.weight", 3e38),
        "a negative variance": numbered("body.spatial.3.running_var", -1.0),
    }
    for name, changed in cases.items():
        yield Case(f"weights: {name}", lambda to, d=changed: with_weights(origin, to, d))


def _twice(data: bytes, name: str) -> bytes:
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    again = {**entries[name], "shape": [entries[name]["data_offsets"][1] // 4]}
    text = data[8 : 8 + length].rstrip()[:-1] + f',"{name}":{json.dumps(again)}}}'.encode()
    return struct.pack("<Q", len(text)) + text


class Bomb:
    """A pickle that runs a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pickle-was-read",)


def pickles(origin: Path) -> Iterator[Case]:
    """Pickles under every name: in place of a file refused, beside the files not opened."""
    archive = Path(origin.parent, "bomb.pt")
    torch.save({"weights": Bomb()}, archive)
    zipped = Path(origin.parent, "bomb.zip")
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("data.pkl", pickle.dumps(Bomb()))
    bombs = {"pickle": pickle.dumps(Bomb()), "torch": archive.read_bytes()}
    bombs["zip"] = zipped.read_bytes()
    for kind, data in bombs.items():
        yield Case(f"model.json is a {kind}", lambda to, d=data: _with(origin, to, "model.json", d))
        yield Case(f"weights: a {kind}", lambda to, d=data: with_weights(origin, to, d))
        for name in ("model.pkl", "pytorch_model.bin", "weights.pth", "__init__.py", "torch.py"):
            yield Case(
                f"a {kind} beside, named {name}",
                lambda to, d=data, n=name: _with(origin, to, n, d),
                loads=True,
            )


def odd_files(origin: Path) -> Iterator[Case]:
    """Files that are no files."""

    def put(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
        def write(folder: Path) -> None:
            shutil.copytree(origin, folder)
            (folder / name).unlink()
            make(folder / name)

        return write

    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(100 * 10**9)

    for name in ("model.json", "weights.safetensors"):
        kinds: dict[str, Callable[[Path], object]] = {
            "a link to itself elsewhere": lambda p: p.symlink_to(origin / p.name),
            "a link to /etc/passwd": lambda p: p.symlink_to("/etc/passwd"),
            "a link to nowhere": lambda p: p.symlink_to("nowhere"),
            "a link to a device": lambda p: p.symlink_to("/dev/zero"),
            "a folder": lambda p: p.mkdir(),
            "a pipe": lambda p: os.mkfifo(p),
            "missing": lambda p: None,
            "100 GB of nothing": sparse,
        }
        for kind, make in kinds.items():
            yield Case(f"{name} is {kind}", put(name, make))
    for size in (2**20, 2**33):
        yield Case(f"sparse weights of {size}", lambda to, n=size: _sparse_weights(origin, to, n))


def unsealed(origin: Path) -> Iterator[Case]:
    """Documents of format 2 without a valid seal, and old ones with what they never had."""
    values = document(origin)
    old = {**values, "format": 1}
    for name, data in {
        "no seal": json.dumps(values).encode(),
        "a seal of other words": seal(json.dumps(values)).replace(b"good", b"fair"),
        "only a seal": seal("{}"),
        "two seals": seal(seal(json.dumps(values))),
        "a sealed list": seal("[]"),
        "not UTF-8": seal(json.dumps(values).encode().replace(b"good", b"\xff\xfe")),
        "UTF-16": json.dumps(values).encode("utf-16"),
        "nothing": b"",
        "an unknown format": seal(json.dumps({**values, "format": 10**30})),
        "format true": json.dumps({**values, "format": True}).encode(),
        "format 1 with another's seal": json.dumps({**old, "sha256": "0" * 64}).encode(),
    }.items():
        yield Case(f"model.json: {name}", lambda to, d=data: _with(origin, to, "model.json", d))
    plain = json.dumps(old).encode()
    yield Case("format 1", lambda to: _with(origin, to, "model.json", plain), loads=True)


def with_weights(origin: Path, folder: Path, data: bytes) -> None:
    """A copy with other weights, and their size and hash in model.json."""
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(data)
    values = document(origin)
    values["weights"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_document(folder, values)


def _sparse_weights(origin: Path, folder: Path, size: int) -> None:
    folder.mkdir()
    with (folder / "weights.safetensors").open("wb") as file:
        file.truncate(size)
    write_document(folder, replaced(document(origin), ("weights", "bytes"), size))


def _with(origin: Path, folder: Path, name: str, data: bytes) -> None:
    shutil.copytree(origin, folder)
    (folder / name).write_bytes(data)


def _changed(
    origin: Path, name: str, values: Any, loads: bool = False, raw: dict[str, str] | None = None
) -> Case:
    def write(folder: Path) -> None:
        folder.mkdir()
        os.link(origin / "weights.safetensors", folder / "weights.safetensors")
        write_document(folder, values, raw)

    return Case(f"{origin.name}: {name}", write, loads)


def backbones(folder: Path) -> Iterator[Case]:
    """Folders for timm:FOLDER."""
    import timm
    from safetensors.torch import save

    name = "test_efficientnet"
    good = save(timm.create_model(name, pretrained=False).state_dict())
    length = int.from_bytes(good[:8], "little")
    nan = good[:-4000] + np.full(1000, np.nan, np.float32).tobytes()

    def case(what: str, config: Any, data: bytes = good, loads: bool = False) -> Case:
        def write(to: Path) -> None:
            to.mkdir()
            text = config if isinstance(config, bytes) else json.dumps(config).encode()
            (to / "config.json").write_bytes(text)
            (to / "model.safetensors").write_bytes(data)

        return Case(f"backbone: {what}", write, loads)

    for named in [*TIMM, *TEXTS, "x" * 10_000_000, None, 3, [], {}]:
        yield case(f"architecture {named!s:.40}", {"architecture": named})
    for what, card in {
        "places of weights elsewhere": {
            "url": "http://127.0.0.1:9/x",
            "file": "/etc/passwd",
            "hf_hub_id": "a/b",
            "custom_load": "os.system",
        },
        "an odd card": {"mean": (0.1, 0.2, 0.3), "std": [1, 1, 1], "input_size": [3, 64, 64]},
    }.items():
        yield case(what, {"architecture": name, "pretrained_cfg": card}, loads=True)
    for card in (
        *({"mean": mean} for mean in ([], [0.5], [0.5] * 4, "abc", 0.5, ["0.5"] * 3, [1e308] * 3)),
        *({"std": std} for std in ([0, 0, 0], [-1, 1, 1], [True] * 3, None, {})),
        *({"input_size": size} for size in ("abc", [3], [], [3, 8, 10**30], [3, 8, "9x"], 224)),
        *({"license": license_} for license_ in (3, [], {}, "x" * 2000)),
        "os.system",
        [],
        3,
    ):
        yield case(f"card {card!s:.60}", {"architecture": name, "pretrained_cfg": card})
    named = {"architecture": name}
    for what, data in {
        "empty": b"",
        "a pickle": pickle.dumps(Bomb()),
        "a header of 2**63": struct.pack("<Q", 2**63) + good[8:],
        "a header of 100 MB": struct.pack("<Q", 10**8) + good[8:],
        "truncated": good[: len(good) // 2],
        "an unknown type": good[: 8 + length].replace(b"F32", b"F4 ") + good[8 + length :],
        "of another net": header({}),
        "NaN": nan,
    }.items():
        yield case(f"weights {what}", named, data)
    for what, text in {
        "deep": NESTED,
        "NaN": '{"architecture": NaN}',
        "not UTF-8": "\ud800",
    }.items():
        yield case(f"config {what}", text.encode("utf-8", "surrogatepass"))


def bundles(folder: Path) -> dict[str, Path]:
    """One valid bundle of every kind."""
    made = {kind: bundle.save(model(kind), folder / kind) for kind in KINDS}
    stored = Path(__file__).parent / "bundles" / "format-1"
    made["format-1"] = folder / "format-1"
    made["format-1"].mkdir()
    for name in ("model.json", "weights.safetensors"):
        shutil.copyfile(stored / name, made["format-1"] / name)
    return made


def all_models(made: dict[str, Path]) -> Iterator[Case]:
    """Every hostile model."""
    small = {text: text for text in TEXTS}
    for origin in made.values():
        yield from texts(origin, small)
        yield from numbers(origin)
    cnn = made["cnn"]
    yield from texts(cnn, MEGABYTES)
    yield from lists(cnn)
    yield from class_names(cnn)
    yield from architectures(cnn, made["probe"])
    yield from codes(made["vae"], made["kmeans"])
    yield from weights(cnn)
    yield from pickles(cnn)
    yield from odd_files(cnn)
    yield from unsealed(cnn)
