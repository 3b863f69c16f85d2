from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import affine_transform

from labelwise.errors import OptionError
from labelwise.nn import geometry, tones
from labelwise.nn.augment import mixup, parse_augmentation
from labelwise.nn.geometry import Frame
from labelwise.nn.parts import PARTS, alternating
from labelwise.nn.randaugment import OPERATIONS, randaugment, rotations

TEXTS = [
    "flip",
    "alternate",
    "crop 2",
    "translate 2",
    "cutout 3",
    "rotate 20",
    "affine 10 0.1 0.2",
    "color 0.4",
    "randaugment 2 5",
    "crop 2, flip, cutout 3, color 0.1, alternate, translate 1",
]
NOTHING = ["crop 0", "translate 0", "cutout 0", "rotate 0", "affine 0 0 0", "color 0"]
NOTHING += ["randaugment 3 0", "randaugment 0 9"]

small = settings(max_examples=25, deadline=None)
batches = st.tuples(
    st.integers(1, 6), st.sampled_from([1, 3, 4]), st.integers(4, 9), st.integers(4, 9)
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=6, channels=3, height=8, width=7, seed=0, last=False):
    shape = (count, channels, height, width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))
    return pixels.contiguous(memory_format=torch.channels_last) if last else pixels


def augmented(text, pixels, seed=0, epoch=0):
    index = torch.arange(len(pixels))
    return parse_augmentation(text)(pixels, index, epoch, generator(seed))


def each_image(pixels):
    """Every image as a Pillow image."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]


def close(result, expected, largest=1):
    """Whether bytes differ by rounding alone."""
    expected = np.stack([np.asarray(image) for image in expected]).transpose(0, 3, 1, 2)
    gap = np.abs(result.numpy().astype(int) - expected)
    return gap.max() <= largest


@pytest.mark.parametrize("last", [False, True])
def test_mirrors_and_shifts_are_those_of_a_loop_over_images(last):
    pixels = images(last=last)
    chosen = torch.tensor([True, False, True, False, True, True])
    down, right = torch.tensor([0, 2, -3, 7, -7, 1]), torch.tensor([1, -2, 0, 6, -6, 3])
    frame = Frame(pixels)
    frame.shift(down, right)
    frame.mirror(chosen)
    for i, result in enumerate(frame.pixels().numpy()):
        padded = np.pad(pixels[i].numpy(), ((0, 0), (7, 7), (6, 6)), mode="reflect")
        top, left = 7 - int(down[i]), 6 - int(right[i])
        moved = padded[:, top : top + 8, left : left + 7]
        np.testing.assert_array_equal(result, moved[:, :, ::-1] if chosen[i] else moved)


def test_a_mirror_before_a_shift_is_not_one_behind_it():
    pixels, right = images(1), torch.tensor([2])
    frame = Frame(pixels)
    frame.mirror(torch.tensor([True]))
    frame.shift(torch.tensor([0]), right)
    again = Frame(pixels.flip(3))
    again.shift(torch.tensor([0]), right)
    assert torch.equal(frame.pixels(), again.pixels())


@pytest.mark.parametrize("last", [False, True])
def test_what_a_translation_leaves_bare_is_zero(last):
    pixels = images(3, last=last) | 1
    down, right = torch.tensor([2, -8, 0]), torch.tensor([-3, 1, 0])
    frame = Frame(pixels)
    frame.shift(*(d.clamp(-6, 6) for d in (down, right)))
    bare = geometry.erase_bare(frame.pixels(), down, right) == 0
    expected = np.zeros((3, 3, 8, 7), dtype=bool)
    expected[0, :, :2] = expected[0, :, :, -3:] = expected[1] = True
    np.testing.assert_array_equal(bare, expected)


@pytest.mark.parametrize("last", [False, True])
def test_a_covered_square_is_that_of_a_loop_over_images(last):
    pixels = images(3, last=last)
    fill = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8)
    corners = [(-1, 2), (6, 5), (3, 0)]
    top, left = torch.tensor(corners).T
    result = geometry.cover(pixels, top, left, 3, fill)
    for i, (y, x) in enumerate(corners):
        expected = pixels[i].clone()
        expected[:, max(y, 0) : y + 3, max(x, 0) : x + 3] = fill[i][:, None, None]
        assert torch.equal(result[i], expected)


@pytest.mark.parametrize("last", [False, True])
def test_the_means_of_channels_are_those_of_numpy(last):
    pixels = images(last=last)
    np.testing.assert_allclose(
        geometry.channel_means(pixels), pixels.numpy().mean((2, 3)), rtol=1e-5
    )


@pytest.mark.parametrize("last", [False, True])
def test_a_warp_is_that_of_scipy(last):
    pixels = images(4, last=last)
    matrices = torch.eye(2, 3) + 0.4 * torch.randn(4, 2, 3, generator=generator(1))
    result = geometry.warp(pixels, matrices).numpy()
    center = np.array([3.5, 3.0])
    for image, (linear, offset), moved in zip(
        pixels.numpy(),
        [(m[:, :2], m[:, 2]) for m in matrices.double().numpy()],
        result,
        strict=True,
    ):
        rows_first, offset = linear[::-1, ::-1], offset[::-1]
        for plain, other in zip(image, moved, strict=True):
            expected = affine_transform(
                plain.astype(float),
                rows_first,
                center + offset - rows_first @ center,
                order=1,
                mode="reflect",
            )
            assert np.abs(other - expected).max() < 0.51


def test_a_rotation_by_90_degrees_is_counterclockwise():
    pixels = images(1, height=6, width=6)
    turned = geometry.warp(pixels, rotations(torch.tensor([90.0])))
    assert torch.equal(turned, pixels.rot90(1, (2, 3)))


@pytest.mark.parametrize(
    ("tone", "enhance"),
    [
        (tones.brightness, ImageEnhance.Brightness),
        (tones.saturation, ImageEnhance.Color),
        (tones.contrast, ImageEnhance.Contrast),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_tone_is_that_of_pillow(tone, enhance, last):
    pixels = images(last=last)
    factor = torch.tensor([0.1, 0.5, 1.0, 1.3, 1.9, 0.8])
    expected = [
        enhance(image).enhance(float(f))
        for image, f in zip(each_image(pixels), factor, strict=True)
    ]
    assert close(tone(pixels, factor), expected, largest=2)  # Pillow cuts off what we round


def test_sharpness_zero_is_the_smoothed_image_of_pillow():
    pixels = images()
    expected = [image.filter(ImageFilter.SMOOTH) for image in each_image(pixels)]
    assert close(tones.sharpness(pixels, torch.zeros(6)), expected)


def test_sharpness_goes_away_from_the_smoothed_image():
    pixels = images()
    smooth = np.stack([image.filter(ImageFilter.SMOOTH) for image in each_image(pixels)])
    plain = pixels.numpy().astype(float)
    expected = np.clip(1.5 * plain - 0.5 * smooth.transpose(0, 3, 1, 2), 0, 255)
    assert np.abs(tones.sharpness(pixels, torch.full((6,), 1.5)).numpy() - expected).max() <= 1.1


def test_brightness_and_contrast_in_one_pass_are_those_by_hand():
    pixels = images(2)
    bright, contrasted = torch.tensor([0.7, 1.2]), torch.tensor([1.4, 0.5])
    result = tones.bright_contrast(pixels, bright, contrasted).numpy()
    for i, image in enumerate(pixels.numpy()):
        lit = image * float(bright[i])
        middle = np.tensordot(tones.LUMA, lit, 1).mean()
        expected = np.clip(middle + float(contrasted[i]) * (lit - middle), 0, 255)
        assert np.abs(result[i] - expected).max() < 0.51


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterizing_is_that_of_pillow(bits):
    pixels = images()
    expected = [ImageOps.posterize(image, bits) for image in each_image(pixels)]
    assert close(tones.posterize(pixels, bits), expected, largest=0)


@pytest.mark.parametrize("threshold", [0, 1, 128, 255, 256])
def test_solarizing_is_that_of_pillow(threshold):
    pixels = images()
    expected = [ImageOps.solarize(image, threshold) for image in each_image(pixels)]
    assert close(tones.solarize(pixels, threshold), expected, largest=0)


@pytest.mark.parametrize("last", [False, True])
def test_random_operations_are_applied_image_by_image_in_their_order(last):
    pixels = images(8, last=last)
    drawn = torch.randint(len(OPERATIONS), (8, 3), generator=generator())
    signs = 2.0 * torch.randint(2, (8, 3), generator=generator(1)) - 1
    result = randaugment(pixels, 7, drawn, signs)
    operations = list(OPERATIONS.values())
    for i in range(8):
        image = pixels[[i]]
        for number, sign in zip(drawn[i], signs[i], strict=True):
            image = operations[number](image, 0.7, sign[None])
        assert torch.equal(result[[i]], image)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_changes_the_image_by_its_strength(name):
    slopes = torch.tensor([3, 5, 6])[:, None, None]
    ramp = slopes * (torch.arange(16)[:, None] + torch.arange(16))
    pixels = ramp.to(torch.uint8) + images(4, height=16, width=16) // 8
    signs = torch.ones(4)
    gaps = [
        float((OPERATIONS[name](pixels, share, signs).float() - pixels.float()).abs().mean())
        for share in (0.0, 0.25, 1.0)
    ]
    assert gaps[0] == 0 < gaps[1] < gaps[2]


@pytest.mark.parametrize("text", TEXTS)
@given(shape=batches, seed=st.integers(0, 2**31), last=st.booleans())
@small
def test_an_augmentation_keeps_shape_type_layout_and_its_input(text, shape, seed, last):
    pixels = images(*shape, seed=seed, last=last)
    before = pixels.clone()
    result = augmented(text, pixels, seed)
    assert (result.shape, result.dtype) == (pixels.shape, torch.uint8)
    assert result.is_contiguous(memory_format=torch.channels_last) or not last
    assert result.is_contiguous() or last
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("text", TEXTS)
def test_an_augmentation_changes_images(text):
    pixels = images(16)
    assert not torch.equal(augmented(text, pixels), pixels)


@pytest.mark.parametrize("text", TEXTS)
@given(seed=st.integers(0, 2**31))
@small
def test_the_same_seed_gives_the_same_images_in_either_layout(text, seed):
    plain = augmented(text, images(), seed)
    # Sums in another order may round the other way.
    gap = plain.int() - augmented(text, images(last=True), seed).int()
    assert torch.equal(plain, augmented(text, images(), seed))
    assert gap.abs().max() <= 1


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_drawn_depends_on_neither_pixels_nor_layout(text):
    states = []
    for pixels in (images(), images(seed=1, last=True)):
        source = generator()
        parse_augmentation(text)(pixels, torch.arange(len(pixels)), 0, source)
        states.append(source.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("text", NOTHING)
@given(shape=batches, seed=st.integers(0, 2**31), last=st.booleans())
@small
def test_no_strength_changes_nothing(text, shape, seed, last):
    pixels = images(*shape, seed=seed, last=last)
    assert torch.equal(augmented(text, pixels, seed), pixels)


@pytest.mark.parametrize("text", ["", "  ", "mixup 0.2"])
def test_an_augmentation_without_parts_gives_the_input_itself(text):
    pixels = images()
    assert augmented(text, pixels) is pixels


@given(shape=batches, seed=st.integers(0, 2**31), epoch=st.integers(0, 5))
@small
def test_a_flip_keeps_the_pixels_of_every_line(shape, seed, epoch):
    pixels = images(*shape, seed=seed)
    for text in ("flip", "alternate"):
        result = augmented(text, pixels, seed, epoch)
        assert torch.equal(result.sort(3).values, pixels.sort(3).values)


def test_a_flip_takes_half_of_the_images():
    pixels = torch.arange(2, dtype=torch.uint8).expand(1000, 1, 1, 2)
    assert 440 < int(augmented("flip", pixels)[:, 0, 0, 0].sum()) < 560


@given(pairs=st.integers(1, 300), epoch=st.integers(0, 1000))
@small
def test_alternating_flips_half_of_the_images_and_the_other_half_next(pairs, epoch):
    index = torch.arange(2 * pairs)
    now, following = alternating(index, epoch), alternating(index, epoch + 1)
    assert int(now.sum()) == pairs
    assert torch.equal(now, ~following)


def test_which_of_two_neighbors_alternates_first_has_no_pattern():
    first = alternating(torch.arange(0, 20_000, 2), 0).numpy()
    assert abs(first.mean() - 0.5) < 0.02
    signs = first - first.mean()
    for lag in range(1, 50):
        assert abs((signs[lag:] * signs[:-lag]).mean()) < 0.25 * 0.05


def test_alternation_asks_for_the_image_and_not_for_its_place_in_the_batch():
    pixels, index = images(), torch.tensor([4, 1, 5, 0, 2, 3])
    apply = parse_augmentation("alternate")
    shuffled = apply(pixels[index], index, 3, generator())
    assert torch.equal(shuffled, apply(pixels, torch.arange(6), 3, generator())[index])


@pytest.mark.parametrize("text", ["crop 2", "translate 2"])
def test_every_shift_up_to_the_limit_occurs_and_none_beyond(text):
    pixels = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    pixels[:, :, 4, 4] = 255
    _, _, y, x = augmented(text, pixels).nonzero().T
    assert len(y) == 2000
    assert {*zip(y.tolist(), x.tolist(), strict=True)} == {
        (row, column) for row in range(2, 7) for column in range(2, 7)
    }


def test_a_cutout_has_its_size_and_the_mean_of_the_image():
    pixels = torch.full((500, 1, 9, 9), 10, dtype=torch.uint8)
    pixels[:, :, ::2] = 30
    mean = int(pixels[0].float().mean().round())
    area = (augmented("cutout 4", pixels) == mean).sum((1, 2, 3))
    assert (int(area.max()), int(area.min())) == (16, 4)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("flip, blur 3", "'blur 3'.*'blur' is not a part.*flip, alternate"),
        ("flip,, crop 4", "'' is not a part"),
        ("flip 2", "'flip 2'.*nothing is expected"),
        ("crop", "'crop'.*pixels .a whole number from 0"),
        ("crop 1.5", "'crop 1.5'.*whole"),
        ("crop -1", "'crop -1'"),
        ("crop four", "'crop four'"),
        ("crop inf", "'crop inf'"),
        ("crop 4 4", "'crop 4 4'"),
        ("color nan", "'color nan'.*a share"),
        ("affine 10", "'affine 10'.*degrees.*then a share of the sides"),
        ("randaugment 2 11", "'randaugment 2 11'.*strength .from 0 to 10"),
        ("mixup 0.2, mixup 0.1", "mixup can be given once"),
    ],
)
def test_an_unreadable_part_is_named(text, named):
    with pytest.raises(OptionError, match=named):
        parse_augmentation(text)


@pytest.mark.parametrize(("text", "most"), [("crop 7", 6), ("translate 7", 6), ("cutout 8", 7)])
def test_a_part_that_does_not_fit_the_images_is_refused_with_the_largest_that_does(text, most):
    with pytest.raises(OptionError, match=f"'{text}'.*8x7 pixels.* {most} or less"):
        augmented(text, images())
    augmented(f"{text.split()[0]} {most}", images())


@given(
    text=st.text(max_size=30) | st.lists(st.sampled_from([*PARTS, "1", "0.5", ","])).map(" ".join)
)
@small
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(OptionError):
        parse_augmentation(text)


def test_mixup_stands_beside_the_parts():
    augmentation = parse_augmentation("flip, mixup 0.2, crop 2")
    assert augmentation.mixup == 0.2
    assert [part.name for part in augmentation.parts] == ["flip", "crop"]


@given(alpha=st.floats(0.05, 5), seed=st.integers(0, 2**31))
@small
def test_mixed_labels_tell_how_images_were_mixed(alpha, seed):
    labels = torch.tensor([0, 1, 2, 3, 4])
    pixels = (40 * labels).to(torch.uint8)[:, None, None, None].expand(5, 1, 2, 2)
    mixed, soft = mixup(pixels, labels, 6, alpha, generator(seed))
    torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ torch.arange(0.0, 240, 40))
    torch.testing.assert_close(soft.sum(1), torch.ones(5))


def test_the_same_seed_mixes_the_same_images():
    labels = torch.arange(6)
    first, again = (mixup(images(), labels, 6, 1.0, generator(3)) for _ in range(2))
    assert all(map(torch.equal, first, again))


def test_the_share_of_mixup_is_drawn_from_its_beta_distribution():
    source, shares = generator(), []
    while len(shares) < 400:
        _, soft = mixup(images(2), torch.tensor([0, 1]), 2, 0.5, source)
        if 0 < float(soft[0, 0]) < 1:  # the images were exchanged; either may be called the first
            shares.append(float(soft[0, 0]))
    # The mean of Beta(a, a) is 1/2, its variance 1 / (4 * (2 * a + 1)).
    assert math.isclose(np.mean(shares), 0.5, abs_tol=0.06)
    assert math.isclose(np.var(shares), 1 / 8, rel_tol=0.15)
