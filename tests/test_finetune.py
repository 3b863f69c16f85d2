"""Fine-tuning: what moves and what does not, what is computed once, and when the probe is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from labelwise import activations, bundle, fitting, trials
from labelwise.activations import Looks, activation_folder
from labelwise.data.split import FINAL, Split
from labelwise.errors import OptionError
from labelwise.nn.tail import Front
from labelwise.recipe.base import Context, Task
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.finetune import ALL, HEAD, KEPT, Finetune
from labelwise.recipe.probe import Probe
from labelwise.recipe.variants import Variant
from labelwise.run import compare
from labelwise.transfer import find_backbone
from tests.resumed import resumed
from tests.tasks import grating_data, gratings_file, task_from


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The name of a small efficientnet with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet")
    save_file(net.state_dict(), folder / "model.safetensors")
    configuration = {"architecture": "test_efficientnet", "pretrained_cfg": {"license": "mit"}}
    (folder / "config.json").write_text(json.dumps(configuration))
    return f"timm:{folder}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=20)


def recipe(tiny, **fields):
    values = {"image_size": 32, "layers": 2, "epochs": 2, "lr": 1e-3, "looks": 2}
    return Finetune(backbone=tiny, **{**values, **fields})


def divided(data):
    """Two thirds to learn from, the rest to decide on."""
    rows = np.arange(len(data.labels))
    held = data.images(rows[rows % 3 == 0])
    rows, labels = rows[rows % 3 > 0], data.labels
    return Task(data.images(rows), labels[rows], data.class_names, (held, labels[held.rows]))


def changed(tiny, model):
    """Names of the tensors of a backbone that a fit has moved."""
    before = find_backbone(tiny).body().state_dict()
    after = model.network.body.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("layers", [2, "all"])
def test_statistics_of_batch_norm_never_move_while_scale_and_shift_learn(tiny, data, layers):
    moved = changed(tiny, recipe(tiny, layers=layers).fit(task_from(data), Context()).model)
    assert not [name for name in moved if "running" in name or "tracked" in name]
    assert {"net.bn2.weight", "net.bn2.bias"} <= moved


def test_of_the_frozen_blocks_nothing_moves(tiny, data):
    moved = changed(tiny, recipe(tiny).fit(task_from(data), Context()).model)
    learning = ("net.blocks.3.", "net.blocks.4.", "net.conv_head.", "net.bn2.")
    assert all(name.startswith(learning) for name in moved)
    assert {name.split(".")[2] for name in moved if "blocks" in name} == {"3", "4"}


def test_with_all_layers_the_first_filters_learn_as_well(tiny, data):
    fitted = recipe(tiny, layers="all").fit(task_from(data), Context())
    assert "net.conv_stem.weight" in changed(tiny, fitted.model)


def test_the_shared_backbone_is_not_touched(tiny, data):
    probe, task = Probe(backbone=tiny, image_size=32), task_from(data)
    before = probe.fit(task, Context()).model
    recipe(tiny, layers="all").fit(task, Context())
    after = probe.fit(task, Context()).model
    images = data.images(range(5))
    np.testing.assert_array_equal(after.logits(images), before.logits(images))
    assert not any(weights.requires_grad for weights in after.network.body.parameters())


def test_no_activation_is_computed_twice(tiny, data, monkeypatch):
    """However many folds, repeats and recipes of other rates learn from it."""
    computed = []
    original = Looks.compute
    monkeypatch.setattr(
        Looks, "compute", lambda self, p: computed.append(len(p)) or original(self, p)
    )
    tasks = [divided(data), task_from(data)]
    list(recipe(tiny, image_size=40).fit_many(tasks, Context()))
    recipe(tiny, image_size=40, lr=1e-4).fit(tasks[0], Context(seed=3))
    assert sum(computed) == 2 * len(data.usable)


def test_looks_are_the_image_then_mirrored_and_shifted(tiny, data):
    backbone, images = find_backbone(tiny), data.images([3, 8])
    preprocessing = recipe(tiny).fit(task_from(data), Context()).model.preprocessing
    looks = Looks(backbone, preprocessing, 2, True, 4, 1.0)
    pixels = torch.stack([preprocessing(images.read(n)) for n in range(2)])
    seen = [looks._moved(pixels, images.contents, look) for look in range(4)]
    torch.testing.assert_close(seen[0], pixels)
    torch.testing.assert_close(seen[1], pixels.flip(3))
    assert not any(torch.equal(one, other) for one in seen[2:] for other in (pixels, seen[1]))
    alone = looks._moved(pixels[1:], images.contents[1:], 3)
    torch.testing.assert_close(alone, seen[3][1:])  # whatever stands beside it


def test_images_that_are_all_gray_are_not_mirrored(tiny, data):
    """They are often digits or letters."""
    found = {mirror: _views(tiny, data, mirror) for mirror in ("color", "yes")}
    assert found["color"] == {False}
    assert found["yes"] == {False, True}


def _views(tiny, data, mirror):
    recipe(tiny, image_size=48, mirror=mirror).fit(task_from(data), Context())
    keys = [json.loads(file.read_text()) for file in activation_folder().glob("*/key.json")]
    return {key["view"]["mirror"] for key in keys if key["shape"] == [_length(tiny, 48)]}


def _length(tiny, side):
    body = find_backbone(tiny).body()
    return Front(body, len(body.net.blocks) - 2, (side, side)).length


def test_activations_are_the_frozen_blocks_answer_in_16_bits(tiny, data):
    preprocessing = recipe(tiny).fit(task_from(data), Context()).model.preprocessing
    backbone = find_backbone(tiny)
    looks = Looks(backbone, preprocessing, 2, False, 1, 1.0)
    (rows,) = looks.rows(data.images(range(7)), 1, lambda done: None)
    pixels = torch.stack([preprocessing(data.images([n]).read(0)) for n in range(7)])
    front = Front(backbone.body(), 2, (32, 32))
    network = Probe(backbone=tiny, image_size=32).fit(task_from(data), Context()).model.network
    with torch.inference_mode():
        expected = front(network.normalized(pixels))
    assert rows[slice(None)].dtype == np.float16
    np.testing.assert_allclose(rows[slice(None)], expected, rtol=2e-3, atol=2e-3)


def test_less_disk_makes_fewer_looks_and_the_oldest_activations_go(tiny, data):
    preprocessing = recipe(tiny).fit(task_from(data), Context()).model.preprocessing
    images = data.images(data.usable)
    each = len(images) * _length(tiny, 32) * 2 / activations.GIGABYTE
    looks = Looks(find_backbone(tiny), preprocessing, 3, False, 4, 2.5 * each)
    assert looks.affordable(images) == 2
    looks.rows(images, 2, lambda done: None)
    size = sum(file.stat().st_size for file in activation_folder().rglob("*.npy"))
    assert size <= 2.6 * each * activations.GIGABYTE


def test_without_room_for_one_look_the_last_blocks_learn_from_pixels(tiny, data):
    fitted = recipe(tiny, disk=1e-9).fit(task_from(data), Context())
    moved = {name.split(".")[2] for name in changed(tiny, fitted.model) if "blocks" in name}
    assert moved == {"3", "4"}


def test_both_phases_are_in_the_history(tiny, data):
    history = recipe(tiny).fit(divided(data), Context()).history
    assert [record["epoch"] for record in history] == list(range(1, len(history) + 1))
    phases = [record["phase"] for record in history]
    assert phases == [HEAD] * (len(history) - 2) + [ALL] * 2
    start = history[-3]  # the head on the validation part, which is what the epochs have to beat
    assert "strength" not in start
    assert 0 < start["validation_accuracy"] <= 1


def test_what_gained_nothing_is_the_probe(tiny, data):
    """A rate so small that no weight moves."""
    task = divided(data)
    fitted = recipe(tiny, lr=1e-30).fit(task, Context())
    assert fitted.chosen["kept"] == KEPT
    probe = Probe(backbone=tiny, image_size=32).fit(task, Context()).model
    images = data.images(range(6))
    np.testing.assert_array_equal(fitted.model.logits(images), probe.logits(images))
    assert fitted.model.recipe["name"] == "probe"


def test_below_five_labels_per_class_it_is_the_probe(tiny, data):
    rows = np.concatenate([np.flatnonzero(data.labels == k)[:4] for k in range(3)])
    task = Task(data.images(rows), data.labels[rows], data.class_names)
    assert recipe(tiny).fit(task, Context()).model.recipe["name"] == "probe"


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ([(ALL, 3), (ALL, 5), (ALL, 4)], 4),
        ([(ALL, 3), (KEPT, 0), (ALL, 9)], 6),
        ([(ALL, 3), (KEPT, 0), (KEPT, 0)], "probe"),
    ],
)
def test_the_final_fit_does_what_most_folds_decided(tiny, folds, expected):
    chosen = [{"kept": kept, "best_epoch": epoch, "because": "so"} for kept, epoch in folds]
    settled = recipe(tiny).settled(chosen)
    assert (settled.name if settled.name == "probe" else settled.epochs) == expected
    kept = sum(what == KEPT for what, _ in folds)
    remark = recipe(tiny).remark(chosen)
    assert (remark is None) if not kept else (f"{kept} of 3 folds" in remark)


@pytest.mark.usefixtures("kept_every_epoch")
def test_a_fit_that_was_killed_goes_on_exactly(tiny, data, tmp_path):
    task, several = divided(data), recipe(tiny, epochs=4, patience=0, average=0.5)
    whole = several.fit(task, Context()).model
    task = Task(**{**vars(task), "checkpoint": tmp_path / "checkpoint.safetensors"})
    fitted, seen = resumed(several, task, seed=0)
    assert seen == [3, 4]
    images = data.images(range(6))
    np.testing.assert_array_equal(fitted.model.logits(images), whole.logits(images))


def test_a_saved_model_is_a_backbone(tiny, data, tmp_path):
    model = recipe(tiny).fit(task_from(data), Context()).model
    folder = str(bundle.save(model, tmp_path))
    again = recipe(folder).fit(task_from(data), Context()).model
    assert again.architecture == model.architecture
    frozen = Probe(backbone=folder).fit(task_from(data), Context()).model
    images = data.images(range(4))
    np.testing.assert_allclose(frozen.embed(images), model.embed(images), rtol=1e-4, atol=1e-4)


def test_a_small_network_from_scratch_is_tuned_at_its_own_size(data, tmp_path):
    cnn = Cnn(layers="conv8 3x3 same, batch norm, relu, gap", epochs=1)
    folder = str(bundle.save(cnn.fit(task_from(data), Context()).model, tmp_path))
    model = Finetune(backbone=folder, epochs=1, augment="").fit(task_from(data), Context()).model
    assert model.preprocessing.shape == (1, 12, 12)
    assert not model.network.body.spatial[0].weight.equal(
        bundle.load(folder).network.body.spatial[0].weight
    )
    with pytest.raises(OptionError, match="no network of blocks"):
        Finetune(backbone=folder, layers=1).fit(task_from(data), Context())


def test_a_run_says_where_the_probe_was_kept(tiny, tmp_path):
    source = gratings_file(tmp_path / "gratings.npz", per_class=16)
    text = f'finetune(backbone="{tiny}", image_size=32, layers=2, epochs=1, looks=1, lr=1e-30)'
    run = compare(source, recipes=text, out=tmp_path / "run", folds=2)
    (row,) = run.results["rows"]
    expected = "the probe was kept in 2 of 2 folds: it was better on the validation part"
    assert row["reason"] == expected
    assert row["reason"] in run.report.read_text()
    assert run.model.recipe["name"] == "probe"


def test_a_trial_keeps_the_head_beside_the_tuned_model(tiny, data, tmp_path):
    nobody = np.array([], dtype=np.int64)
    split = Split("all", 0, FINAL, data.usable, nobody, nobody, nobody)
    fitted = recipe(tiny).fit(task_from(data), Context())
    fitting._finish(Variant("tuned", recipe(tiny)), split, fitted, data, tmp_path, None)
    folder = trials.trial_of(tmp_path, "tuned", split).folder
    head, tuned = (bundle.load(folder / name) for name in ("model-head", "model"))
    assert (head.recipe["name"], tuned.recipe["name"]) == ("probe", "finetune")


@pytest.mark.parametrize(
    "fields",
    [
        {"lr": 0.0},
        {"layers": 0},
        {"smoothing": 1.0},
        {"share": 1.5},
        {"epochs": 0},
        {"disk": -1.0},
        {"patience": -1},
        {"image_size": 3},
        {"augment": "nonsense"},
    ],
)
def test_senseless_fields_are_refused(fields):
    with pytest.raises(OptionError):
        Finetune(**fields)


def test_every_norm_of_the_default_backbone_is_folded_away():
    from labelwise.nn.fold import folded

    body = find_backbone("efficientnet-lite0").body()
    lean = folded(body, torch.zeros(1, 3, 32, 32))
    bare = [m for m in lean.modules() if type(m) is nn.Conv2d]
    assert len(bare) == sum(type(m).__name__ == "FoldedConv" for m in lean.modules()) - sum(
        type(m).__name__ == "Conv2dSame" for m in lean.modules()
    )
