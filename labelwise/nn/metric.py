"""Metric learning: images of a class are drawn together and others are pushed apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import nn

from labelwise.nn.balanced import balanced_batches
from labelwise.nn.train import Objective

LossName = Literal["multi-similarity", "triplet", "contrastive", "proxy-anchor"]

# A proxy's direction alone counts. Short ones turn faster, as the paper's hundredfold rate does.
PROXY_LENGTH = 0.01


class MetricLoss(nn.Module):
    """A loss of unit-norm embeddings, from pytorch-metric-learning, with the pairs it looks at.

    multi-similarity: Wang et al. 2019, arXiv:1904.06627, with its pair mining.
    triplet: margin 0.2, of the farthest image of the class and the nearest of another (Hermans et
        al. 2017, arXiv:1703.07737).
    contrastive: supervised, temperature 0.1 (Khosla et al. 2020, arXiv:2004.11362, equation 2).
    proxy-anchor: Kim et al. 2020, arXiv:2003.13911; a learned proxy per class.
    """

    def __init__(
        self, name: LossName, classes: int, width: int, generator: torch.Generator | None = None
    ) -> None:
        """
        Args:
            classes, width: K and D, which proxies have.
            generator: that proxies are drawn from at first; None: torch's own.
        """
        from pytorch_metric_learning import losses, miners

        super().__init__()
        self.miner: nn.Module | None = None
        if name == "multi-similarity":
            self.loss: Any = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
            self.miner = miners.MultiSimilarityMiner(epsilon=0.1)
        elif name == "triplet":
            self.loss = losses.TripletMarginLoss(margin=0.2)
            self.miner = miners.BatchHardMiner()
        elif name == "contrastive":
            self.loss = losses.SupConLoss(temperature=0.1)
        else:
            with torch.random.fork_rng(devices=[]), torch.no_grad():  # it draws some as well
                self.loss = losses.ProxyAnchorLoss(classes, width, margin=0.1, alpha=32)
                drawn = torch.randn(classes, width, generator=generator)
                self.loss.proxies.copy_(PROXY_LENGTH * nn.functional.normalize(drawn, dim=1))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float32 (n, D) of length 1 and int64 (n,) -> a scalar."""
        pairs = None if self.miner is None else self.miner(embeddings, labels)
        return cast(torch.Tensor, self.loss(embeddings, labels, pairs))


#: embeddings float32 (n, D) of length 1 of the images with some numbers, int64 (n,), in an epoch
Embed = Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]


class MetricLearner(nn.Module):
    """What is trained: what embeds, and what its loss has learned."""

    def __init__(self, network: nn.Module, loss: MetricLoss) -> None:
        super().__init__()
        self.network, self.loss = network, loss


class MetricLearning(Objective[torch.Tensor]):
    """The objective of an embedding: a metric loss on class-balanced batches of images.

    Its batches are numbers of images, int64 (n,).
    """

    def __init__(
        self,
        learner: MetricLearner,
        labels: torch.Tensor,
        embed: Embed,
        judge: Callable[[], dict[str, Any]],
        *,
        steps: int,
        classes: int,
        images: int,
    ) -> None:
        """
        Args:
            labels: of the images, int64 (N,); of at least two classes.
            embed: by the learner, as it is at the moment.
            judge: numbers of an epoch, as history columns.
            steps: of an epoch.
            classes, images: of a batch; see `balanced_batches`.
        """
        self.learner, self.labels, self.embed, self._judge = learner, labels, embed, judge
        self.steps, self.classes, self.images = steps, classes, images
        self.batch = min(classes, len(torch.unique(labels))) * images
        self.losses: list[torch.Tensor] = []

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        self.losses.clear()
        labels = self.labels.cpu()
        found = balanced_batches(labels, self.steps, self.classes, self.images, generator)
        return list(found.to(self.labels.device))

    def loss(self, index: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """The metric loss of a batch."""
        embeddings = self.embed(index, epoch, generator)
        loss: torch.Tensor = self.learner.loss(embeddings, self.labels[index])
        self.losses.append(loss.detach())
        return loss

    def record(self) -> dict[str, Any]:
        images = self.steps * self.batch
        return {"images": images, "train_loss": float(torch.stack(self.losses).mean())}

    def judge(self) -> dict[str, Any]:
        return self._judge()
