"""A backbone cut in two, its norms folded away, and the gradients that reach its weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from labelwise.nn.depthwise import depthwise
from labelwise.nn.fold import folded
from labelwise.nn.tail import Front, Tail, Tuned, blocks_of
from labelwise.nn.taps import Taps

SIZE = (64, 64)


@pytest.fixture(scope="module")
def taps():
    """A small efficientnet whose norms have statistics that are not those of a new one."""
    torch.manual_seed(0)
    body = Taps("test_efficientnet", size=SIZE)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return body.eval()


def images(count=2):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def gradients(body, rows_or_images, call):
    """Gradients of a loss that every number of the embedding has a part in, by parameter."""
    body.zero_grad(set_to_none=True)
    embedding = call(rows_or_images)[1]
    (embedding * torch.linspace(-1, 1, embedding.shape[1])).square().sum().backward()
    return {n: w.grad.clone() for n, w in body.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("first", range(5))
def test_front_and_tail_together_are_the_whole_backbone(taps, first):
    front = Front(taps, first, SIZE)
    with torch.inference_mode():
        maps, embedding = Tail(taps, front)(front(images()))
        expected_maps, expected = taps(images())
    torch.testing.assert_close(embedding, expected)
    torch.testing.assert_close(maps, expected_maps[-len(maps) :])


@pytest.mark.parametrize("chosen", [(0, 2), (1, -1), (-1,)])
def test_a_cut_keeps_the_stages_that_were_chosen(chosen):
    body = Taps("test_efficientnet", chosen, SIZE).eval()
    front = Front(body, 2, SIZE)
    with torch.inference_mode():
        embedding = Tail(body, front)(front(images()))[1]
        torch.testing.assert_close(embedding, body(images())[1])


def test_only_networks_of_blocks_can_be_cut(taps):
    assert blocks_of(taps) == len(taps.net.blocks)
    assert blocks_of(Taps("test_resnet", size=SIZE)) == 0
    assert blocks_of(nn.Linear(2, 2)) == 0


def test_folded_norms_change_neither_the_answer_nor_any_gradient(taps):
    lean = folded(taps, images())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in lean.net.blocks[2].children())
    with torch.inference_mode():
        torch.testing.assert_close(lean(images())[1], taps(images())[1], rtol=1e-4, atol=1e-4)
    expected = gradients(taps, images(), taps)
    found = gradients(taps, images(), lean)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=1e-2)


def test_a_folded_copy_has_no_weights_of_its_own(taps):
    lean = folded(taps, images())
    assert {id(w) for w in lean.parameters()} == {id(w) for w in taps.parameters()}


def test_a_convolution_that_others_read_as_well_is_left_as_it_is():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(2.0)

        def forward(self, x):
            x = self.conv(x)
            return x + self.norm(x)

    both = Both().eval()
    torch.testing.assert_close(folded(both, images())(images()), both(images()))


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [7, 8])
def test_the_gradients_of_a_depthwise_convolution_are_those_of_autograd(size, stride, side):
    generator = torch.Generator().manual_seed(size)
    values = [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, side, side), (4, 1, size, size), (4,))
    ]
    how = {"stride": (stride, stride), "padding": (size // 2, size // 2)}
    expected = nn.functional.conv2d(*values, **how, groups=4)
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, values, slope)
    result = depthwise(*values, **how)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, values, slope), wanted)


def test_batch_norm_stays_in_inference_mode_while_a_network_learns(taps):
    network = Tuned(copy.deepcopy(taps), 2).train()
    assert network.training
    assert not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))
