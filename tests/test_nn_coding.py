"""Objectives of codes against the same by hand, in numpy or by sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labelwise.errors import TrainingError
from labelwise.nn.augment import parse_augmentation
from labelwise.nn.code_head import train_deep_head
from labelwise.nn.coding import Autoencoder, Coding, encoded, judged
from labelwise.nn.decoder import Decoder, mirrored
from labelwise.nn.joint import Joint
from labelwise.nn.layers import Stack, initialize
from labelwise.nn.network import Network
from labelwise.nn.passes import Passes
from labelwise.nn.supervised import Examples, Supervised
from labelwise.nn.train import Schedule, train
from labelwise.nn.variational import Variational, divergence, normal_surprise

SHAPE = (1, 6, 6)
NOTHING = parse_augmentation("")


def pixels_of(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)


def network_of(text="conv3 3x3 same relu, dense 5", classes=None):
    body = Stack(text, SHAPE)
    decoder = Decoder(mirrored(body), body.shapes[-1], SHAPE)
    network = Network(body, classes, mean=[0.4], std=[0.3], decoder=decoder)
    initialize(network, torch.Generator().manual_seed(0))
    return network


def coding(coder, pixels, validation=None, batch=4):
    return Coding(coder, pixels, validation, Passes.of(len(pixels), batch), NOTHING, dict)


def test_the_error_of_an_autoencoder_is_that_of_pixels_between_zero_and_one():
    network, pixels = network_of(), pixels_of(7)
    losses = Autoencoder(network).losses(pixels, torch.Generator())
    with torch.inference_mode():
        made = network.decoder(encoded(network, pixels)).numpy()
    expected = np.square(made - pixels.numpy() / 255).mean()
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_judging_in_batches_gives_the_mean_over_all_images():
    coder, pixels = Autoencoder(network_of()), pixels_of(300)
    whole = coder.losses(pixels, torch.Generator())["reconstruction"]
    assert judged(coder, pixels)["validation_reconstruction"] == pytest.approx(
        whole.item(), rel=1e-5
    )


def test_an_autoencoder_learns_to_make_its_images_again():
    pixels = (pixels_of(8) // 128) * 255
    coder = Autoencoder(network_of("dense 64 relu, dense 16"))
    history, _ = train(
        coder,
        coding(coder, pixels, pixels),
        Schedule("adam", 0.01, "constant", 60, None),
        generator=torch.Generator().manual_seed(0),
    )
    assert history[-1]["validation_reconstruction"] < 0.02 < history[0]["validation_reconstruction"]


def test_the_closed_form_of_the_divergence_is_what_sampling_gives():
    mean, log_variance = torch.tensor([[0.7, -1.2]]), torch.tensor([[0.4, -1.0]])
    closed = float(divergence(mean, log_variance))
    deviation = (log_variance / 2).exp()
    generator = torch.Generator().manual_seed(0)
    codes = mean + deviation * torch.randn(400_000, 2, generator=generator)
    own = torch.distributions.Normal(mean, deviation).log_prob(codes).sum(1)
    prior = torch.distributions.Normal(0, 1).log_prob(codes).sum(1)
    assert closed == pytest.approx(float((own - prior).mean()), abs=0.01)


def test_the_bound_is_the_one_by_hand():
    """In numpy, with the noise that the generator gives."""
    coder, pixels = Variational(network_of()), pixels_of(9)
    initialize(coder, torch.Generator().manual_seed(1))
    found = coder.losses(pixels, torch.Generator().manual_seed(5))
    with torch.inference_mode():
        mean, log_variance = (part.double().numpy() for part in coder.posterior(pixels))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5)).numpy()
        codes = mean + np.exp(log_variance / 2) * noise
        made = coder.decoder(torch.from_numpy(codes).float()).numpy()
    error = np.square(made - pixels.numpy() / 255).mean()
    values = math.prod(SHAPE)
    likelihood = -values / 2 * (math.log(2 * math.pi * error) + 1)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1).mean()
    assert found["loss"].item() == pytest.approx(kl - likelihood, rel=1e-4)
    assert found["kl"].item() == pytest.approx(kl, rel=1e-5)


def test_the_mean_code_is_the_embedding():
    network, pixels = network_of(), pixels_of(5)
    coder = Variational(network)
    with torch.inference_mode():
        mean, _ = coder.posterior(pixels)
    assert torch.equal(mean, encoded(network, pixels))


def test_of_all_variances_the_error_itself_is_the_likeliest():
    error, values = torch.tensor(0.03), 50

    def surprise(variance):
        return values / 2 * (math.log(2 * math.pi * variance) + 0.03 / variance)

    best = min(surprise(v) for v in np.linspace(0.01, 0.1, 901))
    assert float(normal_surprise(error, values)) == pytest.approx(best, rel=1e-4)


def joint_of(network, examples, unlabeled, weight=2.0, variance=0.25):
    classifier = Supervised(network, examples, None, batch=4)
    return Joint(classifier, unlabeled, weight, variance)


def test_the_joint_loss_is_the_one_by_hand():
    network = network_of(classes=3)
    examples, unlabeled = Examples(pixels_of(4), torch.tensor([0, 2, 1, 1])), pixels_of(5, seed=1)
    rest, known = torch.tensor([4, 0, 2]), torch.tensor([3, 1])
    found = joint_of(network, examples, unlabeled).loss((rest, known), 0, torch.Generator())
    pixels = torch.cat([unlabeled[rest], examples.pixels[known]])
    with torch.inference_mode():
        codes = encoded(network, pixels)
        error = np.square(network.decoder(codes).numpy() - pixels.numpy() / 255).mean()
        proba = network.head(codes[3:]).softmax(1).double().numpy()
    entropy = -np.log([proba[0, 1], proba[1, 2]]).mean()
    assert found.item() == pytest.approx(entropy + 2 * error / 0.25, rel=1e-4)


def test_unlabeled_images_do_not_move_what_only_classifies():
    """Neither the head's gradient nor, without a weight on reconstructions, the encoder's."""
    network = network_of(classes=3)
    examples, unlabeled = Examples(pixels_of(4), torch.tensor([0, 2, 1, 1])), pixels_of(5, seed=1)
    known, nothing = torch.arange(4), torch.arange(0)

    def gradients(rest, weight):
        network.zero_grad()
        joint_of(network, examples, unlabeled, weight).loss(
            (rest, known), 0, torch.Generator()
        ).backward()
        return network.head.weight.grad.clone(), network.body.vector[1].weight.grad.clone()

    (head, body), (head_alone, body_alone) = (
        gradients(rest, 0.0) for rest in (torch.arange(5), nothing)
    )
    torch.testing.assert_close(head, head_alone)
    torch.testing.assert_close(body, body_alone)
    moved = gradients(torch.arange(5), 1.0)[1]
    assert not torch.allclose(moved, body_alone)


@pytest.mark.parametrize(("labeled", "unlabeled"), [(3, 20), (20, 3), (7, 0), (1, 1), (5, 6)])
def test_every_image_is_in_an_epoch_and_every_batch_has_a_label(labeled, unlabeled):
    network = network_of(classes=2)
    examples = Examples(pixels_of(labeled), torch.zeros(labeled, dtype=torch.int64))
    objective = joint_of(network, examples, pixels_of(unlabeled, seed=1))
    batches = objective.batches(0, torch.Generator().manual_seed(0))
    rest, known = (torch.cat(part) for part in zip(*batches, strict=True))
    assert sorted(rest.tolist()) == list(range(unlabeled))
    counts = torch.bincount(known, minlength=labeled)
    assert counts.min() == counts.max() >= 1
    assert len(known) >= unlabeled
    assert all(len(part) for _, part in batches)


def test_few_labels_do_not_shrink_the_batches_of_many_images():
    network = network_of(classes=2)
    examples = Examples(pixels_of(3), torch.zeros(3, dtype=torch.int64))
    classifier = Supervised(network, examples, None, batch=64)
    objective = Joint(classifier, pixels_of(500, seed=1), 1.0, 0.25, least_steps=5)
    batches = objective.batches(0, torch.Generator().manual_seed(0))
    assert {len(rest) + len(known) for rest, known in batches} <= {62, 63, 64}


def test_few_images_are_passed_over_several_times():
    network = network_of(classes=2)
    examples = Examples(pixels_of(4), torch.zeros(4, dtype=torch.int64))
    classifier = Supervised(network, examples, None, batch=64)
    objective = Joint(classifier, pixels_of(6, seed=1), 1.0, 0.25, least_steps=5)
    batches = objective.batches(0, torch.Generator().manual_seed(0))
    assert len(batches) >= 5
    rest = torch.bincount(torch.cat([part for part, _ in batches]), minlength=6)
    assert rest.min() == rest.max() > 1


def test_a_deep_head_on_codes_is_the_network_that_was_trained():
    """Trained on standardized codes, it answers for plain ones; here a code tells the class."""
    labels = torch.arange(30) % 3
    codes = 50 + 5 * torch.nn.functional.one_hot(labels, 3).float() @ torch.eye(3, 4)
    head, history, _ = train_deep_head(
        Examples(codes, labels),
        None,
        (8, 6),
        3,
        Schedule("adam", 0.02, "constant", 60, None),
        torch.Generator().manual_seed(0),
        batch=10,
    )
    assert history[-1]["train_accuracy"] == 1
    assert (head(codes).argmax(1) == labels).all()


def test_no_image_is_nothing_to_learn_from():
    with pytest.raises(TrainingError, match="0 images in batches of 4 are too few"):
        coding(Autoencoder(network_of()), pixels_of(0))
