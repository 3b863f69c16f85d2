"""Who computes embeddings, from decoded pixels or from files; the process a worker runs in.

python -m engines.embedders NAME REQUEST      (started by embedding.py and photos.py)
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from labelwise.backbones import find_pretrained
from labelwise.data.blocks import as_block
from labelwise.data.dataset import Images
from labelwise.data.load import load
from labelwise.data.memory import nameless_dataset
from labelwise.data.preprocess import Preprocessing, in_batches
from labelwise.features import embeddings, engine_for

Work = Callable[[], object]
BATCH = 32  # of the peer
EVERYTHING = 10**9  # images for which any network is exported


def gemm(request: dict[str, Any]) -> Work:
    """A float32 matrix product: what this machine can do at most."""
    a, b = torch.rand(2, 2048, 2048)
    return lambda: a @ b


def labelwise(request: dict[str, Any]) -> Work:
    """As `embeddings` computes what is not in the store; the network was exported before."""
    pixels = images(request)
    dataset = nameless_dataset(as_block(pixels.permute(0, 2, 3, 1).numpy(), "random", []))
    return _engine(dataset.images(dataset.usable), request["size"])


def labelwise_files(request: dict[str, Any]) -> Work:
    """The same from files that were looked at before."""
    dataset = load(request["folder"])
    return _engine(dataset.images(dataset.usable), request["size"])


def labelwise_new_files(request: dict[str, Any]) -> Work:
    """From files never seen: also the look at each that finds damage and duplicates."""
    backbone, size = find_pretrained("efficientnet-lite0"), request["size"]
    engine_for(backbone, Preprocessing(size, size), EVERYTHING)  # exported before

    def work() -> None:
        with TemporaryDirectory() as cache:
            os.environ["LABELWISE_CACHE"] = cache
            dataset = load(request["folder"])
            embeddings(dataset.images(dataset.usable), backbone, Preprocessing(size, size))

    return work


def eager(request: dict[str, Any]) -> Work:
    """timm's model as it comes; channels first, pixels scaled as float32."""
    net, pixels = lite0(), images(request)

    @torch.inference_mode()
    def work() -> None:
        for part in pixels.split(BATCH):
            net((part.float() / 255 - 0.5) / 0.5)

    return work


def eager_files(request: dict[str, Any]) -> Work:
    """The same from the batches of an ImageFolder and a DataLoader with two workers."""
    size = request["size"]
    transform = v2.Compose(
        [
            v2.Resize(size * 8 // 7),
            v2.CenterCrop(size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(request["folder"], transform), BATCH, num_workers=2
    )
    net = lite0()

    @torch.inference_mode()
    def work() -> None:
        for pixels, _ in loader:
            net(pixels)

    return work


def lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 of timm, pooled; its weights do not matter for the time."""
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()


def images(request: dict[str, Any]) -> torch.Tensor:
    """Random ones, uint8 (N, 3, size, size)."""
    rng = np.random.default_rng(0)
    size = request["size"]
    return torch.from_numpy(rng.integers(0, 256, (request["images"], 3, size, size), np.uint8))


def _engine(images: Images, size: int) -> Work:
    preprocessing = Preprocessing(size, size)
    engine = engine_for(find_pretrained("efficientnet-lite0"), preprocessing, EVERYTHING)
    assert type(engine).__name__ == "Exported", "this would time torch"
    batches = partial(in_batches, images, preprocessing, engine)
    return lambda: list(batches())


def cpu_seconds() -> float:
    """Of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Prepare the work, then do it once for every line that is read."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    work = globals()[sys.argv[1]](json.loads(sys.argv[2]))
    print("{}", file=answers, flush=True)
    while sys.stdin.readline():
        wall, cpu = time.perf_counter(), cpu_seconds()
        work()
        taken = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
        print(json.dumps(taken), file=answers, flush=True)


if __name__ == "__main__":
    main()
