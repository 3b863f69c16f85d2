"""Where a model looks: maps that sum to the logit, tests of maps that can fail, and the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import labelwise
from labelwise import bundle, cli
from labelwise.architecture import build
from labelwise.attribution.attribute import attribute
from labelwise.attribution.cam import cam
from labelwise.attribution.checks import faithfulness, likeness, randomized, shares, shortcut
from labelwise.attribution.grad_cam import grad_cam
from labelwise.attribution.occlusion import occlusion
from labelwise.attribution.picture import overlay
from labelwise.attribution.spread import spread
from labelwise.backbones import find_pretrained
from labelwise.data.preprocess import Preprocessing
from labelwise.errors import DataError, OptionError
from labelwise.model import Model
from labelwise.nn.taps import Taps


def model_of(layers: str, size: int = 24, classes: int = 3, **more) -> Model:
    """A network with random weights."""
    torch.manual_seed(0)
    architecture = {"kind": "layers", "layers": layers, "mean": [0.5], "std": [0.25], **more}
    network = build(architecture, classes, (1, size, size)).eval()
    names = tuple("abcdefghij"[:classes])
    return Model(network, architecture, Preprocessing(size, size, "gray"), names, {"name": "cnn"})


def pixels_of(model: Model, count: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *model.preprocessing.shape)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def logits_of(model: Model, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.network.logits(pixels).gather(1, classes[:, None])[:, 0]


CLASSES = torch.tensor([0, 2, 1, 2])


@pytest.mark.parametrize(
    "layers",
    ["conv8 3x3 relu, gap", "conv8 3x3 relu, max 2, conv6 3x3", "conv4 5x5 stride 3 relu, gap"],
)
def test_the_sum_of_a_map_and_the_bias_is_the_logit(layers):
    model = model_of(layers)
    pixels = pixels_of(model)
    heat = cam(model.network, pixels, CLASSES)
    assert heat.shape == (4, 24, 24)
    total = heat.sum((1, 2)) + model.network.head.bias[CLASSES]
    torch.testing.assert_close(total, logits_of(model, pixels, CLASSES), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chosen", [(-1,), (1, 2), (0, 1, 2, -1)])
def test_it_is_so_for_several_stages_of_a_pretrained_network_too(chosen):
    torch.manual_seed(0)
    taps = Taps("efficientnet_lite0", chosen, (64, 64))
    architecture = {**taps.architecture, "mean": [0.5] * 3, "std": [0.5] * 3}
    network = build(architecture, 3, (3, 64, 64), taps).eval()
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    heat = cam(network, pixels, CLASSES)
    with torch.inference_mode():
        logits = network.logits(pixels).gather(1, CLASSES[:, None])[:, 0]
    total = heat.sum((1, 2)) + network.head.bias[CLASSES]
    torch.testing.assert_close(total, logits, atol=1e-3, rtol=1e-3)


def test_a_map_is_hot_where_the_class_is():
    """A network that counts bright pixels for class 0."""
    model = model_of("conv1 1x1 relu, gap", classes=2)
    with torch.no_grad():
        conv = next(m for m in model.network.modules() if isinstance(m, nn.Conv2d))
        conv.weight.fill_(1.0)
        conv.bias.zero_()
        model.network.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    pixels = torch.zeros(1, 1, 24, 24, dtype=torch.uint8)
    pixels[:, :, 3:9, 15:21] = 255
    one, zero = torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    for way in (cam, grad_cam, occlusion):
        heat = way(model.network, pixels, zero)[0]
        inside = heat[3:9, 15:21].mean()
        outside = heat[:, :12].mean()
        assert inside > 10 * outside.abs()
    assert cam(model.network, pixels, one)[0, 5, 17] < 0


@pytest.mark.parametrize("size", [(9, 7), (28, 28), (32, 30)])
def test_spreading_keeps_the_sum(size):
    heat = torch.randn(3, 7, 7)
    large = spread(heat, size)
    assert large.shape == (3, *size)
    torch.testing.assert_close(large.sum((1, 2)), heat.sum((1, 2)), atol=1e-4, rtol=1e-4)


def test_grad_cam_agrees_with_the_map_where_both_are_possible():
    """Of one mean of maps behind a linear head both weigh the same maps with the same weights."""
    model = model_of("conv8 3x3 same relu, gap")
    pixels = pixels_of(model)
    exact = cam(model.network, pixels, CLASSES).clamp(min=0)
    found = grad_cam(model.network, pixels, CLASSES)
    scale = exact.amax((1, 2), keepdim=True) / found.amax((1, 2), keepdim=True)
    torch.testing.assert_close(exact, scale * found, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("layers", "more", "method"),
    [
        ("conv8 3x3 relu, gap", {}, "cam"),
        ("conv8 3x3 relu, gap, dense8 relu", {}, "grad-cam"),
        ("conv8 3x3 relu, gap", {"hidden": [5]}, "grad-cam"),
        ("conv8 3x3 relu, gap", {"project": 4}, "grad-cam"),
        ("dense8 relu", {}, "occlusion"),
    ],
)
def test_the_most_exact_way_that_the_network_allows_is_taken(layers, more, method):
    model = model_of(layers, **more)
    found = attribute(model, pixels_of(model), CLASSES.numpy())
    assert found.method == method
    assert found.heat.shape == (4, 24, 24)
    assert np.isfinite(found.heat).all()


def test_a_way_that_is_not_possible_is_refused():
    model = model_of("dense8 relu")
    for method in ("cam", "grad-cam"):
        with pytest.raises(OptionError, match="does not allow it.*auto"):
            attribute(model, pixels_of(model), CLASSES.numpy(), method)
    with pytest.raises(OptionError, match="expected auto or one of cam"):
        attribute(model, pixels_of(model), CLASSES.numpy(), "shap")


def test_occlusion_is_what_covering_costs():
    model = model_of("dense8 relu", size=8)
    pixels, label = pixels_of(model, 1), torch.tensor([1])
    heat = occlusion(model.network, pixels, label)
    before = logits_of(model, pixels, label)
    gray = pixels.float().mean().round().to(torch.uint8)
    lost = np.zeros((8, 8))
    count = np.zeros((8, 8))
    for i in range(7):
        for j in range(7):
            covered = pixels.clone()
            covered[:, :, i : i + 2, j : j + 2] = gray
            lost[i : i + 2, j : j + 2] += float(before - logits_of(model, covered, label))
            count[i : i + 2, j : j + 2] += 1
    assert heat[0].numpy() == pytest.approx(lost / count, abs=1e-5)


class Bright(nn.Module):
    """Sees class 1 in bright pixels of the middle only."""

    def __call__(self, pixels: torch.Tensor) -> np.ndarray:
        bright = pixels[:, :, 8:16, 8:16].float().mean((1, 2, 3)).numpy() / 255
        return np.stack([1 - bright, bright], axis=1)


def test_maps_of_what_the_model_uses_pass_and_others_fail():
    pixels = torch.zeros(16, 1, 24, 24, dtype=torch.uint8)
    pixels[:, :, 8:16, 8:16] = torch.randint(200, 256, (16, 1, 8, 8), dtype=torch.uint8)
    classes = np.ones(16, np.int64)
    right = np.zeros((16, 24, 24), np.float32)
    right[:, 8:16, 8:16] = 1
    found = faithfulness(Bright(), pixels, right, classes)
    assert min(found.deletion_gain.low, found.insertion_gain.low) > 0
    assert found.deletion < found.deletion_random
    assert found.insertion > found.insertion_random
    noise = np.random.default_rng(1).random((16, 24, 24)).astype(np.float32)
    for heat in (1 - right, noise):
        found = faithfulness(Bright(), pixels, heat, classes)
        assert max(found.deletion_gain.low, found.insertion_gain.low) <= 0


def test_maps_of_shuffled_weights_are_others_and_maps_of_edges_would_not_be():
    model = model_of("conv8 3x3 relu, conv8 3x3 relu, gap")
    pixels = pixels_of(model, 16)
    classes = np.arange(16) % 3
    found = attribute(model, pixels, classes)
    assert abs(randomized(model, pixels, classes, found)).mean() < 0.5
    assert likeness(found.heat, found.heat) == pytest.approx(np.ones(16))
    assert likeness(found.heat, -found.heat) == pytest.approx(-np.ones(16))


def alarm(heat: np.ndarray) -> str | None:
    return shortcut(shares(heat).mean(axis=0)).alarm


def test_heat_in_one_corner_or_at_the_border_is_an_alarm():
    rng = np.random.default_rng(0)
    blob = np.zeros((32, 32))
    blob[:8, :8] = 5
    shifts = rng.integers(0, 32, (40, 2))
    anywhere = np.stack([np.roll(blob, shift, (0, 1)) for shift in shifts])
    assert alarm(anywhere) is None
    corner = anywhere.copy()
    corner[:, :8, -8:] += 20
    assert "upper right corner" in alarm(corner)
    border = np.zeros((20, 32, 32))
    border[:, :3], border[:, -3:], border[:, :, :3], border[:, :, -3:] = 1, 1, 1, 1
    assert "at the border" in alarm(border)
    assert alarm(np.full((5, 32, 32), -1.0)) is None


def test_an_overlay_is_the_gray_image_where_there_is_no_heat():
    pixels = torch.full((3, 224, 224), 90, dtype=torch.uint8)
    heat = np.zeros((224, 224))
    heat[100, 100] = 1
    found = np.asarray(overlay(pixels, heat))
    assert found[0, 0].tolist() == [90, 90, 90]
    assert found[100, 100].tolist() != [90, 90, 90]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return bundle.save(model_of("conv8 3x3 relu, gap"), tmp_path_factory.mktemp("model"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(0, 256, (30, 40)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    Image.new("L", (9, 9)).save(folder / "<img src=x onerror=alert(1)>.png")
    return folder


def test_every_image_gets_pictures_and_every_file_a_row(saved, photos, tmp_path):
    found = labelwise.explain(saved, photos, out=tmp_path / "out", channels=[0, 5])
    assert len(found.table) == 22
    answered = found.table["status"] == "ok"
    assert answered.sum() == 21
    assert found.table[~answered]["path"].str.endswith("broken.jpg").all()
    assert found.method == "cam"
    for name in (*found.table[answered]["picture"], *found.table[answered]["input"]):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size == (240, 240)
    assert len(list((tmp_path / "out").glob("*-channel-5.png"))) == 21
    page = found.page.read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "broken.jpg" in page
    answers = bundle.load(saved).predict(photos)
    assert found.table["label"].tolist() == answers["label"].tolist()


def test_the_heat_is_kept_on_a_grid_whose_mean_still_adds_up_to_the_logit(photos, tmp_path):
    model = model_of("conv8 3x3 relu, gap", size=32)
    found = labelwise.explain(model, photos, out=tmp_path / "out", of="b")
    maps = pd.read_parquet(tmp_path / "out" / "maps.parquet")
    assert maps["path"].tolist() == found.table.loc[found.table["status"] == "ok", "path"].tolist()
    data = labelwise.load(str(photos))
    logits = model.logits(data.images(data.usable))[:, 1]
    heat = np.stack(maps["heat"].to_list())
    assert heat.shape == (21, 16 * 16)
    bias = model.network.head.bias[1].item()
    np.testing.assert_allclose(heat.mean(axis=1) * 32 * 32 + bias, logits, atol=1e-4)


def test_broken_files_at_the_end_do_not_hide_the_others(saved, photos, tmp_path):
    for number in range(12):
        (photos / f"zz{number}.png").write_bytes(b"broken")
    found = labelwise.explain(saved, photos, out=tmp_path / "out")
    assert found.method == "cam"
    assert "No image could be read" not in found.page.read_text()


def test_the_class_can_be_chosen(saved, photos, tmp_path):
    found = labelwise.explain(saved, photos, out=tmp_path / "out", of="b")
    assert set(found.table["shown"].dropna()) == {"b"}
    with pytest.raises(OptionError, match="it knows 'a', 'b', 'c'"):
        labelwise.explain(saved, photos, out=tmp_path / "out", of="z")


def test_what_cannot_be_shown_is_refused_before_anything_is_written(saved, photos, tmp_path):
    for options, message in (
        ({"channels": [8]}, "from 0 to 7"),
        ({"method": "occlude"}, "expected auto or one of"),
    ):
        with pytest.raises(OptionError, match=message):
            labelwise.explain(saved, photos, out=tmp_path / "out", **options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file to explain"):
        labelwise.explain(saved, tmp_path / "empty", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_the_page_and_says_what_is_set_aside(saved, photos, tmp_path):
    words = ["explain", str(saved), str(photos), "--out", str(tmp_path / "out"), "--quiet"]
    done = CliRunner().invoke(cli.app, [*words, "--channels", "1"])
    assert done.exit_code == 0
    assert done.stdout.strip() == str((tmp_path / "out" / "index.html").resolve())
    assert "1 file is set aside" in done.stderr
    wrong = CliRunner().invoke(cli.app, [*words, "--channels", "a"])
    assert "expected whole numbers" in str(wrong.exception)


def test_the_default_backbone_gives_exact_maps():
    backbone = find_pretrained("efficientnet-lite0")
    taps = backbone.body()
    architecture = {**taps.architecture, **backbone.scaling}
    network = build(architecture, 2, (3, 96, 96), taps).eval()
    model = Model(network, architecture, Preprocessing(96, 96), ("a", "b"), {"name": "probe"})
    pixels = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    found = attribute(model, pixels, np.array([0, 1]))
    assert found.method == "cam"
    total = found.heat.sum(axis=(1, 2)) + network.head.bias.detach().numpy()
    logits = dataclasses.replace(model).pixel_logits(pixels)
    assert total == pytest.approx(logits[[0, 1], [0, 1]], abs=1e-3)


def test_pages_are_named_by_number_and_never_by_file(saved, photos, tmp_path):
    found = labelwise.explain(saved, photos, out=tmp_path / "out")
    names = {path.name for path in found.page.parent.iterdir()}
    names -= {"index.html", "maps.parquet"}
    assert all(name[:5].isdigit() for name in names)
    assert Path(found.page).name == "index.html"
