"""The page of a map: every small copy is of its image, within the limit, and no name does harm."""

from __future__ import annotations

import base64
import io
import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelwise.atlas import page as module
from labelwise.atlas import sprites as sheets
from labelwise.atlas.facets import facets
from labelwise.atlas.page import Content, render, shortened
from labelwise.atlas.sprites import Sprites, sprites, tile
from labelwise.data.dataset import Dataset
from labelwise.data.load import load
from labelwise.data.memory import nameless_dataset
from tests.browser import Page, in_browser
from tests.images import picture

HOSTILE = (
    b"</script><script>alert(1)<script>.png".replace(b"/", "\u2215".encode()),
    b"<!--<script>.png",
    b"no unicode \xff.png",
    "\u202egnp.txt.png".encode(),
    b'a "quoted", name\'s.png',
)
CLASSES = ("</script><b>", "<img src=x onerror=alert(1)>")


def copies(images, limit=10**9):
    return sprites(images, limit, lambda done, of: None)


def cut(found: Sprites, image: int) -> np.ndarray:
    """The pixels of an image's tile, as the page finds them."""
    each = found.columns**2
    number, slot = divmod(int(found.slots[image]), each)
    sheet = Image.open(io.BytesIO(base64.b64decode(found.sheets[number].text)))
    left, top = slot % found.columns * found.side, slot // found.columns * found.side
    width, height = found.sizes[image]
    return np.asarray(sheet)[top : top + height, left : left + width]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Dataset:
    """Pictures of several shapes, gray and in color, some with names that try to break out."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(40):
        name = HOSTILE[number] if number < len(HOSTILE) else b"%03d.png" % number
        pixels = picture(number, 60 + 3 * number, 90, gray=number % 3 == 0)
        for label in ("a", "b"):
            (root / label).mkdir(exist_ok=True)
        path = os.fsencode(root / "ab"[number % 2]) + b"/" + name
        Image.fromarray(pixels).save(path)
    return load(root)


def content(data: Dataset, **changed) -> Content:
    """A map of a data set with arbitrary coordinates."""
    rows = data.usable
    rng = np.random.default_rng(0)
    label = [CLASSES[k] if k >= 0 else None for k in data.labels[rows]]
    table = data.table.iloc[rows].assign(label=label, predicted=CLASSES[0], confidence=0.7)
    values = {
        "title": "<b>photos</b>",
        "ids": rows,
        "paths": table["path"].tolist(),
        "layouts": {"pca": rng.normal(size=(len(rows), 2)), "tsne": rng.random((len(rows), 2))},
        "facets": facets(table, CLASSES),
        "confidence": np.full(len(rows), 0.7, np.float32),
        "neighbors": np.stack([np.roll(np.arange(len(rows)), -k - 1) for k in range(3)], 1),
        "notes": ["A <i>note</i>."],
    }
    return Content(**{**values, **changed})


def drawn(data: Dataset, **changed) -> str:
    images = data.images(data.usable)
    return render(content(data, **changed), lambda limit: copies(images, limit))


def test_every_small_copy_is_that_of_its_image(photos):
    images = photos.images(photos.usable)
    found = copies(images)
    assert (found.slots >= 0).all()
    assert len(set(found.slots)) == len(images)
    for image in range(len(images)):
        expected = tile(images, image, found.side).astype(float)
        pixels = cut(found, image).astype(float)
        if expected.ndim == 2:
            expected = np.repeat(expected[:, :, None], 3, 2)
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).mean() < 6
        # No other image is as close, so that none can have been taken for this one.
        width, height = found.sizes[image]
        assert max(width, height) == found.side or max(images.sizes[image]) < found.side


def test_small_images_are_kept_exactly():
    block = np.random.default_rng(0).integers(0, 256, (300, 9, 7), np.uint8)
    block[:, 2:] = 0  # as of digits, which are small as PNG
    data = nameless_dataset_of(block)
    found = copies(data.images(data.usable))
    assert {sheet.kind for sheet in found.sheets} == {"image/png"}
    for image in range(0, 300, 17):
        np.testing.assert_array_equal(cut(found, image), block[image])


def nameless_dataset_of(block: np.ndarray) -> Dataset:
    from labelwise.data.blocks import as_block

    return nameless_dataset(as_block(block, "images", []))


@settings(max_examples=8)
@given(st.integers(0, 400_000))
def test_the_sheets_never_exceed_their_limit(photos, limit):
    found = copies(photos.images(photos.usable), limit)
    assert sum(len(sheet.text) for sheet in found.sheets) <= limit
    assert found.slots.max() < len(found.sheets) * found.columns**2


def test_less_room_means_smaller_copies_and_then_fewer(photos, monkeypatch):
    images = photos.images(photos.usable)
    monkeypatch.setattr(sheets, "SHEET", 64)
    sides = [copies(images, limit).side for limit in (10**7, 60_000, 30_000)]
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides)) > 1
    few = copies(images, 9_000)
    assert few.side == sheets.SIDES[-1]
    assert 0 < (few.slots >= 0).sum() < len(images)


def test_a_page_stays_below_its_limit_and_says_what_it_leaves_out(photos, monkeypatch):
    monkeypatch.setattr(sheets, "SIDES", (64,))
    monkeypatch.setattr(sheets, "SHEET", 64)
    monkeypatch.setattr(module, "SLACK", 5_000)
    whole = len(drawn(photos).encode())
    bare = len(render(content(photos), lambda limit: Sprites(1, 1, (), *none(photos))).encode())
    limit = bare + 25_000
    monkeypatch.setattr(module, "LIMIT", limit)
    text = drawn(photos)
    assert len(text.encode()) <= limit < whole
    notes = json.loads(Page(text).scripts[0])["notes"]
    shown = sum(note.endswith(f"of {len(photos.usable)} images are in the page.") for note in notes)
    assert shown == 1


def none(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    count = len(data.usable)
    return np.full(count, -1), np.zeros((count, 2), np.int64)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=20), st.integers(200, 2_000))
def test_names_are_cut_until_they_fit(names, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "OF_NAMES", limit)
        short = shortened(names)
    assert len(json.dumps(short)) <= limit or max(map(len, short)) <= 1
    for name, left in zip(names, short, strict=True):
        assert left == name or (left[0] == "…" and name.endswith(left[1:]))


def test_points_are_divided_by_what_is_known_of_them():
    table = pd.DataFrame(
        {
            "label": ["a", "b", None, "c"],
            "predicted": ["a", "a", "b", "b"],
            "confidence": [0.5, 0.99, 0.3, 0.8999],
            "split": ["train", None, "test", "val"],
        }
    )
    found = {facet.key: facet for facet in facets(table, ["a", "b", "c"])}
    named = {key: [facet.names[part] for part in facet.parts] for key, facet in found.items()}
    assert named == {
        "label": ["a", "b", "no label", "c"],
        "predicted": ["a", "a", "b", "b"],
        "outcome": ["right", "wrong", "cannot tell", "wrong"],
        "confidence": ["50 to 70 %", "99 % and more", "below 50 %", "70 to 90 %"],
        "split": ["train", "not in a part", "test", "val"],
    }


def test_no_name_becomes_markup(photos):
    parsed = Page(drawn(photos))
    scripts = [a.get("type") for tag, a in parsed.tags if tag == "script"]
    assert scripts.count(None) == 1
    assert scripts.count("application/json") == 1
    assert not {"img", "b", "i"} & {tag for tag, _ in parsed.tags} - {"i"}
    embedded = json.loads(parsed.scripts[0])
    assert embedded["facets"][0]["names"][:2] == list(CLASSES)
    assert any("no unicode \\xff.png" in path or "\\udcff" in path for path in embedded["paths"])
    assert any("\\u202e" in path for path in embedded["paths"])


def test_the_page_loads_nothing_and_forbids_it(photos):
    text = drawn(photos)
    parsed = Page(text)
    policy = next(a for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none';")
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"link", "iframe", "object", "base", "img"})
    assert "http://" not in text
    assert "https://" not in text


OPEN = """
const search = document.getElementById("search");
search.value = "007.png";
search.dispatchEvent(new Event("input"));
search.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"}));
// Virtual time does not wait for an image to be decoded.
let turns = 150;
const wait = () => {
  let sum = 0;
  for (let i = 0; i < 5e6; i++) sum += i % 7;
  const drawn = document.querySelector("#panel > canvas[data-drawn]");
  if (!drawn && turns--) return setTimeout(wait, 10);
  const pixels = drawn.getContext("2d").getImageData(0, 0, drawn.width, drawn.height);
  document.documentElement.dataset.pixels = JSON.stringify([drawn.width, ...pixels.data]);
};
wait();
"""
LASSO = """
const map = document.getElementById("map");
map.setPointerCapture = () => {};
const stage = map.getBoundingClientRect();
const send = (type, x, y) => map.dispatchEvent(new PointerEvent(type, {
  pointerId: 1, button: 0, shiftKey: true, bubbles: true,
  clientX: stage.left + x * stage.width, clientY: stage.top + y * stage.height}));
send("pointerdown", 0, 0);
for (const [x, y] of [[1, 0], [1, 1], [0, 1]]) send("pointermove", x, y);
send("pointerup", 0, 1);
"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_runs_without_error_and_shows_the_legend(photos, tmp_path, width):
    file = tmp_path / "map.html"
    file.write_text(drawn(photos), "utf-8")
    words = "".join(in_browser(file, tmp_path, width=width).words)
    assert all(name in words for name in CLASSES)
    assert "A <i>note</i>." in words


@pytest.mark.browser
def test_an_image_that_is_searched_for_opens_with_its_neighbors(photos, tmp_path):
    file = tmp_path / "map.html"
    file.write_text(drawn(photos), "utf-8")
    dom = in_browser(file, tmp_path, do=OPEN)
    paths = photos.table["path"].iloc[photos.usable].tolist()
    image = next(n for n, path in enumerate(paths) if path.endswith("007.png"))
    opened = [str(a["aria-label"]) for _, a in dom.tags if "aria-label" in a]
    near = [label for label in opened if label.startswith("Open ")]
    assert len(near) == 3
    assert near[0] == f"Open {paths[(image + 1) % len(paths)]}"
    # What the page has drawn is the image's tile, in the middle of a square.
    side, *pixels = json.loads(str(dom.tags[0][1]["data-pixels"]))
    shown = np.array(pixels, float).reshape(side, side, 4)
    images = photos.images(photos.usable)
    expected = tile(images, image, side).astype(float)
    height, width = expected.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    inside = shown[top : top + height, left : left + width, :3]
    colored = expected if expected.ndim == 3 else np.repeat(expected[:, :, None], 3, 2)
    assert np.abs(inside - colored).mean() < 6
    assert shown[:, :, 3].astype(bool).sum() == height * width


@pytest.mark.browser
def test_a_lasso_around_everything_lists_all_ids(photos, tmp_path):
    file = tmp_path / "map.html"
    file.write_text(drawn(photos), "utf-8")
    dom = in_browser(file, tmp_path, do=LASSO)
    assert "40 images selected" in "".join(dom.words)
