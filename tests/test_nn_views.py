from __future__ import annotations

import numpy as np
import pytest
import torch

from labelwise.errors import OptionError
from labelwise.nn.views import parse_views, predict_views

PIXELS = torch.randint(
    0, 256, (5, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
WEIGHTS = torch.randn(3 * 6 * 7, 4, generator=torch.Generator().manual_seed(1))


def forward(images):
    return torch.tanh(images.float().flatten(1) @ WEIGHTS / 2000)


def naive(image, views):
    """Weighted mean of the logits of one image's views, made by numpy."""
    looks = [(1.0, image)]
    if "shift" in views:
        by = int(views.split("shift ")[1].split(",")[0])
        padded = np.pad(image, ((0, 0), (by, by), (by, by)), mode="reflect")
        corners = padded[:, 2 * by :, 2 * by :], padded[:, : -2 * by, : -2 * by]
        looks = [(0.5, image), *((0.25, corner) for corner in corners)]
    if "mirror" in views:
        looks = [(w / 2, each) for w, look in looks for each in (look, look[:, :, ::-1])]
    return sum(w * forward(torch.tensor(look.copy())[None])[0] for w, look in looks)


@pytest.mark.parametrize("views", ["", "mirror", "shift 1", "mirror, shift 1", "shift 3, mirror"])
def test_logits_are_the_mean_of_a_loop_over_images_and_views(views):
    expected = torch.stack([naive(image.numpy(), views) for image in PIXELS])
    torch.testing.assert_close(predict_views(forward, PIXELS, views), expected)


def test_six_views_are_six_passes():
    seen = []
    predict_views(lambda images: seen.append(images) or forward(images), PIXELS, "mirror, shift 1")
    assert len(seen) == 6
    assert len({images.numpy().tobytes() for images in seen}) == 6


def test_floats_are_seen_as_they_are():
    floats = PIXELS / 255
    expected = predict_views(lambda images: forward(255 * images), floats, "mirror, shift 2")
    torch.testing.assert_close(predict_views(forward, PIXELS, "mirror, shift 2"), expected)


@pytest.mark.parametrize(
    ("text", "read"),
    [("", (False, 0)), ("mirror", (True, 0)), (" shift  2 , mirror ", (True, 2))],
)
def test_views_are_read(text, read):
    assert parse_views(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "flip",
        "mirror 2",
        "mirror, mirror",
        "shift",
        "shift 0",
        "shift 1.5",
        "shift 1, shift 2",
        ",",
    ],
)
def test_unreadable_views_are_refused(text):
    with pytest.raises(OptionError, match="views '"):
        parse_views(text)


def test_a_shift_as_large_as_the_images_is_refused_with_the_largest_that_fits():
    with pytest.raises(OptionError, match="'shift 6'.*6x7 pixels.*shift 5 or less"):
        predict_views(forward, PIXELS, "shift 6")
    predict_views(forward, PIXELS, "shift 5")
