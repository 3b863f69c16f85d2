"""Variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from labelwise.nn.coding import Coder, squared_error
from labelwise.nn.layers import Stack
from labelwise.nn.network import Network

# Log-variance of codes before anything is learned: with hardly any noise the decoder learns from
# codes at once, where with the prior's it first learns to ignore them.
FIRST_LOG_VARIANCE = -6.0


class Variational(Coder):
    """The loss is the negative evidence lower bound (ELBO) of an image, in nats.

    The encoder says of every image how its code is distributed: a normal with the network's
    embedding for a mean and a variance per entry, from one more layer that only learning needs.
    A code is drawn from it as mean + deviation * noise. The prior is the standard normal.

    The decoder's images are the means of a normal with one variance for all pixels, which is in
    every batch that under which the batch is most likely, its mean squared error (Rybkin et al.
    2021, arXiv:2006.13202): no constant has to weigh the two parts of the bound.
    """

    def __init__(self, network: Network) -> None:
        """
        Args:
            network: of layers, the last of them dense: the mean code.
        """
        super().__init__(network)
        mean = cast(nn.Linear, cast(Stack, network.body).vector[-1])
        self.log_variance = nn.Linear(mean.in_features, mean.out_features)

    def posterior(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of the codes of images, float32 (n, D) both."""
        body = cast(Stack, self.network.body)
        features = body.vector[:-1](body.spatial(self.network.normalized(pixels)))
        return body.vector[-1](features), self.log_variance(features) + FIRST_LOG_VARIANCE

    def losses(self, pixels: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        mean, log_variance = self.posterior(pixels)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        images = self.decoder(mean + (log_variance / 2).exp() * noise)
        error = squared_error(images, pixels)
        kl = divergence(mean, log_variance).mean()
        return {
            "loss": normal_surprise(error, images[0].numel()) + kl,
            "reconstruction": error,
            "kl": kl,
        }


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL divergence of normals from the standard normal (appendix B); (n, D) -> (n,)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def normal_surprise(error: torch.Tensor, values: int) -> torch.Tensor:
    """Mean negative log-likelihood of images of so many values, with their error for a variance."""
    least = 1e-6  # a quarter of a gray level, squared: smaller errors are not worth learning
    return values / 2 * ((2 * math.pi * (error + least)).log() + error / (error + least))
