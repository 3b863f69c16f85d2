from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelwise.data import alike as alike_module
from labelwise.data.alike import Pairs, alike
from labelwise.data.duplicates import complete_linkage, find_duplicates, join_groups
from labelwise.data.load import load
from labelwise.data.scan import content_hash, thumbnail
from tests.images import class_folders, picture, write


def thumbs_of(images):
    return [thumbnail(image) for image in images]


def pairs_of(images):
    return [tuple(pair) for pair in alike(thumbs_of(images)).index.tolist()]


def find(images, labels=None, groups=None, splits=None):
    count = len(images)
    return find_duplicates(
        contents=[content_hash(image) for image in images],
        thumbs=thumbs_of(images),
        labels=labels or [None] * count,
        groups=groups or [None] * count,
        splits=splits or [None] * count,
        paths=[f"{row}.png" for row in range(count)],
    )


def jpeg(image, quality=50):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(image, share=0.8):
    size = round(image.shape[1] * share), round(image.shape[0] * share)
    return np.asarray(Image.fromarray(image).resize(size))


@pytest.mark.parametrize(
    "change",
    [jpeg, resized, lambda image: (image * 0.9).astype(np.uint8), lambda image: image // 2 + 60],
    ids=["jpeg", "resized", "darker", "flatter"],
)
def test_an_altered_copy_is_found_among_strangers(change):
    strangers = [picture(seed, 120, 90) for seed in range(20)]
    assert pairs_of([*strangers, change(strangers[7])]) == [(7, 20)]


def test_different_pictures_are_no_duplicates():
    assert pairs_of([picture(seed) for seed in range(200)]) == []


def test_pictures_that_differ_in_one_place_only_are_no_duplicates():
    first = picture(1, 64, 64, gray=True) // 2
    second = first.copy()
    second[20:24, 20:24] += 30  # a block of 4 x 4 pixels
    assert first.std() < 40
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.98
    assert pairs_of([first, second]) == []


def test_flat_pictures_are_only_ever_equal():
    noise = np.random.default_rng(0).integers(99, 101, (40, 30, 30), dtype=np.uint8)
    assert pairs_of(noise) == []


def test_the_sketch_proposes_every_pair_that_a_full_comparison_finds():
    rng = np.random.default_rng(0)
    base = [picture(seed, 32, 32, gray=True).astype(float) for seed in range(30)]
    images = [  # a second picture shines through, so that correlations of 0.9 to 1 occur
        (base[i % 30] * (1 - share) + base[(i + 7) % 30] * share).astype(np.uint8)
        for i, share in enumerate(rng.uniform(0, 0.25, 150))
    ]
    pictures, _ = alike_module.normalized(thumbs_of(images))
    full = pictures @ pictures.T / pictures.shape[1]
    tiles = pictures.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(150, -1)
    mean = pictures - pictures.mean(axis=0)
    mean /= np.linalg.norm(mean, axis=1)[:, None]
    own = mean @ mean.T
    expected = {
        (i, j)
        for i in range(150)
        for j in range(i + 1, 150)
        if full[i, j] >= 0.98 and own[i, j] >= 0.98 and np.abs(tiles[i] - tiles[j]).max() <= 0.5
    }
    assert len(expected) > 50
    assert set(pairs_of(images)) == expected


def test_a_windowed_search_says_that_it_is_not_complete(monkeypatch):
    monkeypatch.setattr(alike_module, "COMPLETE_UP_TO", 50)
    images = [picture(seed) for seed in range(60)]
    found = alike(thumbs_of([*images, jpeg(images[3], 90)]))
    assert not found.complete
    assert found.index.tolist() == [[3, 60]]


def test_a_chain_is_cut_where_its_ends_are_not_alike():
    chain = Pairs(np.array([[0, 1], [1, 2], [3, 4]]), np.array([0.99, 0.985, 0.98]), True)
    assert complete_linkage(chain) == [[0, 1], [3, 4]]
    triangle = Pairs(np.array([[0, 1], [1, 2], [0, 2]]), np.array([0.99, 0.985, 0.98]), True)
    assert complete_linkage(triangle) == [[0, 1, 2]]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(9, 16)), unique=True, max_size=30))
def test_every_pair_within_a_group_is_confirmed(edges):
    pairs = Pairs(np.array(edges, np.int64).reshape(-1, 2), np.linspace(1, 0.98, len(edges)), True)
    clusters = complete_linkage(pairs)
    members = [member for cluster in clusters for member in cluster]
    assert len(members) == len(set(members))
    for cluster in clusters:
        assert all((a, b) in edges for a in cluster for b in cluster if a < b)


def test_equal_pixels_form_an_exact_group_and_labels_that_differ_a_conflict():
    images = [picture(0), picture(1), picture(0), picture(1)]
    found = find(images, labels=[0, 1, 1, None])
    assert [(group.rows, group.kind, group.conflict) for group in found.duplicates] == [
        ((0, 2), "exact", True),
        ((1, 3), "exact", False),
    ]
    assert found.groups == ["dup-1", "dup-2", "dup-1", "dup-2"]
    assert any("different labels" in warning for warning in found.warnings)


def test_a_group_of_more_than_1_percent_is_reported_and_not_enforced():
    rng = np.random.default_rng(0)
    base = picture(0, 32, 32, gray=True).astype(float)
    alikes = [
        np.clip(base + rng.normal(0, 3, base.shape), 0, 255).astype(np.uint8) for _ in range(11)
    ]
    found = find([*alikes, *[picture(seed) for seed in range(1, 60)]])
    assert [(len(group.rows), group.enforced) for group in found.duplicates] == [(11, False)]
    assert set(found.groups) == {None}
    assert "11 images look alike" in found.warnings[0]


def test_copies_across_given_splits_are_counted():
    images = [picture(0), picture(1), picture(0), picture(2)]
    found = find(images, splits=["train", "train", "test", "test"])
    assert any("outside of it: 1, such as" in warning for warning in found.warnings)


def test_duplicates_join_the_groups_of_the_user():
    assert join_groups([None, "b", None, "a", None, None], [[0, 1], [2, 3, 4]]) == [
        *("b", "b", "a", "a", "a"),
        None,
    ]
    assert join_groups(["a", "b", None], [[0, 1]]) == ["a", "a", None]
    assert join_groups(["dup-1", None, None], [[1, 2]]) == ["dup-1", "dup-2", "dup-2"]


def test_load_writes_the_groups_into_the_table(tmp_path):
    class_folders(tmp_path, {"a": 2, "b": 2})
    write(tmp_path / "b" / "copy.png", 0)
    data = load(tmp_path)
    assert data.table["group"].fillna("").tolist() == ["dup-1", "", "", "", "dup-1"]
    assert data.groups[0] == data.groups[4]
    assert len(set(data.groups.tolist())) == 4


def test_solar_cells_that_only_look_alike_are_kept_apart():
    pytest.importorskip("elpv_dataset")
    data = load("elpv")
    rows = [row for group in data.duplicates for row in group.rows]
    assert all(group.enforced for group in data.duplicates)
    assert 0 < len(rows) < 0.1 * len(data.table)


def test_pictures_of_a_few_pixels_are_only_compared_for_being_equal():
    """Of two pixels every pair correlates by 1 or -1."""
    rng = np.random.default_rng(0)
    thumbs = [rng.integers(0, 256, (1, 2)).astype(np.uint8) for _ in range(60)]
    thumbs[5] = thumbs[4]
    contents = [thumb.tobytes().hex() for thumb in thumbs]
    nothing = [None] * 60
    found = find_duplicates(
        contents=contents,
        thumbs=thumbs,
        labels=nothing,
        groups=nothing,
        splits=nothing,
        paths=[str(row) for row in range(60)],
    )
    assert [(group.kind, group.rows) for group in found.duplicates] == [("exact", (4, 5))]
