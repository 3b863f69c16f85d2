from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelwise.data import preprocess
from labelwise.data.preprocess import Preprocessing, prepared
from tests.images import picture
from tests.rows import Arrays, dataset_of


def pixels_of(tensor):
    """(C, H, W) as Pillow has it: (H, W) or (H, W, C)."""
    return tensor.permute(1, 2, 0).numpy().squeeze()


def by_pillow(image, width, height):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def assert_close(ours, pillows):
    distance = np.abs(ours.astype(int) - pillows)
    assert distance.mean() < 0.5
    assert distance.max() <= 6


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    size=st.tuples(st.integers(8, 150), st.integers(8, 150)),
    to=st.tuples(st.integers(8, 80), st.integers(8, 80)),
    gray=st.booleans(),
)
def test_squashed_photos_are_those_of_pillow(seed, size, to, gray):
    image = picture(seed, *size, gray=gray)
    ours = Preprocessing(to[1], to[0], "gray" if gray else "rgb", "squash")(image)
    assert_close(pixels_of(ours), by_pillow(image, *to))


def test_a_cropped_photo_is_the_middle_of_the_scaled_one():
    image = picture(3, 96, 64)
    ours = Preprocessing(32, 32)(image)
    assert_close(pixels_of(ours), by_pillow(image, 48, 32)[:, 8:40])


def test_a_cropped_upright_photo_is_the_middle_of_the_scaled_one():
    image = picture(3, 64, 96)
    ours = Preprocessing(32, 32)(image)
    assert_close(pixels_of(ours), by_pillow(image, 32, 48)[8:40])


def test_a_padded_photo_is_the_scaled_one_between_black():
    image = np.maximum(picture(3, 96, 48), 1)
    ours = pixels_of(Preprocessing(32, 32, resize="pad")(image))
    assert_close(ours[8:24], by_pillow(image, 32, 16))
    assert not ours[:8].any()
    assert not ours[24:].any()


def test_an_enlarged_photo_is_that_of_pillow():
    image = picture(5, 20, 20)
    assert_close(pixels_of(Preprocessing(64, 64)(image)), by_pillow(image, 64, 64))


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_an_image_of_the_right_size_is_left_alone(resize):
    image = picture(1, 24, 18)
    assert np.array_equal(pixels_of(Preprocessing(18, 24, resize=resize)(image)), image)


def test_colors_turn_to_gray_exactly_as_in_pillow():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    ours = Preprocessing(300, 300, "gray")(image)
    assert np.array_equal(pixels_of(ours), np.asarray(Image.fromarray(image).convert("L")))


def test_gray_turns_to_three_equal_channels():
    image = picture(1, gray=True)
    ours = Preprocessing(30, 40)(image)
    assert all(np.array_equal(channel.numpy(), image) for channel in ours)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    to=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    color=st.sampled_from(["rgb", "gray"]),
    resize=st.sampled_from(["crop", "squash", "pad"]),
    gray=st.booleans(),
)
def test_any_image_gets_the_shape_asked_for(size, to, color, resize, gray):
    image = np.zeros(size if gray else (*size, 3), np.uint8)
    preprocessing = Preprocessing(*to, color, resize)
    ours = preprocessing(image)
    assert ours.dtype == torch.uint8
    assert ours.shape == preprocessing.shape == (3 if color == "rgb" else 1, *to)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    to=st.tuples(st.integers(2, 40), st.integers(2, 40)),
)
def test_a_crop_fills_the_whole_input(size, to):
    ours = Preprocessing(*to)(np.full((*size, 3), 200, np.uint8))
    assert (ours.int() - 200).abs().max() <= 1


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1)])
@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_a_strip_gets_the_shape_asked_for(size, resize):
    assert Preprocessing(32, 48, resize=resize)(np.zeros(size, np.uint8)).shape == (3, 32, 48)


def test_a_padded_strip_keeps_a_line_in_the_middle():
    ours = Preprocessing(32, 32, "gray", "pad")(np.full((1, 1000), 255, np.uint8))
    assert np.flatnonzero(ours[0].any(1)).tolist() in ([15], [16])


@pytest.mark.parametrize("length", [999, 1000])
def test_of_a_cropped_strip_the_middle_is_seen(length):
    strip = np.full((10, length), 255, np.uint8)
    strip[:, : length // 2] = 0
    if length % 2:
        strip[:, length // 2] = 128
    ours = Preprocessing(40, 40, "gray")(strip)[0].int()
    assert (ours + ours.flip(1) - 255).abs().max() <= 3


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_no_strip_fills_the_memory(monkeypatch, resize):
    sizes, scale = [], preprocess.scale

    def spied(channels, height, width):
        sizes.append((height, width))
        return scale(channels, height, width)

    monkeypatch.setattr(preprocess, "scale", spied)
    Preprocessing(64, 64, resize=resize)(np.zeros((1, 20_000), np.uint8))
    Preprocessing(64, 64, resize=resize)(np.zeros((20_000, 1), np.uint8))
    assert np.prod(sizes, axis=1).max() <= 8 * 64 * 64


def test_the_image_given_is_not_changed():
    image = picture(1)
    before = image.copy()
    Preprocessing(30, 40)(image).zero_()
    assert np.array_equal(image, before)


class Slow(Arrays):
    """The later an image comes, the sooner it is read."""

    def read(self, row, at_least=None):
        time.sleep(0.003 * (7 - row % 8))
        return self.images[row]


def many(count):
    return [np.full((6, 6), row, np.uint8) for row in range(count)]


@pytest.mark.parametrize(("count", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (2, [2]), (0, [])])
def test_images_come_in_batches(count, sizes):
    images = dataset_of([0] * max(count, 1), images=many(max(count, 1))).images(range(count))
    batches = list(prepared(images, Preprocessing(6, 6, "gray"), batch=3))
    assert [len(batch) for batch in batches] == sizes


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    to=st.tuples(st.integers(2, 40), st.integers(2, 40)),  # PyTorch cannot scale to 1x1
    resize=st.sampled_from(["crop", "squash", "pad"]),
    color=st.sampled_from(["rgb", "gray"]),
)
def test_small_images_of_one_size_are_prepared_as_each_alone(size, to, resize, color):
    images = [picture(n, *size) for n in range(3)]
    preprocessing = Preprocessing(*to, color, resize)
    (batch,) = prepared(dataset_of([0] * 3, images=images).images(range(3)), preprocessing)
    assert torch.equal(batch, torch.stack([preprocessing(image) for image in images]))


def test_images_come_in_order_from_all_threads():
    data = dataset_of([0] * 16, images=many(16))
    object.__setattr__(data, "pixels", Slow(many(16)))
    order = [9, 3, 0, 15, 4, 4, 12, 1]
    batches = prepared(data.images(order), Preprocessing(6, 6, "gray"), batch=8)
    assert [int(image[0, 0, 0]) for image in torch.cat(list(batches))] == order


def test_a_file_that_cannot_be_read_is_raised():
    class Gone(Arrays):
        def read(self, row, at_least=None):
            raise FileNotFoundError(row)

    data = dataset_of([0, 1])
    object.__setattr__(data, "pixels", Gone([]))
    with pytest.raises(FileNotFoundError):
        list(prepared(data.images([0, 1]), Preprocessing(6, 6)))


def test_no_more_images_are_read_than_a_few_batches_ahead():
    read, lock = [], threading.Lock()

    class Counted(Arrays):
        def read(self, row, at_least=None):
            with lock:
                read.append(row)
            return self.images[row]

    data = dataset_of([0] * 200, images=many(200))
    object.__setattr__(data, "pixels", Counted(many(200)))
    next(prepared(data.images(range(200)), Preprocessing(6, 6), batch=4))
    assert len(read) <= 40
