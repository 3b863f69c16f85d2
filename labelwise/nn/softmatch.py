"""How much a pseudo-label counts: soft weights by confidence, after aligning with known shares.

SoftMatch (Chen et al. 2023, arXiv:2301.10921). All numbers are running ones over the steps of a
training, and are kept in its checkpoints.
"""

from __future__ import annotations

import torch

MOMENTUM = 0.99  # of the running numbers; the paper's 0.999 is for a million steps
SIGMAS = 2.0  # deviations below the mean are counted twice, as in the authors' code
IN_USE = 0.5  # weight from which an image counts as in use


class Confidence:
    """Running mean and variance of the confidence of pseudo-labels, and the weights they give.

    The weight (equations 7 to 9) is a Gaussian of the confidence, cut off at its mean: 1 above it,
    less and less below. None is left out for good, as by a threshold, but guesses count little.
    """

    def __init__(self, device: torch.device) -> None:
        self.batches = torch.zeros((), device=device)
        self.mean = torch.zeros((), device=device)
        self.variance = torch.zeros((), device=device)

    @torch.no_grad()
    def weights(self, confidence: torch.Tensor) -> torch.Tensor:
        """Take in the confidences of a batch, float32 (N,), and give their weights in [0, 1]."""
        self.batches += 1
        new = _share_of_new(self.batches)
        self.mean.lerp_(confidence.mean(), new)
        self.variance.lerp_(confidence.var(correction=min(1, len(confidence) - 1)), new)
        below = (confidence - self.mean).clamp(max=0)
        return torch.exp(-below.square() * SIGMAS**2 / (2 * self.variance.clamp(min=1e-12)))


def above_chance(confidence: torch.Tensor, classes: int) -> torch.Tensor:
    """How far confidences, float32 (N,), lie above chance, squared: 0 at 1 / K, 1 where they are 1.

    The Gaussian weights compare images with each other only: a network that knows nothing yet is
    as sure of all of them, and would teach itself its guesses at full weight before the labels do.
    """
    return ((confidence - 1 / classes) / (1 - 1 / classes)).clamp(min=0).square()


class Alignment:
    """Probabilities whose mean over the images becomes the shares that the classes should have.

    Distribution alignment (Berthelot et al. 2020, arXiv:1911.09785): probabilities are multiplied
    by wanted over present shares, where the present ones are a running mean. It keeps a network
    that is sure of a class or two from teaching itself only these. SoftMatch aligns for the weights
    only; here pseudo-labels are named after aligning too, as in the paper above.
    """

    def __init__(self, wanted: torch.Tensor) -> None:
        """
        Args:
            wanted: float32 (K,), not negative, with sum 1.
        """
        self.wanted = wanted
        self.batches = wanted.new_zeros(())
        self.present = torch.zeros_like(wanted)

    @torch.no_grad()
    def __call__(self, proba: torch.Tensor) -> torch.Tensor:
        """Take in the probabilities of a batch, float32 (N, K), and give aligned ones."""
        self.batches += 1
        self.present.lerp_(proba.mean(0), _share_of_new(self.batches))
        aligned = proba * (self.wanted / self.present.clamp(min=1e-6))
        return aligned / aligned.sum(1, keepdim=True).clamp(min=1e-12)


def _share_of_new(batches: torch.Tensor) -> torch.Tensor:
    """What the newest of so many batches counts in a running mean; at first all count the same."""
    return (1 / batches).clamp(min=1 - MOMENTUM)


def class_shares(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Shares of the classes among some labels, int64 (N,) -> float32 (K,).

    A class with labels is given one more, as few labels say little; one without any has none.
    """
    counts = torch.bincount(labels, minlength=classes).float()
    counts += (counts > 0).float()
    return counts / counts.sum()
