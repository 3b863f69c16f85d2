from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from labelwise.errors import TrainingError
from labelwise.nn import supervised
from labelwise.nn.checkpoint import Checkpoint
from labelwise.nn.layers import Stack, initialize
from labelwise.nn.network import Network
from labelwise.nn.passes import pace
from labelwise.nn.supervised import Examples, Supervised, confusion_columns, evaluate
from labelwise.nn.train import Objective, Schedule, train

PLAIN = Schedule("sgd", 0.1, "constant", 1, None)


def examples_of(count, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return Examples(pixels, torch.randint(0, classes, (count,), generator=generator))


def network_of(body="dense 6 relu", classes=3, seed=0):
    network = Network(Stack(body, (1, 4, 4)), classes)
    initialize(network, torch.Generator().manual_seed(seed))
    return network


def fit(
    network,
    examples,
    validation=None,
    *,
    seed=0,
    advance=None,
    checkpoint=None,
    batch=8,
    least_steps=0,
    **changes,
):
    objective = Supervised(network, examples, validation, batch=batch, least_steps=least_steps)
    schedule = dataclasses.replace(PLAIN, **changes)
    generator = torch.Generator().manual_seed(seed)
    return train(
        network,
        objective,
        schedule,
        generator=generator,
        advance=advance,
        checkpoint=checkpoint,
    )


def by_hand(examples, weight, bias, sample_weights=None):
    """Mean cross-entropy of a linear softmax, and its gradient, in numpy."""
    x = examples.pixels.flatten(1).numpy() / 255
    y = examples.labels.numpy()
    logits = x @ weight.T + bias
    proba = np.exp(logits - logits.max(1, keepdims=True))
    proba /= proba.sum(1, keepdims=True)
    w = np.ones(len(y)) if sample_weights is None else np.asarray(sample_weights, dtype=float)
    loss = -(w * np.log(proba[np.arange(len(y)), y])).mean()
    residual = (proba - np.eye(len(bias))[y]) * w[:, None] / len(y)
    return loss, residual.T @ x, residual.sum(0)


def linear():
    network = network_of("linear")
    head = network.head
    return network, head.weight.detach().numpy().copy(), head.bias.detach().numpy().copy()


def test_the_loss_of_a_step_is_the_one_by_hand():
    examples = examples_of(8)
    network, weight, bias = linear()
    history, _ = fit(network, examples)
    assert history[0]["train_loss"] == pytest.approx(by_hand(examples, weight, bias)[0], rel=1e-5)


def test_a_step_of_sgd_is_the_one_by_hand():
    examples = examples_of(8)
    network, weight, bias = linear()
    fit(network, examples)
    _, slope, shift = by_hand(examples, weight, bias)
    np.testing.assert_allclose(network.head.weight.detach(), weight - 0.1 * slope, atol=1e-6)
    np.testing.assert_allclose(network.head.bias.detach(), bias - 0.1 * shift, atol=1e-6)


def test_a_first_step_of_adam_is_the_one_by_hand():
    examples = examples_of(8)
    network, weight, bias = linear()
    fit(network, examples, optimizer="adam", lr=0.01)
    _, slope, _ = by_hand(examples, weight, bias)  # both moments, corrected, are the gradient's
    step = 0.01 * slope / (np.abs(slope) + 1e-7)
    np.testing.assert_allclose(network.head.weight.detach(), weight - step, atol=1e-5)


def test_weights_of_images_act():
    weights = [0.0, 2.0, 0.5, 1, 1, 0, 3, 1]
    examples = dataclasses.replace(examples_of(8), weights=torch.tensor(weights))
    network, weight, bias = linear()
    fit(network, examples)
    _, slope, _ = by_hand(examples, weight, bias, weights)
    np.testing.assert_allclose(network.head.weight.detach(), weight - 0.1 * slope, atol=1e-6)


def test_a_frozen_weight_stays():
    network = network_of()
    frozen = network.body.vector[1].weight.requires_grad_(False).clone()
    fit(network, examples_of(8))
    assert torch.equal(network.body.vector[1].weight, frozen)


@pytest.mark.parametrize("count", [8, 9, 16, 17, 20, 1])
def test_every_image_is_counted_in_every_epoch(count):
    history, _ = fit(network_of(), examples_of(count), epochs=3)
    assert [sum(record["train_confusion"]) for record in history] == [count] * 3


def test_a_confusion_matrix_has_the_true_classes_in_its_rows():
    examples = examples_of(30)
    history, _ = fit(network_of(), examples)
    rows = np.array(history[0]["train_confusion"]).reshape(3, 3).sum(1)
    assert rows.tolist() == np.bincount(examples.labels, minlength=3).tolist()


def test_validation_numbers_are_those_of_scikit_learn():
    network, examples = network_of(), examples_of(50, seed=1)
    record = evaluate(network, examples, batch=7)
    proba = network(examples.pixels)[2].softmax(1).detach().double().numpy()
    proba /= proba.sum(1, keepdims=True)
    predicted = proba.argmax(1)
    assert record["validation_loss"] == pytest.approx(log_loss(examples.labels, proba), rel=1e-5)
    assert record["validation_accuracy"] == accuracy_score(examples.labels, predicted)
    matrix = confusion_matrix(examples.labels, predicted, labels=range(3))
    assert record["validation_confusion"] == matrix.ravel().tolist()


def test_validation_does_not_move_the_weights():
    first, second = network_of("dense 6, batch norm"), network_of("dense 6, batch norm")
    fit(first, examples_of(20), examples_of(9, seed=1), epochs=3)
    fit(second, examples_of(20), epochs=3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("count", [9, 17, 2])
def test_a_last_image_by_itself_does_not_stop_a_batch_norm(count):
    history, _ = fit(network_of("dense 6, batch norm, relu"), examples_of(count))
    assert sum(history[0]["train_confusion"]) == count


def test_a_batch_of_one_image_learns():
    network = network_of()
    before = network.head.weight.clone()
    history, _ = fit(network, examples_of(6), batch=1)
    assert sum(history[0]["train_confusion"]) == 6
    assert not torch.equal(before, network.head.weight)


@pytest.mark.parametrize(("count", "batch"), [(1, 8), (8, 1)])
def test_a_batch_norm_refuses_to_learn_from_one_image(count, batch):
    with pytest.raises(TrainingError, match="one image at a time"):
        fit(network_of("dense 6, batch norm"), examples_of(count), batch=batch)


def test_there_must_be_an_image():
    with pytest.raises(TrainingError, match="no labeled image"):
        fit(network_of(), examples_of(0))


def test_there_must_be_a_head():
    with pytest.raises(TypeError, match="no head"):
        fit(network_of(classes=None), examples_of(4))


def test_a_loss_that_is_no_number_stops_with_epoch_and_rate():
    weights = torch.ones(8)
    weights[3] = float("nan")
    examples = dataclasses.replace(examples_of(8), weights=weights)
    with pytest.raises(TrainingError, match=r"epoch 1 at learning rate 0\.1"):
        fit(network_of(), examples, epochs=5)


def test_weights_that_are_no_numbers_stop_even_after_the_last_step():
    examples = dataclasses.replace(examples_of(8), weights=torch.full((8,), 1e4))
    with pytest.raises(TrainingError, match=r"epoch 1 at learning rate 3e\+38"):
        fit(network_of(), examples, lr=3e38)  # the loss is a number, the new weights are none


def test_the_same_seed_gives_the_same_weights():
    networks = [network_of("dense 6, dropout 0.5"), network_of("dense 6, dropout 0.5")]
    for network in networks:
        torch.manual_seed(1)
        fit(network, examples_of(20), epochs=3, seed=5)
    assert torch.equal(networks[0].head.weight, networks[1].head.weight)


def test_another_seed_gives_other_weights():
    networks = [network_of(), network_of()]
    for seed, network in enumerate(networks):
        fit(network, examples_of(20), epochs=3, seed=seed)
    assert not torch.equal(networks[0].head.weight, networks[1].head.weight)


def scripted(monkeypatch, losses):
    """Validation losses of the epochs, whatever the weights are; keeps the weights of each."""
    seen, left = [], iter(losses)

    def fake(network, examples, **_):
        seen.append(copy.deepcopy(network.state_dict()))
        return {"validation_loss": next(left)}

    monkeypatch.setattr(supervised, "evaluate", fake)
    return seen


def test_early_stopping_goes_back_to_the_best_epoch(monkeypatch):
    seen = scripted(monkeypatch, [3.0, 1.0, 2.0, 1.0, 5.0])
    network = network_of("dense 6, batch norm")
    history, best = fit(network, examples_of(20), examples_of(4), epochs=9, patience=2)
    assert (len(history), best) == (4, 2)
    for name, value in network.state_dict().items():
        assert torch.equal(value, seen[1][name]), name


def test_patience_begins_anew_with_every_better_epoch(monkeypatch):
    scripted(monkeypatch, [5.0, 6.0, 4.0, 6.0, 3.0, 6.0, 6.0])
    history, best = fit(network_of(), examples_of(9), examples_of(4), epochs=9, patience=2)
    assert (len(history), best) == (7, 5)


def test_without_patience_the_last_epoch_is_kept(monkeypatch):
    seen = scripted(monkeypatch, [1.0, 2.0, 3.0])
    network = network_of()
    history, best = fit(network, examples_of(9), examples_of(4), epochs=3)
    assert (len(history), best) == (3, 3)
    assert torch.equal(network.head.weight, seen[2]["head.weight"])


def test_without_validation_all_epochs_run():
    history, best = fit(network_of(), examples_of(9), epochs=4, patience=1)
    assert (len(history), best) == (4, 4)


def test_the_network_is_left_ready_to_predict():
    network = network_of()
    fit(network, examples_of(9))
    assert not network.training


def test_every_epoch_is_told():
    told = []
    fit(
        network_of(),
        examples_of(9),
        epochs=3,
        advance=lambda done, planned, record: told.append((done, planned, record["epoch"])),
    )
    assert told == [(1, 3, 1), (2, 3, 2), (3, 3, 3)]


def test_the_rate_falls_with_every_step():
    history, _ = fit(network_of(), examples_of(16), epochs=2, decay="cosine", lr=1.0)
    steps = [np.cos(np.pi * done / 4) / 2 + 0.5 for done in (1, 3)]  # the second of two, each
    assert [record["lr"] for record in history] == pytest.approx(steps)


def test_training_learns():
    examples = examples_of(60)
    bright = (examples.pixels.float().mean((1, 2, 3)) > 128).long()
    examples = Examples(examples.pixels, bright)
    network = network_of(classes=2)
    fit(network, examples, epochs=60, optimizer="adam", lr=0.01)
    assert evaluate(network, examples)["validation_accuracy"] > 0.95


def test_a_confusion_matrix_of_a_hundred_classes_is_kept():
    columns = confusion_columns("train", np.eye(100, dtype=int))
    assert list(columns) == ["train_confusion"]
    assert len(columns["train_confusion"]) == 10_000


def test_of_more_classes_the_counts_are_kept():
    confusion = np.zeros((101, 101), dtype=int)
    confusion[0, 0], confusion[0, 1], confusion[2, 1] = 5, 3, 2
    columns = confusion_columns("train", confusion)
    assert {name: values[:3] for name, values in columns.items()} == {
        "train_tp": [5, 0, 0],
        "train_fp": [0, 5, 0],
        "train_fn": [3, 0, 2],
    }


@pytest.mark.parametrize(
    ("count", "batch", "least", "expected"),
    [(9, 8, 6, (8, 6)), (80, 8, 6, (8, 1)), (3, 8, 0, (8, 1)), (200, 64, 20, (10, 1))],
)
def test_few_images_make_small_batches_and_are_passed_over_until_there_are_enough_steps(
    count, batch, least, expected
):
    batch, repeated = pace(count, batch, least)
    assert (batch, repeated) == expected
    assert count * repeated / batch >= least


def test_every_pass_of_an_epoch_sees_every_image_once():
    examples = examples_of(9)
    history, _ = fit(network_of(), examples, least_steps=6)
    confusion = np.reshape(history[0]["train_confusion"], (3, 3))
    assert history[0]["images"] == 54
    np.testing.assert_array_equal(confusion.sum(1), 6 * np.bincount(examples.labels, minlength=3))


class Killed(Exception):
    pass


def killed_after(epochs):
    def advance(done, planned, record):
        if done == epochs:
            raise Killed

    return advance


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw", "muon"])
@pytest.mark.parametrize("moment", [2, 8])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_training_that_was_killed_goes_on_exactly(optimizer, moment, average, tmp_path):
    """Weights, optimizer, order of images, dropout, early stopping: all of it."""
    options = {"epochs": 9, "optimizer": optimizer, "decay": "cosine", "patience": 7, "lr": 0.05}
    options |= {"average": average, "momentum": 0.9 if optimizer in ("nesterov", "muon") else 0.0}
    body = "dense 6, batch norm, relu, dropout 0.3"
    data = examples_of(20), examples_of(9, seed=1)
    torch.manual_seed(3)
    whole = network_of(body)
    expected = fit(whole, *data, **options)

    file = tmp_path / "checkpoint.safetensors"
    torch.manual_seed(3)
    with pytest.raises(Killed):
        fit(
            network_of(body),
            *data,
            checkpoint=Checkpoint(file, every=0),
            advance=killed_after(moment),
            **options,
        )
    torch.manual_seed(99)  # a new process
    resumed = network_of(body, seed=5)
    told = []
    found = fit(
        resumed,
        *data,
        seed=7,
        checkpoint=Checkpoint(file, every=0),
        advance=lambda done, *_: told.append(done),
        **options,
    )
    assert told[0] == moment  # the killed epoch's own checkpoint had not been written yet
    assert found[1] == expected[1]
    for a, b in zip(found[0], expected[0], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x08" + b"\0" * 7 + b"{}      "])
def test_a_checkpoint_that_cannot_be_read_is_as_none(content, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(content)
    first, second = network_of(), network_of()
    fit(first, examples_of(20), epochs=2, checkpoint=Checkpoint(file, every=0))
    fit(second, examples_of(20), epochs=2)
    assert torch.equal(first.head.weight, second.head.weight)


def test_a_checkpoint_of_another_network_is_as_none(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", every=0)
    fit(network_of("dense 5 relu"), examples_of(20), epochs=3, checkpoint=checkpoint)
    history, _ = fit(network_of(), examples_of(20), epochs=3, checkpoint=checkpoint)
    assert [record["epoch"] for record in history] == [1, 2, 3]


def test_a_checkpoint_is_not_written_more_often_than_asked(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    fit(network_of(), examples_of(20), epochs=3, checkpoint=Checkpoint(file, every=3600))
    assert not file.exists()


def test_an_objective_of_its_own_is_trained_by_the_same_loop():
    """Autoencoders, embeddings and others bring batches and losses; the loop knows neither."""

    class Center(Objective):
        """Brings a point to the middle of some numbers."""

        def __init__(self, point, numbers):
            self.point, self.numbers, self.last = point, numbers, None

        def batches(self, epoch, generator):
            return torch.split(self.numbers, 2)

        def loss(self, batch, epoch, generator):
            self.last = ((self.point.weight - batch) ** 2).mean()
            return self.last

        def record(self):
            return {"train_loss": self.last.item()}

        def judge(self):
            return {}

    point = torch.nn.Linear(1, 1, bias=False)
    schedule = dataclasses.replace(PLAIN, lr=0.05, epochs=80, decay="cosine")
    objective = Center(point, torch.tensor([1.0, 3.0, 2.0, 6.0]))
    train(point, objective, schedule, generator=torch.Generator())
    assert float(point.weight.detach()) == pytest.approx(3.0, abs=0.1)


def test_a_small_step_is_done_by_one_thread_and_the_others_come_back():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    for work in (10.0, 1e12):
        objective = Supervised(network := network_of(), examples_of(8), None, batch=8)
        train(
            network,
            objective,
            PLAIN,
            generator=torch.Generator(),
            advance=lambda *_: seen.append(torch.get_num_threads()),
            work=work,
        )
        seen.append(torch.get_num_threads())
    torch.set_num_threads(before)
    assert seen == [1, 2, 2, 2]


def test_what_is_judged_and_kept_is_the_average_of_the_weights(monkeypatch):
    seen = scripted(monkeypatch, [3.0, 2.0])
    network = network_of()
    moved = []

    def keep(*_):
        moved.append(network.head.weight.clone())

    fit(network, examples_of(16), examples_of(4), epochs=2, average=0.5, advance=keep)
    assert torch.equal(network.head.weight, seen[1]["head.weight"])
    assert not torch.equal(network.head.weight, moved[1])  # where the steps themselves ended


def test_a_young_average_is_mostly_the_newest_weights():
    begun, plain, averaged = network_of(), network_of(), network_of()
    fit(plain, examples_of(8), epochs=1)
    fit(averaged, examples_of(8), epochs=1, average=0.99)
    expected = begun.head.weight.lerp(plain.head.weight, 0.9)  # after the only step
    assert torch.allclose(averaged.head.weight, expected, atol=1e-6)
    assert not torch.allclose(begun.head.weight, plain.head.weight, atol=1e-4)


def test_smoothed_labels_and_mixed_images_act():
    from labelwise.nn.augment import parse_augmentation

    plain, smooth, mixed = network_of(), network_of(), network_of()
    options = {"batch": 8}
    for network, changes in (
        (plain, {}),
        (smooth, {"smoothing": 0.4}),
        (mixed, {"augment": parse_augmentation("mixup 1")}),
    ):
        objective = Supervised(network, examples_of(8), None, **options, **changes)
        train(network, objective, PLAIN, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(plain.head.weight, smooth.head.weight)
    assert not torch.equal(plain.head.weight, mixed.head.weight)
