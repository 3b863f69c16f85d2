from __future__ import annotations

import io
import tarfile
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data as photos

from labelwise import load
from labelwise.backbones import find_pretrained
from labelwise.data.decode import MARGIN, SCALED_FROM, decode
from labelwise.data.preprocess import Preprocessing
from labelwise.data.scan import LOOKED_AT
from labelwise.features import load_body, normalized

LEVELS = 3.0  # mean absolute difference of a photo's pixels to those of full decoding, of 255
COSINE = 0.995  # of embeddings, at least


def jpeg(image, turn=1, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    exif = Image.Exif()
    exif[0x0112] = turn
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, quality=90, **options)
    return file.getvalue()


def gradient(height, width):
    """A picture whose pixels say where they are."""
    sides = (np.linspace(0, 255, side) for side in (height, width))
    down, right = np.meshgrid(*sides, indexing="ij")
    return np.stack([down, right, (down + right) / 2], axis=2).astype(np.uint8)


def enlarged(image, factor):
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


@lru_cache
def pictures(shared, short):
    """Photos with a short side of so many pixels: as they were taken, and small ones enlarged."""
    some = [jpeg(photos.astronaut()), jpeg(enlarged(Image.fromarray(photos.chelsea()), 2))]
    with tarfile.open(shared / "photos_food.tar") as tar:
        files = [member for member in tar.getmembers() if member.name.endswith(".jpg")]
        for number, member in enumerate(files[::30]):
            image = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
            some.append(jpeg(enlarged(image, 3 + number % 2)))
    return [data for data in some if min(Image.open(io.BytesIO(data)).size) >= short]


def two_ways(data, preprocessing):
    """Prepared pixels by full decoding, and by decoding at a smaller scale."""
    whole, small = decode(data), decode(data, at_least=preprocessing.size)
    assert small.pixels.size < whole.pixels.size
    return preprocessing(whole.pixels), preprocessing(small.pixels, small.full)


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("side", [64, 128, 224])
def test_photos_prepared_from_a_smaller_scale_look_the_same(shared_data, side, resize):
    for data in pictures(shared_data, 2 * MARGIN * side):
        whole, small = two_ways(data, Preprocessing(side, side, resize=resize))
        assert float((whole.float() - small.float()).abs().mean()) <= LEVELS


@pytest.mark.parametrize("side", [64, 224])
def test_embeddings_from_a_smaller_scale_are_nearly_those_of_full_decoding(shared_data, side):
    backbone = find_pretrained("efficientnet-lite0")
    for data in pictures(shared_data, 2 * MARGIN * side):
        both = torch.stack(two_ways(data, Preprocessing(side, side)))
        with torch.inference_mode():
            whole, small = load_body(backbone)(normalized(both, backbone))[1]
        assert float(torch.cosine_similarity(whole, small, 0)) >= COSINE


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(SCALED_FROM, 900),
    width=st.integers(SCALED_FROM, 900),
    target=st.tuples(st.integers(1, 1000), st.integers(1, 1000)),
    turn=st.integers(1, 8),
)
def test_the_smallest_scale_is_taken_that_leaves_the_margin(height, width, target, turn):
    data = jpeg(Image.new("L", (width, height)), turn)
    whole, small = decode(data), decode(data, at_least=target)
    sides = whole.pixels.shape
    room = min(side // (MARGIN * wanted) for side, wanted in zip(sides, target, strict=True))
    scale = max(scale for scale in (1, 2, 4, 8) if scale <= max(room, 1))
    assert small.pixels.shape == tuple(-(-side // scale) for side in sides)
    assert small.full == sides


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photo_stands_upright_at_any_scale(turn):
    whole, small = two_ways(jpeg(gradient(600, 800), turn), Preprocessing(64, 64, resize="squash"))
    assert float((whole.float() - small.float()).abs().max()) <= 6


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_colors_are_converted_as_at_full_size(mode):
    image = Image.fromarray(gradient(600, 800)).convert(mode)
    whole, small = decode(jpeg(image)), decode(jpeg(image), at_least=(75, 75))
    assert (small.mode, small.reason) == (whole.mode, whole.reason)
    means = [
        pixels.reshape(600 * 800 // k, -1).mean(0)
        for pixels, k in ((whole.pixels, 1), (small.pixels, 16))
    ]
    assert means[1] == pytest.approx(means[0], abs=1.5)


def test_the_first_picture_of_several_is_taken_at_any_scale():
    first, second = (Image.new("RGB", (800, 600), color) for color in ("red", "blue"))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    small = decode(file.getvalue(), at_least=(75, 75))
    assert small.pixels.shape == (150, 200, 3)
    assert small.reason == decode(file.getvalue()).reason
    assert (np.abs(small.pixels.astype(int) - [254, 0, 0]) <= 2).all()


def test_a_small_photo_is_decoded_in_full():
    data = jpeg(gradient(SCALED_FROM - 1, 2000))
    assert np.array_equal(decode(data, at_least=(32, 32)).pixels, decode(data).pixels)


def test_other_formats_are_decoded_in_full():
    file = io.BytesIO()
    Image.fromarray(gradient(600, 800)).save(file, "PNG")
    assert decode(file.getvalue(), at_least=(32, 32)).pixels.shape == (600, 800, 3)


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_photo_that_is_cut_off_is_set_aside_at_any_scale(keep):
    data = jpeg(gradient(600, 800))
    data = data[: int(keep * len(data))]
    assert decode(data, at_least=(32, 32)).reason == decode(data).reason


def sources(folder, image):
    """The same photo as a file, in an archive, in a Parquet file."""
    import pandas as pd

    photo = folder / "files" / "a" / "x.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(jpeg(image))
    yield folder / "files"
    with tarfile.open(folder / "x.tar", "w") as tar:
        tar.add(photo, "a/x.jpg")
    yield folder / "x.tar"
    rows = pd.DataFrame({"image": [{"bytes": photo.read_bytes(), "path": None}], "label": ["a"]})
    rows.to_parquet(folder / "x.parquet")
    yield folder / "x.parquet"


def test_every_source_of_encoded_photos_gives_a_smaller_scale(tmp_path):
    for source in sources(tmp_path, gradient(600, 800)):
        images = load(source).images([0])
        assert images.read(0, (75, 75)).shape == (150, 200, 3)
        assert images.read(0).shape == (600, 800, 3)


def test_large_photos_are_looked_at_from_a_smaller_scale_and_told_apart(tmp_path):
    image = gradient(1200, 1600)
    changed = image.copy()
    changed[600:640, 800:840] ^= 1 << 5
    for name, picture in (("a", image), ("b", image), ("c", changed)):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(picture))
    table = load(tmp_path).table
    assert set(table["width"]) == {1600}
    assert table["content"][0] == table["content"][1] != table["content"][2]
    pixels = decode((tmp_path / "a.jpg").read_bytes(), at_least=LOOKED_AT).pixels
    assert pixels.shape[:2] == (600, 800)
