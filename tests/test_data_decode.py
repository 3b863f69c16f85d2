from __future__ import annotations

import io
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from labelwise.data import decode as decode_module
from labelwise.data.decode import decode
from labelwise.data.quiet import quiet
from tests.images import encoded, picture, png_header, upright_and_turned

FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_plain_picture_is_used_as_it_is(kind):
    decoded = decode(encoded(picture(), kind))
    assert (decoded.decision, decoded.reason, decoded.mode) == ("used", None, "RGB")
    assert (decoded.width, decoded.height) == (40, 30)
    np.testing.assert_array_equal(decoded.pixels, picture())


def test_a_gray_picture_stays_gray():
    decoded = decode(encoded(picture(gray=True)))
    assert decoded.mode == "L"
    np.testing.assert_array_equal(decoded.pixels, picture(gray=True))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_every_exif_turn_is_applied(orientation):
    upright, data = upright_and_turned(orientation)
    decoded = decode(data)
    np.testing.assert_array_equal(decoded.pixels, upright)
    assert (decoded.decision, decoded.reason) == ("converted", "EXIF turn applied")
    assert (decoded.height, decoded.width) == upright.shape[:2]


def test_orientation_1_is_no_turn():
    _, data = upright_and_turned(1)
    assert decode(data).decision == "used"


def test_a_turned_tiff_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(encoded(picture(), "TIFF", exif=exif))
    np.testing.assert_array_equal(decoded.pixels, np.rot90(picture(), -1))
    assert decoded.reason == "EXIF turn applied"


def test_a_palette_becomes_rgb():
    image = Image.fromarray(picture()).quantize(32)
    decoded = decode(encoded(image))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
    assert decoded.reason == "palette to RGB"


def test_a_transparent_palette_color_becomes_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 1), 1)
    decoded = decode(encoded(image, transparency=0))
    assert decoded.pixels[0, 0].tolist() == [255, 255, 255]
    assert decoded.pixels[1, 1].tolist() == [200, 0, 0]
    assert decoded.reason == "palette to RGB; transparency on white"


def test_half_transparent_black_on_white_is_gray():
    rgba = np.zeros((3, 3, 4), np.uint8)
    rgba[..., 3] = 128
    decoded = decode(encoded(rgba))
    assert np.unique(decoded.pixels).tolist() == [127]
    assert (decoded.mode, decoded.reason) == ("RGB", "transparency on white")


def test_gray_with_alpha_stays_gray():
    image = Image.new("LA", (3, 3), (100, 0))
    decoded = decode(encoded(image))
    assert decoded.mode == "L"
    assert np.unique(decoded.pixels).tolist() == [255]


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    decoded = decode(encoded(image, "JPEG", quality=95))
    assert decoded.reason == "CMYK to RGB"
    red, green, blue = decoded.pixels.reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_and_not_clipped(kind):
    values = np.array([[0, 128, 257, 30000, 65535]], np.uint16)
    decoded = decode(encoded(Image.fromarray(values), kind))
    assert decoded.pixels.tolist() == [[0, 0, 1, 117, 255]]  # value / 257, rounded
    assert decoded.reason == "16-bit gray scaled to 8-bit"


def test_big_endian_16_bit_gray_is_scaled_too():
    image = Image.frombytes("I;16B", (2, 1), b"\x00\x00\xff\xff")
    assert decode(encoded(image, "TIFF")).pixels.tolist() == [[0, 255]]


def test_floating_point_from_0_to_1_uses_the_whole_range():
    decoded = decode(encoded(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF"))
    assert decoded.pixels.tolist() == [[0, 128, 255]]
    assert decoded.reason == "32-bit gray scaled from 0..1 to 8-bit"


def test_negative_floating_point_is_stretched():
    decoded = decode(encoded(Image.fromarray(np.array([[-3, 0, 3]], np.float32)), "TIFF"))
    assert decoded.pixels.tolist() == [[0, 128, 255]]
    assert "stretched from -3..3" in decoded.reason


def test_values_that_are_no_numbers_are_set_aside():
    data = encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF")
    assert decode(data).reason == "unreadable: it holds values that are not finite numbers"


def test_1_bit_becomes_gray():
    decoded = decode(encoded(Image.new("1", (4, 4), 1)))
    assert decoded.mode == "L"
    assert np.unique(decoded.pixels).tolist() == [255]


def test_lab_becomes_rgb():
    image = ImageCms.profileToProfile(
        Image.fromarray(picture()),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    decoded = decode(encoded(image, "TIFF"))
    assert (decoded.mode, decoded.reason) == ("RGB", "LAB to RGB")
    assert np.abs(decoded.pixels.astype(int) - picture()).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    decoded = decode(data)
    assert "first frame of an animation" in decoded.reason
    assert np.abs(decoded.pixels.astype(int) - picture(0)).mean() < 12


def test_several_pages_give_the_first():
    frames = [Image.fromarray(picture(seed)) for seed in range(2)]
    decoded = decode(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(decoded.pixels, picture(0))
    assert decoded.reason == "first page of several"


def test_an_mpo_gives_its_first_picture():
    frames = [Image.fromarray(picture(seed)) for seed in range(2)]
    decoded = decode(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert decoded.reason == "first picture of several"
    assert np.abs(decoded.pixels.astype(int) - picture(0)).mean() < 12


def test_a_wrong_extension_is_noted_and_the_picture_used(tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(encoded(picture()))
    decoded = decode(file)
    assert decoded.reason == "is a PNG though named .jpg"
    np.testing.assert_array_equal(decoded.pixels, picture())


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_set_aside_whole(kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = encoded(noise, kind)
    decoded = decode(data[: int(len(data) * share)])
    assert decoded.decision == "set aside"
    assert decoded.pixels is None
    assert decoded.reason.split(":")[0] in ("truncated", "unreadable")


def test_a_jpeg_whose_tail_was_lost_to_zeros_is_set_aside():
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    data = encoded(noise, "JPEG", quality=90)
    half = len(data) // 2
    decoded = decode(data[:half] + b"\0" * half)  # Pillow decodes it, gray from the middle on
    assert decoded.reason == "truncated: its end marker is missing"


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (20_000, 5_001)])
def test_a_header_of_an_absurd_size_is_refused_before_decoding(size):
    decoded = decode(png_header(*size))
    assert decoded.decision == "set aside"
    assert decoded.reason.startswith("too large")


def test_the_limit_itself_is_allowed():
    assert not decode(png_header(10_000, 10_000)).reason.startswith("too large")


def test_too_many_bytes_are_refused_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(decode_module, "MAX_BYTES", 100)
    file = tmp_path / "large.png"
    file.write_bytes(encoded(picture()))
    assert decode(file).reason.startswith("too large")


def test_running_out_of_memory_is_a_decision(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(decode_module, "convert", fail)
    assert decode(encoded(picture())).reason.startswith("too large")


def test_being_interrupted_is_no_decision(monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(decode_module, "convert", fail)
    with pytest.raises(KeyboardInterrupt):
        decode(encoded(picture()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, world", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"BMW is a car maker, not a bitmap", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "unreadable"),
        (b"GIF89a" + b"\0" * 20, "unreadable"),
    ],
)
def test_what_is_no_picture_is_set_aside_with_the_reason(data, reason):
    decoded = decode(data)
    assert (decoded.decision, decoded.pixels) == ("set aside", None)
    assert decoded.reason.startswith(reason)


def test_a_missing_file_a_folder_and_a_pipe_are_decided(tmp_path):
    assert decode(tmp_path / "gone.png").reason == "file not found"
    assert decode(tmp_path).reason == "not an image: not a regular file"
    os.mkfifo(tmp_path / "pipe.png")
    assert decode(tmp_path / "pipe.png").reason == "not an image: not a regular file"
    assert decode(Path("a\0b.png")).decision == "set aside"


@given(
    st.binary(max_size=300), st.sampled_from([b"", *(encoded(picture(), k)[:40] for k in FORMATS)])
)
def test_no_bytes_make_it_raise(tail, head):
    assert decode(head + tail).decision in ("used", "converted", "set aside")


SAMPLES = [encoded(picture(), kind) for kind in FORMATS]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(SAMPLES), st.data())
def test_damage_makes_it_decide_and_never_raise_or_warn(sample, data):
    damaged = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decoded = decode(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    if decoded.pixels is None:
        assert decoded.decision == "set aside"
        assert decoded.reason
    else:
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.shape[:2] == (decoded.height, decoded.width)


def test_truncated_pictures_are_never_allowed():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_silencing_pillow_leaves_the_other_filters_alone():
    before = list(warnings.filters)
    threads = [threading.Thread(target=decode, args=(SAMPLES[0],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    with quiet, pytest.raises(UserWarning, match="not from Pillow"):
        warnings.warn("not from Pillow", stacklevel=1)


def test_decoding_agrees_with_pillow_on_a_jpeg():
    data = encoded(picture(), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode(data).pixels, np.asarray(image))
