from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from labelwise.data.split import (
    FINAL,
    LabelCount,
    deal,
    make_protocol,
    parse_labels,
)
from labelwise.data.splits_table import splits_from_table, splits_table
from labelwise.errors import DataError, OptionError
from tests.rows import dataset_of

quick = settings(max_examples=20, deadline=None)


@st.composite
def drawn(draw, given_parts=True):
    """A data set with classes, missing labels and groups of any kind, and its protocol."""
    count = draw(st.integers(12, 60))
    labels = draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
    loose = st.lists(st.integers(0, count // 2), min_size=count, max_size=count)
    groups = draw(st.none() | loose)
    if groups is not None:  # low numbers stand for images on their own
        groups = [f"g{group}" if group > 4 else None for group in groups]
    splits = None
    if given_parts:
        parts = st.sampled_from([None, None, None, "train", "val", "test"])
        splits = draw(st.none() | st.lists(parts, min_size=count, max_size=count))
    data = dataset_of(labels, groups, splits)
    has_test = splits is not None and "test" in splits
    try:
        protocol = make_protocol(
            data,
            labels=parse_labels(draw(st.sampled_from(["all", "1,2,4/class", "1,3,all/class"]))),
            folds=draw(st.sampled_from([None, 2, 3])),
            repeats=draw(st.integers(1, 2)),
            test=None if has_test else draw(st.sampled_from([None, 0.2, 0.4])),
            seed=draw(st.integers(0, 5)),
        )
    except (OptionError, DataError):
        reject()
    return data, protocol


def parts_of(split):
    return [split.train, split.validation, split.held_out, split.unlabeled]


@quick
@given(drawn(given_parts=False))
def test_every_labeled_image_outside_the_test_part_is_held_out_once_per_repeat(case):
    data, protocol = case
    candidates = set(np.flatnonzero(data.labels >= 0)) - set(protocol.test)
    for key in {(split.labels, split.repeat) for split in protocol.splits}:
        folds = [s for s in protocol.splits if (s.labels, s.repeat) == key and s.fold != FINAL]
        times = Counter(row for split in folds for row in split.held_out.tolist())
        assert times == dict.fromkeys(candidates, 1)


@quick
@given(drawn())
def test_no_group_straddles_the_roles_of_a_fit(case):
    data, protocol = case
    groups = data.groups
    for split in protocol.splits:
        judges = [split.validation, split.held_out, protocol.test]
        learns = np.union1d(split.train, split.unlabeled)
        for judge in judges:
            assert not set(groups[learns]) & set(groups[judge])
        assert not set(groups[split.validation]) & set(groups[split.held_out])


@quick
@given(drawn())
def test_no_test_image_nor_its_relatives_play_any_role(case):
    data, protocol = case
    groups = data.groups
    given_test = np.flatnonzero((data.table["split"] == "test").fillna(False))
    for split in protocol.splits:
        rows = np.concatenate(parts_of(split))
        assert not set(groups[rows]) & set(groups[protocol.test])
        assert not set(rows) & set(given_test)


@quick
@given(drawn())
def test_the_roles_of_a_fit_share_no_image(case):
    for split in case[1].splits:
        rows = np.concatenate(parts_of(split))
        assert len(rows) == len(set(rows.tolist()))


@quick
@given(drawn())
def test_only_the_pool_has_unlabeled_images(case):
    data, protocol = case
    for split in protocol.splits:
        assert (data.labels[np.concatenate(parts_of(split)[:3])] >= 0).all()


@quick
@given(drawn())
def test_every_fold_has_images_to_learn_from_and_to_judge(case):
    for split in case[1].splits:
        assert len(split.train) > 0
        assert len(split.held_out) > 0 or split.fold == FINAL


@quick
@given(drawn())
def test_smaller_numbers_of_labels_are_parts_of_larger_ones(case):
    _, protocol = case
    for repeat, fold in {(split.repeat, split.fold) for split in protocol.splits}:
        same = [s for s in protocol.splits if (s.repeat, s.fold) == (repeat, fold)]
        seen = [set(split.train) | set(split.validation) for split in same]
        for smaller, larger in itertools.pairwise(seen):
            assert smaller <= larger


@quick
@given(drawn())
def test_all_numbers_of_labels_are_judged_on_the_same_images(case):
    judged = {}
    for split in case[1].splits:
        rows = judged.setdefault((split.repeat, split.fold), split.held_out.tolist())
        assert split.held_out.tolist() == rows


@quick
@given(drawn())
def test_labels_per_class_are_counted_validation_included(case):
    data, protocol = case
    for split in protocol.splits:
        if split.labels == "all":
            continue
        wanted = int(split.labels.removesuffix("-per-class"))
        counts = Counter(data.labels[np.concatenate([split.train, split.validation])])
        assert max(counts.values()) <= wanted


@quick
@given(drawn())
def test_splits_come_back_from_their_table(case):
    _, protocol = case
    table = splits_table(protocol.splits)
    for ours, back in zip(protocol.splits, splits_from_table(table), strict=True):
        assert list(map(repr, vars(ours).values())) == list(map(repr, vars(back).values()))


def test_splits_come_back_from_parquet(tmp_path):
    protocol = make_protocol(dataset_of([0, 1] * 10), repeats=2)
    splits_table(protocol.splits).to_parquet(tmp_path / "folds.parquet", index=False)
    back = splits_from_table(pd.read_parquet(tmp_path / "folds.parquet"))
    assert list(map(repr, back)) == list(map(repr, protocol.splits))


@quick
@given(
    st.lists(st.integers(1, 23), min_size=1, max_size=5),
    st.integers(2, 6),
    st.integers(0, 9),
)
def test_folds_hold_each_class_within_one_of_its_share(counts, folds, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = deal(labels, np.arange(len(labels)), [1 / folds] * folds, [seed])
    for label, count in enumerate(counts):
        held = np.bincount(parts[labels == label], minlength=folds)
        assert np.abs(held - count / folds).max() < 1


@quick
@given(
    st.lists(st.integers(1, 23), min_size=1, max_size=5),
    st.integers(2, 6),
    st.integers(0, 9),
)
def test_folds_are_equally_large_to_one_image(counts, folds, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = deal(labels, np.arange(len(labels)), [1 / folds] * folds, [seed])
    sizes = np.bincount(parts, minlength=folds)
    assert sizes.max() - sizes.min() <= 1


@quick
@given(
    st.lists(st.integers(2, 23), min_size=1, max_size=20),
    st.sampled_from([0.05, 0.1, 0.2, 0.3]),
    st.integers(0, 9),
)
@example(counts=[4] * 10, share=0.1, seed=0)
def test_a_share_of_many_small_classes_is_that_share_of_all(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = deal(labels, np.arange(len(labels)), [share, 1 - share], [seed])
    assert abs((parts == 0).sum() - share * len(labels)) <= 1


def test_an_only_image_of_a_class_is_not_drawn_to_judge():
    labels = np.array([0] * 7 + [1])  # one of seven is less than a fifth: that part lacks one
    parts = deal(labels, np.arange(8), [0.2, 0.8], [0])
    assert parts[-1] == 1


@quick
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 3))
def test_deal_never_divides_a_group(groups, seed):
    groups = np.array(groups)
    labels = np.arange(len(groups)) % 3
    parts = deal(labels, groups, [0.2, 0.3, 0.5], [seed])
    assert all(len(set(parts[groups == group])) == 1 for group in groups)


def test_nothing_is_dealt_into_nothing():
    none = np.zeros(0, dtype=np.int64)
    assert deal(none, none, [0.5, 0.5], [0]).shape == (0,)


def test_the_same_seed_draws_the_same_splits():
    data = dataset_of([0, 1, 2, -1] * 12)
    first, second = (make_protocol(data, test=0.2, repeats=2, seed=4) for _ in range(2))
    assert repr(first) == repr(second)


def test_another_seed_draws_other_splits():
    data = dataset_of([0, 1, 2] * 12)
    assert repr(make_protocol(data, seed=1).splits) != repr(make_protocol(data, seed=2).splits)


def test_repeats_hold_out_other_images_together():
    first, second = (
        s for s in make_protocol(dataset_of([0, 1] * 20), repeats=2).splits if s.fold == 0
    )
    assert first.held_out.tolist() != second.held_out.tolist()


def test_another_number_of_labels_leaves_folds_and_orders_as_they_are():
    data = dataset_of([0, 1, 2] * 20)
    alone = make_protocol(data, labels=parse_labels("4/class")).splits
    together = make_protocol(data, labels=parse_labels("1,4,9/class")).splits
    same = [split for split in together if split.labels == "4-per-class"]
    assert repr(list(alone)) == repr(same)


def test_validation_is_a_fifth_of_the_labels_in_the_budget():
    protocol = make_protocol(dataset_of([0, 1] * 100), labels=[LabelCount(40)])
    for split in protocol.splits[:-1]:
        assert (len(split.train), len(split.validation)) == (32, 8)


def test_there_is_no_validation_below_five_labels_per_class():
    protocol = make_protocol(dataset_of([0, 1] * 30), labels=parse_labels("4/class"))
    assert not any(len(split.validation) for split in protocol.splits)


def test_there_is_validation_from_five_labels_per_class():
    protocol = make_protocol(dataset_of([0, 1] * 30), labels=parse_labels("5/class"))
    assert [len(split.validation) for split in protocol.splits[:-1]] == [2] * 5


def test_the_final_fit_learns_from_all_labels():
    data = dataset_of([0, 1, -1] * 20)
    final = make_protocol(data, test=0.2).splits[-1]
    test = make_protocol(data, test=0.2).test
    assert final.train.tolist() == np.setdiff1d(np.flatnonzero(data.labels >= 0), test).tolist()


def test_subsets_of_labels_are_stratified():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    for split in make_protocol(dataset_of(labels), labels=[LabelCount(20)]).splits:
        counts = np.bincount(np.array(labels)[np.concatenate([split.train, split.validation])])
        assert np.abs(counts - [12, 6, 2]).max() <= 2


def test_the_smallest_number_of_labels_has_one_of_each_class():
    labels = [0] * 60 + [1] * 30 + [2] * 6
    for split in make_protocol(dataset_of(labels), labels=[LabelCount(3)]).splits:
        assert sorted(np.array(labels)[split.train]) == [0, 1, 2]


def test_labels_left_out_become_unlabeled():
    data = dataset_of([0, 1] * 20)
    for split in make_protocol(data, labels=parse_labels("2/class")).splits:
        assert len(split.train) == 4
        assert len(split.unlabeled) == 40 - 4 - len(split.held_out)


def test_unlabeled_images_are_in_the_pool_of_every_fit():
    data = dataset_of([0, 1, -1, -1] * 10)
    wild = np.flatnonzero(data.labels < 0).tolist()
    assert all(split.unlabeled.tolist() == wild for split in make_protocol(data).splits)


def test_an_unlabeled_duplicate_of_a_held_out_image_leaves_the_pool():
    groups = ["twins" if row in (0, 20) else None for row in range(21)]
    data = dataset_of([0, 1] * 10 + [-1], groups)
    for split in make_protocol(data).splits[:-1]:
        judged = 0 in np.concatenate([split.held_out, split.validation])
        assert (20 in split.unlabeled) == (not judged)


def test_a_given_val_part_is_the_held_out_part():
    splits = ["val" if row % 4 == 0 else None for row in range(40)]
    protocol = make_protocol(dataset_of([0, 1] * 20, splits=splits))
    assert protocol.splits[0].held_out.tolist() == list(range(0, 40, 4))


def test_a_given_val_part_is_learned_from_in_the_final_fit_only():
    splits = ["val" if row % 4 == 0 else None for row in range(40)]
    fold, final = make_protocol(dataset_of([0, 1] * 20, splits=splits)).splits
    assert (len(fold.train) + len(fold.validation), len(final.train)) == (30, 40)


def test_relatives_of_a_given_val_part_are_left_out_with_a_warning():
    splits = ["val" if row < 10 else None for row in range(40)]
    groups = ["twins" if row in (0, 20) else None for row in range(40)]
    protocol = make_protocol(dataset_of([0, 1] * 20, groups, splits))
    assert any("val part" in warning and ": 1." in warning for warning in protocol.warnings)


def test_relatives_of_a_given_test_part_are_left_out_with_a_warning():
    splits = ["test" if row < 10 else None for row in range(40)]
    groups = ["twins" if row in (0, 20) else None for row in range(40)]
    protocol = make_protocol(dataset_of([0, 1] * 20, groups, splits))
    assert any("test part" in warning and ": 1." in warning for warning in protocol.warnings)


def test_the_given_test_part_is_the_sealed_one():
    splits = ["test" if row < 10 else "train" for row in range(40)]
    assert make_protocol(dataset_of([0, 1] * 20, splits=splits)).test.tolist() == list(range(10))


def test_a_test_part_both_given_and_asked_for_is_refused():
    splits = ["test" if row < 10 else None for row in range(40)]
    with pytest.raises(OptionError, match=r"--test 0\.2.*already has a test part \(10 labeled"):
        make_protocol(dataset_of([0, 1] * 20, splits=splits), test=0.2)


def test_a_test_part_of_no_image_is_refused():
    with pytest.raises(OptionError, match=r"--test 0\.01 of 20 labeled images"):
        make_protocol(dataset_of([0, 1] * 10), test=0.01)


def test_a_drawn_test_part_is_stratified():
    data = dataset_of([0] * 50 + [1] * 30)
    assert Counter(data.labels[make_protocol(data, test=0.2).test]) == {0: 10, 1: 6}


def test_folds_are_refused_where_a_val_part_is_given():
    splits = ["val" if row < 10 else None for row in range(40)]
    with pytest.raises(OptionError, match="--folds 5.*val part"):
        make_protocol(dataset_of([0, 1] * 20, splits=splits), folds=5)


def test_more_folds_than_images_are_refused():
    with pytest.raises(
        OptionError, match="--folds 9: 9 independent labeled images are needed.*has 8 "
    ):
        make_protocol(dataset_of([0, 1] * 4), folds=9)


@pytest.mark.parametrize("labels", [[-1] * 9, [0] * 9], ids=["no class", "one class"])
def test_fewer_than_two_classes_are_refused(labels):
    with pytest.raises(DataError, match="two classes"):
        make_protocol(dataset_of(labels))


def test_a_class_of_one_image_gets_a_warning():
    protocol = make_protocol(dataset_of([0] * 10 + [1] * 10 + [2]))
    assert any("folds (5): 'c'" in warning for warning in protocol.warnings)


def test_classes_with_enough_images_get_no_warning():
    assert make_protocol(dataset_of([0] * 5 + [1] * 5)).warnings == ()


def test_a_class_with_fewer_labels_than_asked_for_gets_a_warning():
    protocol = make_protocol(dataset_of([0] * 40 + [1] * 10), labels=parse_labels("20/class"))
    assert any("'b' has only 8" in warning for warning in protocol.warnings)


def test_a_number_of_labels_out_of_reach_is_refused():
    with pytest.raises(OptionError, match="--labels 100: a train part has 16"):
        make_protocol(dataset_of([0, 1] * 10), labels=[LabelCount(100)])


def test_up_to_five_thousand_labels_there_are_five_folds():
    data = dataset_of([0, 1] * 2500, images=[np.zeros((1, 1), np.uint8)] * 5000)
    assert make_protocol(data).folds == 5


@pytest.mark.parametrize(("count", "held"), [(5001, 1000), (60_000, 10_000)])
def test_above_five_thousand_labels_there_is_one_held_out_part(count, held):
    data = dataset_of([0, 1, 2] * (count // 3), images=[np.zeros((1, 1), np.uint8)] * count)
    protocol = make_protocol(data)
    assert (protocol.folds, len(protocol.splits)) == (1, 2)
    assert len(protocol.splits[0].held_out) in (held, held + (count % 5 > 0))


def test_one_fold_asked_for_is_one_held_out_part():
    protocol = make_protocol(dataset_of([0, 1] * 50), folds=1)
    assert [len(split.held_out) for split in protocol.splits] == [20, 0]


def test_files_set_aside_play_no_role():
    data = dataset_of([0, 1] * 20)
    table = data.table.copy()
    table.loc[[0, 1], "decision"] = "set aside"
    protocol = make_protocol(dataclasses.replace(data, table=table))
    rows = np.concatenate([row for split in protocol.splits for row in parts_of(split)])
    assert not {0, 1} & set(rows)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", ["all"]),
        ("40", ["40"]),
        ("4/class", ["4-per-class"]),
        (" 1, 4, 25 / class", ["1-per-class", "4-per-class", "25-per-class"]),
        ("10,all", ["10", "all"]),
    ],
)
def test_numbers_of_labels_are_read(text, names):
    assert [count.name for count in parse_labels(text)] == names


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "x", "4/image", "4,", "4/class/class", "1.5", "9" * 5000, "4,4", "²"]
)
def test_other_numbers_of_labels_are_refused_by_name(text):
    with pytest.raises(OptionError, match="--labels"):
        parse_labels(text)


@quick
@given(st.text(alphabet="0123456789,/ classx", max_size=20))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(OptionError):
        assert parse_labels(text)
