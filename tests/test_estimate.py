from __future__ import annotations

import numpy as np
import pytest

from labelwise.data.split import FINAL, LabelCount, make_protocol
from labelwise.estimate import Fit, Workload, judging_seconds, seconds_after, workload
from labelwise.recipe.base import Cost
from tests.rows import dataset_of

DATA = dataset_of([0, 1] * 50)
FREE = Cost()


def test_a_fit_learns_by_its_portion_and_answers_one_by_one():
    fit = Fit(weight=1.0, portion=0.5, validation=3, answered=10)
    cost = Cost(epoch=8.0, validate=0.5, answer=0.25)
    assert fit.seconds(cost, passes=2.5, epochs=3) == 0.5 * 8 * 2.5 + 0.5 * 3 * 3 + 0.25 * 10


def test_what_every_fit_takes_does_not_shrink_with_its_images():
    whole, tiny = (Fit(1.0, portion, 0, 0).seconds(Cost(fit=0.1), 1, 1) for portion in (1, 0.01))
    assert whole == tiny == 0.1


def test_a_fit_that_only_the_winner_gets_counts_in_part():
    assert Fit(0.5, 1.0, 0, 0).seconds(Cost(epoch=4.0), 2.0, 2) == 4.0


def test_what_learns_from_a_pool_takes_as_long_with_few_labels():
    protocol = make_protocol(DATA, labels=[LabelCount(10), LabelCount(40)], folds=1)
    load = workload(DATA, protocol, variants=1, finals=True)
    labels, pool = Cost(epoch=8.0), Cost(epoch=8.0, everything=True)
    seconds = [[fit.seconds(cost, 1, 1) for fit in load.fits] for cost in (labels, pool)]
    assert min(seconds[0]) < max(seconds[0]) / 2
    assert min(seconds[1]) > max(seconds[1]) / 2


def test_what_learns_from_a_pool_reads_all_of_it():
    load = Workload((), read=0.25, judged=0)
    assert load.seconds(Cost(once=8.0), 1, 1) == 2
    assert load.seconds(Cost(once=8.0, everything=True), 1, 1) == 8


def test_every_labeled_image_is_judged_once_without_a_test_part():
    assert workload(DATA, make_protocol(DATA), variants=1, finals=False).judged == 100


def test_a_test_part_is_judged_as_well():
    protocol = make_protocol(DATA, test=0.2)
    assert workload(DATA, protocol, variants=1, finals=True).judged == 100


def test_only_images_of_some_part_are_read():
    protocol = make_protocol(DATA, labels=[LabelCount(4)], folds=1)
    used = {row for s in protocol.splits for row in (*s.train, *s.validation, *s.held_out)}
    found = workload(DATA, protocol, variants=1, finals=False)
    assert found.read == len(used) / 100 < 1


def test_without_final_fits_for_all_only_the_most_labels_get_one():
    protocol = make_protocol(DATA, labels=[LabelCount(10), LabelCount(20)])
    folds = sum(split.fold != FINAL for split in protocol.splits)
    assert len(workload(DATA, protocol, variants=1, finals=False).fits) == folds + 1
    assert len(workload(DATA, protocol, variants=1, finals=True).fits) == folds + 2


def test_the_winners_fit_is_shared_by_all_variants():
    found = workload(DATA, make_protocol(DATA), variants=4, finals=False)
    assert sorted({fit.weight for fit in found.fits}) == [0.25, 1.0]


def test_every_variant_and_every_pair_with_the_best_is_judged():
    load = Workload((), 1.0, judged=1000)
    one, two = (seconds_after(load, variants, 1e-3) for variants in (1, 2))
    assert two - one == pytest.approx(2.0)


@pytest.mark.parametrize("classes", [0, 1, 2, 40])
def test_judging_can_be_rehearsed_for_any_number_of_classes(classes):
    assert 0 < judging_seconds(classes) < np.inf


def test_what_an_epoch_takes_however_few_images_is_not_divided():
    cost = Cost(epoch=8.0, fixed=6.0)
    assert Fit(1.0, 0.5, 0, 0).seconds(cost, 3.0, 3) == 3 * (6 + 0.5 * 2)
