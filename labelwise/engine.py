"""Engine: what computes embeddings on a CPU, ONNX Runtime where exporting the network pays.

An exported network is a file in the cache folder, made once per network, input size and library
versions. It is used only after its answers to a few random images were those of torch, within
TOLERANCE; whatever goes wrong on the way there, torch computes. The embeddings of both engines may
stand in one store: in a test of the default backbone no prediction of a classifier differs.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import json
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from labelwise.data.cache import cache_folder
from labelwise.files import write_file

#: embeddings of prepared images: uint8 (n, C, H, W) -> float32 (n, D); safe in several threads
Engine = Callable[[torch.Tensor], np.ndarray]

EXPORTER = 1  # raise it whenever an exported file could come out differently
TOLERANCE = 1e-4  # of the largest value of an embedding; float32 in another order gives about 1e-6

# Exporting takes about 8 s of one core, and ONNX Runtime saves 9.4 ms of a core per GFLOP beside
# torch (EfficientNet-Lite0 at 128 and at 224 px). On two cores that is even at 1.7e12 operations;
# less is asked, since the file also serves the next data set.
EXPORT_PAYS = 1e12


class Pooled(nn.Module):
    """What an engine computes: prepared images -> embeddings.

    Attributes:
        body: normalized images -> (maps, embedding); frozen.
        normalize: uint8 (n, C, H, W) as the body expects it.
    """

    def __init__(self, body: nn.Module, normalize: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.body = body
        self.normalize = normalize

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.body(self.normalize(pixels))[1]
        return embedding


def open_engine(
    pooled: Pooled, key: Mapping[str, Any], shape: tuple[int, int, int], images: int
) -> Engine:
    """The engine for a network and an input size.

    Args:
        key: names the network: weights, architecture, normalization; JSON-safe.
        shape: (C, H, W) of an image.
        images: of the whole data set, so that a run that is resumed decides as before.
    """
    eager = Eager(pooled)
    file = export_file(key, shape)
    if not file.exists() and images * operations(pooled, shape) < EXPORT_PAYS:
        return eager
    try:
        return _exported(file, pooled, shape)
    except Exception as error:  # exporters refuse in many ways, and torch can always compute
        said = " ".join(str(error).split())[:200] or type(error).__name__
        warnings.warn(
            f"ONNX Runtime cannot compute this network ({said}), so that torch does, more slowly.",
            RuntimeWarning,
            stacklevel=2,
        )
        return eager


class Eager:
    """torch, one batch at a time on all threads, while other threads prepare the next."""

    def __init__(self, pooled: Pooled) -> None:
        self._pooled = pooled
        self._lock = threading.Lock()

    def __call__(self, pixels: torch.Tensor) -> np.ndarray:
        with self._lock, torch.inference_mode():
            return self._pooled(pixels).numpy()


class Exported:
    """ONNX Runtime, one thread per call: a barrier after every layer would wait for the slowest."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # its warnings are for those who build networks
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self._name = self._session.get_inputs()[0].name

    def __call__(self, pixels: torch.Tensor) -> np.ndarray:
        return np.asarray(self._session.run(None, {self._name: pixels.numpy()})[0])


def operations(pooled: Pooled, shape: tuple[int, int, int]) -> float:
    """Floating-point operations for one image: of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        pooled(torch.zeros(1, *shape, dtype=torch.uint8))
    return float(counter.get_total_flops())


def export_file(key: Mapping[str, Any], shape: tuple[int, int, int]) -> Path:
    """Where the exported network of a key is, or would be."""
    packages = ("torch", "timm", "onnx", "onnxscript")
    versions = {name: importlib.metadata.version(name) for name in packages}
    whole = {"network": dict(key), "shape": shape, "exporter": EXPORTER, "versions": versions}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]
    return engine_folder() / f"{digest}.onnx"


def engine_folder() -> Path:
    """Where exported networks are."""
    return cache_folder() / "engines"


def export(pooled: Pooled, shape: tuple[int, int, int], file: Path) -> None:
    """Write a network as ONNX: the number of images is free, their size fixed."""
    example = torch.zeros(2, *shape, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself is made of
        program = torch.onnx.export(
            _out_of_place(pooled),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("images")},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto.SerializeToString()
    write_file(file, lambda stream: stream.write(model))


def agrees(engine: Engine, pooled: Pooled, shape: tuple[int, int, int]) -> bool:
    """Whether an engine's embeddings of random images are those of torch, within TOLERANCE."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=generator)
    wanted, found = Eager(pooled)(pixels), engine(pixels)
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    return bool(np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max())


def _exported(file: Path, pooled: Pooled, shape: tuple[int, int, int]) -> Engine:
    """The engine of a file; made again where it is missing, damaged or not this network."""
    if file.exists():
        with contextlib.suppress(Exception):  # ONNX Runtime has its own ones for a damaged file
            engine = Exported(file)
            if agrees(engine, pooled, shape):
                return engine
    export(pooled, shape, file)
    engine = Exported(file)
    if not agrees(engine, pooled, shape):
        file.unlink(missing_ok=True)
        raise ArithmeticError("its embeddings are not those of torch")
    return engine


def _out_of_place(pooled: Pooled) -> Pooled:
    """A copy without operations in place, which the exporter takes half its time to undo."""
    pooled = copy.deepcopy(pooled).eval()
    for module in pooled.modules():
        if "inplace" in vars(module):
            vars(module)["inplace"] = False
    return pooled
