from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from skimage import data as photos
from sklearn.linear_model import LogisticRegression
from torch import nn

from labelwise import engine
from labelwise.backbones import find_pretrained
from labelwise.engine import Eager, Exported, Pooled, export_file, open_engine
from labelwise.features import load_body, normalized

SHAPE = (3, 12, 10)
MANY = 10**12  # images for which everything is exported


class Body(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images):
        maps = self.relu(self.conv(images))
        return (maps,), maps.mean((2, 3))


def scaled(pixels):
    return pixels.float() / 255


def small(seed=0):
    return Pooled(Body(seed), scaled).eval()


def pixels(count, shape=SHAPE):
    return torch.randint(
        0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(count)
    )


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory):
    """The folder of a cache that holds the exported small network."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELWISE_CACHE", str(folder))
        open_engine(small(), {}, SHAPE, MANY)
    return folder


@pytest.fixture
def cache(exported_once, tmp_path, monkeypatch):
    """A cache of one's own with the same."""
    monkeypatch.setenv("LABELWISE_CACHE", str(exported_once))
    data = export_file({}, SHAPE).read_bytes()
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    file = export_file({}, SHAPE)
    file.parent.mkdir()
    file.write_bytes(data)
    os.utime(file, (0, 0))
    return file


@pytest.fixture
def no_exporter(monkeypatch):
    """Exporting is an error that says so."""

    def refuse(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(engine, "export", refuse)


def crops():
    """200 pieces of four photos, uint8 (200, 3, 64, 64), and which photo each is of."""
    images = [photos.chelsea(), photos.coffee(), photos.astronaut(), photos.rocket()]
    rng = np.random.default_rng(0)
    pieces, labels = [], np.arange(200) % 4
    for label in labels:
        image = images[label]
        top, left = (rng.integers(0, side - 64) for side in image.shape[:2])
        pieces.append(image[top : top + 64, left : left + 64].transpose(2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(pieces)), labels


@pytest.fixture(scope="module")
def two_ways(tmp_path_factory):
    """Embeddings of `crops` by the default backbone: by torch, and by ONNX Runtime."""
    backbone = find_pretrained("efficientnet-lite0")
    pooled = Pooled(load_body(backbone), partial(normalized, backbone=backbone))
    file = tmp_path_factory.mktemp("lite0") / "lite0.onnx"
    engine.export(pooled, (3, 64, 64), file)
    found, images = Exported(file), crops()[0]
    return Eager(pooled)(images), np.concatenate([found(part) for part in images.split(7)])


def test_embeddings_of_the_default_backbone_are_those_of_torch(two_ways):
    eager, exported = two_ways
    assert np.abs(exported - eager).max() <= 1e-5 * np.abs(eager).max()


def test_no_prediction_from_embeddings_differs_from_those_of_torch(two_ways):
    """Whichever engine the classifier has learned from; a third of the images is learned from."""
    labels, learned = crops()[1], np.arange(200) % 3 == 0
    answers = [
        LogisticRegression(max_iter=2000).fit(train[learned], labels[learned]).predict(judged)
        for train in two_ways
        for judged in two_ways
    ]
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


def test_a_large_data_set_is_computed_by_onnx_runtime(cache):
    assert isinstance(open_engine(small(), {}, SHAPE, MANY), Exported)


def test_a_network_is_exported_once(cache, no_exporter):
    assert isinstance(open_engine(small(), {}, SHAPE, MANY), Exported)
    assert cache.stat().st_mtime == 0


def test_a_small_data_set_uses_what_is_exported_already(cache):
    assert isinstance(open_engine(small(), {}, SHAPE, 1), Exported)


def test_a_small_data_set_does_not_wait_for_an_export(tmp_path, monkeypatch, no_exporter):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    assert isinstance(open_engine(small(), {}, SHAPE, 100), Eager)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_images_gets_the_embeddings_of_torch(cache, count):
    found = Exported(cache)(pixels(count))
    assert found == pytest.approx(Eager(small())(pixels(count)), abs=1e-6)


def test_threads_get_the_embeddings_of_their_images(cache):
    found, wanted = Exported(cache), Eager(small())
    batches = [pixels(count) for count in range(1, 30)]
    with ThreadPoolExecutor(4) as pool:
        for result, images in zip(pool.map(found, batches), batches, strict=True):
            assert result == pytest.approx(wanted(images), abs=1e-6)


@pytest.mark.parametrize("keep", [0, 100, 600])
def test_a_damaged_file_is_made_again(cache, keep):
    whole = cache.read_bytes()
    cache.write_bytes(whole[:keep])
    assert isinstance(open_engine(small(), {}, SHAPE, MANY), Exported)
    assert len(cache.read_bytes()) == len(whole)


def test_a_file_of_another_network_is_not_used(cache):
    other = small(seed=1)
    found = open_engine(other, {}, SHAPE, MANY)
    assert isinstance(found, Exported)
    assert found(pixels(3)) == pytest.approx(Eager(other)(pixels(3)), abs=1e-6)


def test_networks_and_sizes_have_files_of_their_own():
    files = {
        export_file(key, shape)
        for key in ({}, {"weights": "0"}, {"weights": "1"})
        for shape in (SHAPE, (3, 10, 12))
    }
    assert len(files) == 6


def test_torch_computes_what_cannot_be_exported(tmp_path, monkeypatch, no_exporter):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    with pytest.warns(RuntimeWarning, match="no such operator"):
        found = open_engine(small(), {}, SHAPE, MANY)
    assert isinstance(found, Eager)


def test_torch_computes_where_onnx_runtime_is_missing(cache, monkeypatch):
    monkeypatch.setattr(engine, "export", lambda *_: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.warns(RuntimeWarning, match="onnxruntime"):
        found = open_engine(small(), {}, SHAPE, MANY)
    assert isinstance(found, Eager)


def test_an_export_with_other_embeddings_is_not_used(cache, monkeypatch):
    data = cache.read_bytes()
    monkeypatch.setattr(engine, "export", lambda pooled, shape, file: file.write_bytes(data))
    with pytest.warns(RuntimeWarning, match="not those of torch"):
        found = open_engine(small(seed=1), {}, SHAPE, MANY)
    assert isinstance(found, Eager)
    assert not cache.exists()


def test_exporting_leaves_the_network_as_it_is(tmp_path):
    pooled = small()
    before = {name: value.clone() for name, value in pooled.state_dict().items()}
    engine.export(pooled, SHAPE, tmp_path / "x.onnx")
    assert pooled.body.relu.inplace
    assert all(torch.equal(value, before[name]) for name, value in pooled.state_dict().items())


def test_operations_are_two_for_every_multiplication():
    assert engine.operations(small(), SHAPE) == 2 * (12 * 10) * 4 * (3 * 3 * 3)
