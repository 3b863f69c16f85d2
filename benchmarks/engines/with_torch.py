"""Plain PyTorch: batches from a DataLoader as in the tutorial, or slices of a tensor; compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from engines.nets import GEMM_COUNT, GEMM_SIDE, Net

Batches = Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]


def loader(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> None:
    """Train on the batches of a shuffling DataLoader."""
    batches = DataLoader(TensorDataset(*_tensors(pixels, labels)), net.batch, shuffle=True)
    _train(net, _build(net), lambda: iter(batches), epochs, pause)


def slices(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> None:
    """Train on slices of tensors in memory, in a new order every epoch."""
    _train(net, _build(net), _sliced(net, pixels, labels), epochs, pause)


def compiled(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> None:
    """The same with the network through torch.compile."""
    _train(net, torch.compile(_build(net)), _sliced(net, pixels, labels), epochs, pause)


def _sliced(net: Net, pixels: np.ndarray, labels: np.ndarray) -> Batches:
    images, classes = _tensors(pixels, labels)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index in torch.randperm(len(images)).split(net.batch):
            yield images[index], classes[index]

    return batches


def gemm(
    net: Net, pixels: np.ndarray, labels: np.ndarray, epochs: int, pause: Callable[[], None]
) -> None:
    """No training: the matrix products that say what this machine can do at most."""
    a, b = torch.rand(2, GEMM_SIDE, GEMM_SIDE)
    for _ in range(epochs):
        for _ in range(GEMM_COUNT):
            torch.mm(a, b, out=torch.empty_like(a))
        pause()


def _tensors(pixels: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (N, C, H, W) in [0, 1] and int64 (N,)."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    return images, torch.from_numpy(labels)


def _train(
    net: Net, model: nn.Module, batches: Batches, epochs: int, pause: Callable[[], None]
) -> None:
    """The loop of the tutorial."""
    loss_fn = nn.CrossEntropyLoss()
    optimizers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = optimizers[net.optimizer](model.parameters(), lr=net.lr)
    for _ in range(epochs):
        total = correct = 0.0
        for images, labels in batches():
            optimizer.zero_grad()
            logits = model(images)
            loss = loss_fn(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            correct += (logits.argmax(1) == labels).sum().item()
        pause()


def _build(net: Net) -> nn.Sequential:
    """Stride 2 pads both sides by one pixel, where TensorFlow pads one side; the work is equal."""
    modules: list[nn.Module] = []
    for kind, *values in net.layers:
        if kind == "conv":
            filters, stride, padding = values
            modules.append(nn.LazyConv2d(filters, 3, stride, 1 if padding == "same" else 0))
        elif kind == "dense":
            modules.append(nn.LazyLinear(values[0]))
        else:
            simple = {"relu": nn.ReLU, "max": nn.MaxPool2d, "flatten": nn.Flatten}
            modules.append(nn.LazyBatchNorm2d() if kind == "norm" else simple[kind](*values))
    model = nn.Sequential(*modules)
    model(torch.zeros(2, net.shape[2], *net.shape[:2]))  # the lazy layers take their widths
    return model
