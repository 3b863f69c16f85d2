"""Weights named by their file, and transformers as backbones."""

from __future__ import annotations

import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from labelwise import bundle
from labelwise.backbones import find_pretrained, sha256_of
from labelwise.data.blocks import as_block
from labelwise.data.memory import nameless_dataset
from labelwise.errors import BackboneError, LayerError, OptionError
from labelwise.features import input_of, load_body
from labelwise.nn.taps import Taps
from labelwise.recipe.base import Context, Task
from labelwise.recipe.probe import Probe

TRANSFORMERS = {
    "test_vit": 1,  # with a class token
    "test_vit2": 1,  # with a register token instead
    "test_vit3": 1,  # pooled by attention
    "deit_tiny_distilled_patch16_224": 2,
    "vit_small_patch14_reg4_dinov2": 5,
    "eva02_tiny_patch14_224": 1,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of a network as a file, whatever it is asked for."""
    folder = tmp_path_factory.mktemp("weights")

    def made(name, suffix=".safetensors"):
        file = folder / f"{name}{suffix}"
        if not file.exists():
            torch.manual_seed(0)
            state = timm.create_model(name, pretrained=False).state_dict()
            (save_file if suffix == ".safetensors" else torch.save)(state, file)
        return file

    return made


def photos(side, count=4):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return nameless_dataset(as_block(pixels, "random", []))


def test_a_file_beside_a_name_is_a_backbone_with_the_scaling_of_the_name(weights):
    file = weights("test_resnet")
    backbone = find_pretrained(f"test_resnet.r160_in1k@{file}")
    known = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    assert (backbone.mean, backbone.std) == (known.mean, known.std)
    assert (backbone.preprocessing.height, backbone.license) == (160, "apache-2.0")
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", pretrained=False)
    assert backbone.body().net.conv1[0].weight.equal(net.conv1[0].weight)


def test_a_pth_file_needs_the_hash_that_it_has(weights):
    file = weights("test_resnet", ".pth")
    name, found = f"test_resnet@{file}", sha256_of(file)
    assert find_pretrained(f"{name}#sha256={found}").body().width
    for text, said in (
        (name, "its SHA-256 must be given"),
        (f"{name}#sha256={'0' * 64}", f"has SHA-256 {found}, not the 000"),
        (f"{name}#sha256=12", "expected #sha256= and 64 hexadecimal digits"),
        (f"{name}#{found}", "expected #sha256="),
    ):
        with pytest.raises(BackboneError, match=said):
            find_pretrained(text)


def test_a_checkpoint_of_a_training_script_gives_its_weights(weights, tmp_path):
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, file := tmp_path / "script.pth")
    body = find_pretrained(f"test_resnet@{file}#sha256={sha256_of(file)}").body()
    assert body.net.conv1[0].weight.equal(state["conv1.0.weight"])


def test_a_file_or_name_that_is_not_there_is_said_in_a_line(tmp_path):
    with pytest.raises(BackboneError, match="No such file"):
        find_pretrained(f"test_resnet@{tmp_path / 'none.safetensors'}")
    with pytest.raises(BackboneError, match="not an architecture of the installed timm"):
        find_pretrained(f"resnet0@{tmp_path / 'none.safetensors'}")


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(BackboneError, match="does not fit test_vit"):
        find_pretrained(f"test_vit@{weights('test_resnet')}").body()


def test_names_that_the_authors_gave_are_understood(tmp_path):
    """ConvNeXt as it was published calls its parts otherwise than timm does."""
    torch.manual_seed(0)
    state = timm.create_model("test_convnext", pretrained=False).state_dict()
    names = {
        r"^stem\.": "downsample_layers.0.",
        r"^stages\.(\d)\.downsample": r"downsample_layers.\1",
        r"\.blocks\.": ".",
        r"conv_dw": "dwconv",
        r"mlp\.fc": "pwconv",
        r"^head\.norm": "norm",
        r"^head\.fc": "head",
    }
    published = {}
    for name, value in state.items():
        for ours, theirs in names.items():
            name = re.sub(ours, theirs, name)
        published[name] = value
    save_file(published, tmp_path / "net.safetensors")
    body = find_pretrained(f"test_convnext@{tmp_path / 'net.safetensors'}").body()
    own = body.net.state_dict()
    assert not set(own) & set(published)
    assert all(value.equal(state[name]) for name, value in own.items())


def test_weights_without_mean_and_deviation_are_refused(weights, monkeypatch):
    """A guess would be wrong for many, and no number would say so."""
    monkeypatch.setattr("labelwise.backbones.local.known_values", lambda name: {"license": "mit"})
    with pytest.raises(BackboneError, match="mean: Field required"):
        find_pretrained(f"test_resnet@{weights('test_resnet')}")


@pytest.mark.parametrize("license_", ["cc-by-nc-4.0", "apple-amlr", "fair-noncommercial-research"])
def test_a_named_file_may_be_for_non_commercial_use_and_says_so(weights, license_, monkeypatch):
    from labelwise.backbones import local
    from labelwise.backbones.configuration import configuration_of

    values = {**local.known_values("test_resnet"), "license": license_}
    assert configuration_of("x", values).non_commercial
    monkeypatch.setattr(local, "known_values", lambda name: values)
    assert find_pretrained(f"test_resnet@{weights('test_resnet')}").license == license_


def test_legacy_xception_works_when_its_weights_are_at_hand(weights):
    backbone = find_pretrained(f"legacy_xception@{weights('legacy_xception')}")
    assert (backbone.mean, backbone.std) == ((0.5,) * 3, (0.5,) * 3)
    assert backbone.preprocessing.height == 299
    with torch.inference_mode():
        assert load_body(backbone)(torch.rand(1, 3, 96, 96))[1].shape[1] > 2048


@pytest.mark.parametrize(("name", "prefix"), TRANSFORMERS.items())
def test_a_stage_of_a_transformer_is_the_mean_of_the_patch_tokens_of_a_block(name, prefix):
    torch.manual_seed(0)
    side = 8 * 14 if "14" in name else 8 * 16
    body = Taps(name, size=(side, side)).eval()
    tokens = []
    body.net.blocks[-1].register_forward_hook(lambda block, given, out: tokens.append(out))
    images = torch.rand(2, 3, side, side)
    with torch.inference_mode():
        maps, embedding = body(images)
        patches = body.net.norm(tokens[0])[:, prefix:]
        own = body.net.forward_head(body.net.forward_features(images), pre_logits=True)
    last = body.widths[-1]
    assert body.net.num_prefix_tokens == prefix
    assert maps[-1].flatten(2).shape == (2, patches.shape[2], patches.shape[1])
    torch.testing.assert_close(embedding[:, -2 * last : -last], patches.mean(1))
    torch.testing.assert_close(embedding[:, -last:], own)


@pytest.mark.parametrize("size", [(96, 96), (100, 130)])
def test_a_transformer_takes_images_of_other_sizes(size):
    body = Taps("test_vit", size=size).eval()
    with torch.inference_mode():
        maps, embedding = body(torch.rand(1, 3, *size))
    assert maps[-1].shape[2:] == tuple(-(-side // 16) for side in size)
    assert embedding.shape == (1, body.width)


def test_position_embeddings_are_resampled_not_cut():
    """Positions that grow evenly from 0 to 1 still do so on a grid of a quarter of the patches."""
    body = Taps("test_vit").eval()
    own = body.net.pos_embed
    added = []
    body.net.patch_embed.register_forward_hook(lambda layer, given, out: torch.zeros_like(out))
    body.net.pos_drop.register_forward_hook(lambda layer, given, out: added.append(out[0, 1:, 0]))
    with torch.inference_mode():
        own.copy_(torch.linspace(0, 1, own.shape[1])[None, :, None].expand_as(own))
        body(torch.zeros(1, 3, 80, 80))
    assert len(added[0]) == 25
    assert float(added[0][0]) < 0.15
    assert float(added[0][-1]) > 0.85


def test_a_network_of_one_size_says_so_before_any_image_is_read(weights):
    backbone = find_pretrained(f"test_vit_relpos@{weights('test_vit_relpos')}")
    images = photos(32).images(range(4))
    assert input_of(backbone, images).height == 160  # no smaller one, as others get for such images
    with pytest.raises(OptionError, match="takes images of 160 x 160 pixels only"):
        input_of(backbone, images, image_size=64)


def test_a_size_that_a_network_cannot_take_is_refused_in_a_line(weights):
    with pytest.raises(LayerError, match=r"halonet26t does not work for images of 100 x 100"):
        Taps("halonet26t", size=(100, 100))


def test_a_probe_on_a_transformer_is_saved_with_its_size_and_loads_again(weights, tmp_path):
    data = photos(32, 8)
    task = Task(data.images(np.arange(8)), np.arange(8) % 2, ("a", "b"))
    model = Probe(backbone=f"test_vit@{weights('test_vit')}").fit(task, Context()).model
    assert model.preprocessing.shape == (3, 128, 128)
    assert model.facts["backbone"]["license"] == "apache-2.0"
    loaded = bundle.load(bundle.save(model, tmp_path))
    images = data.images(range(8))
    np.testing.assert_allclose(loaded.logits(images), model.logits(images), rtol=1e-3, atol=1e-3)
