"""A model: its answers, and its folder on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from labelwise import bundle
from labelwise.architecture import build
from labelwise.data.load import load
from labelwise.data.preprocess import Preprocessing
from labelwise.errors import BundleError
from labelwise.model import Model, softmax
from tests.images import write


def small_model(classes=("bad", "good"), layers="conv4 3x3 relu, max 2, dense 8 relu"):
    """A network with random weights."""
    architecture = {"kind": "layers", "layers": layers, "mean": [0.4] * 3, "std": [0.2] * 3}
    torch.manual_seed(0)
    network = build(architecture, len(classes), (3, 16, 16)).eval()
    return Model(
        network=network,
        architecture=architecture,
        preprocessing=Preprocessing(16, 16),
        class_names=tuple(classes),
        recipe={"name": "cnn"},
        facts={"metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}}},
    )


@pytest.fixture
def folder(tmp_path):
    return bundle.save(small_model(), tmp_path / "model")


def test_softmax_rows_sum_to_one_for_extreme_logits():
    proba = softmax(np.array([[1e4, -1e4], [0.0, 0.0], [-1e4, -1e4]], dtype=np.float32))
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_allclose(proba[1], 0.5)


def test_no_images_give_no_rows():
    data = load("digits")
    assert small_model().predict_proba(data.images([])).shape == (0, 2)


def test_predictions_do_not_depend_on_the_batch():
    data = load("digits")
    model = small_model()
    together = model.predict_proba(data.images(range(130)))
    alone = np.concatenate([model.predict_proba(data.images([row])) for row in range(0, 130, 13)])
    np.testing.assert_allclose(together[::13], alone, atol=1e-6)


def test_predict_has_a_row_for_every_file_also_for_those_without_an_answer(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "b.jpg")
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / ".hidden.png").write_bytes(b"")
    answers = small_model().predict([tmp_path, tmp_path / "nowhere.png"])
    assert list(answers.columns) == ["path", "label", "probability", "set", "status"]
    assert [name.rsplit("/", 1)[-1] for name in answers["path"]] == [
        "a.png",
        "c.png",
        "b.jpg",
        "nowhere.png",
    ]
    assert answers["status"].str.startswith("set aside").tolist() == [False, True, False, True]
    assert answers["label"].notna().tolist() == [True, False, True, False]


def test_predict_answers_as_predict_proba_does(tmp_path):
    write(tmp_path / "cat" / "a.png", 1)
    write(tmp_path / "dog" / "b.png", 2)
    data, model = load(tmp_path), small_model()
    proba = model.predict_proba(data.images(data.usable))
    answers = model.predict(tmp_path)
    np.testing.assert_allclose(answers["probability"], proba.max(1), rtol=1e-6)
    assert answers["label"].tolist() == [model.class_names[k] for k in proba.argmax(1)]


def test_a_saved_model_answers_bit_for_bit_the_same(folder):
    images = load("digits").images(range(20))
    before, after = small_model(), bundle.load(folder)
    np.testing.assert_array_equal(before.logits(images), after.logits(images))
    for field in ("architecture", "preprocessing", "class_names", "recipe", "facts"):
        assert getattr(before, field) == getattr(after, field)


def test_a_run_folder_gives_its_model(folder):
    assert bundle.load(folder.parent).class_names == ("bad", "good")


def test_a_missing_model_says_what_folder_is_expected(tmp_path):
    with pytest.raises(BundleError, match=r"model\.json does not exist"):
        bundle.load(tmp_path)


@pytest.mark.parametrize("position", [0, 7, 8, 100, -1])
def test_one_changed_bit_in_the_weights_is_refused_by_name(folder, position):
    file = folder / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[position] ^= 4
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"weights\.safetensors has SHA-256"):
        bundle.load(folder)


def test_a_truncated_weights_file_is_refused(folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BundleError, match="damaged"):
        bundle.load(folder)


def edit(folder, change):
    file = folder / "model.json"
    values = json.loads(file.read_text())
    del values["sha256"]
    change(values)
    head = json.dumps(values)[:-1].encode()
    seal = hashlib.sha256(head).hexdigest()
    file.write_bytes(head + f',\n "sha256": "{seal}"\n}}\n'.encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format=3), "Install a newer labelwise"),
        (lambda v: v.update(format="1"), "format"),
        (lambda v: v.update(extra=1), "extra"),
        (lambda v: v.pop("class_names"), "class_names"),
        (lambda v: v["class_names"].append("third"), "expected"),
        (lambda v: v["preprocessing"].update(height=10**9), "height"),
        (lambda v: v["architecture"].update(kind="os.system"), "architecture"),
        (lambda v: v["architecture"].update(layers="conv4 9x9, " * 9 + "gap"), "cannot be built"),
        (lambda v: v["architecture"].update(layers="dense 4 relu"), "more than the 1860 param"),
        (lambda v: v["architecture"].update(layers="dense 1 relu"), "differ"),
        (lambda v: v["weights"].update(sha256="../x"), "sha256"),
    ],
)
def test_a_changed_description_is_refused(folder, change, message):
    edit(folder, change)
    with pytest.raises(BundleError, match=message):
        bundle.load(folder)


def test_a_pickle_in_place_of_any_file_is_refused_unread(folder):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was read",))

    for name in ("model.json", "weights.safetensors"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(BundleError):
            bundle.load(folder)
        (folder / name).write_bytes(data)
    assert bundle.load(folder)


def test_a_timm_architecture_cannot_name_a_hub_or_a_path(folder):
    for name in ("hf-hub:a/b", "local-dir:/tmp", "../x", "not_a_network"):
        edit(
            folder,
            lambda v, name=name: v.update(
                architecture={"kind": "timm", "name": name, "chosen": [0], "mean": [0], "std": [1]}
            ),
        )
        with pytest.raises(BundleError):
            bundle.load(folder)


@pytest.mark.parametrize("number", [1, 2])
def test_a_model_of_every_format_stays_loadable(number):
    """Saved by labelwise 0.1.0; its answers then stand beside it."""
    from pathlib import Path

    folder = Path(__file__).parent / "bundles" / f"format-{number}"
    model = bundle.load(folder)
    expected = np.array(json.loads((folder / "answers.json").read_text()))
    image = np.asarray(Image.open(folder / "image.png"))
    found = model.network(model.preprocessing(image)[None])[2].detach().numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path):
    for facts in ({"x": float("nan")}, {"data": "photos"}, {"x": "y" * 5_000_000}):
        with pytest.raises(BundleError, match="cannot be saved"):
            bundle.save(dataclasses.replace(small_model(), facts=facts), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_facts_can_be_replaced_without_touching_the_network(folder):
    model = bundle.load(folder)
    changed = dataclasses.replace(model, facts={"seed": 3})
    bundle.save(changed, folder)
    assert bundle.load(folder).facts == {"seed": 3}
