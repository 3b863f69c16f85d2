"""Centroids: features of patches by k-means (Coates, Ng and Lee 2011, AISTATS), no gradient needed.

Every patch of an image is normalized for brightness and contrast, whitened (ZCA), and compared with
K centroids. Feature k is by how much centroid k is nearer than centroids are on average (their
"triangle" activation), and an image is its features' mean over each of four quadrants.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from labelwise.errors import DataError, LayerError
from labelwise.nn.limits import check_size

CONTRAST = 10 / 255**2  # added to the variance of a patch; Coates' 10 for pixels up to 255
WHITENING = 0.1  # added to the eigenvalues of normalized patches, as Coates has it
QUADRANTS = 2  # a side
AT_ONCE = 2**22  # distances in memory at once: 16 MB
ITERATIONS = 10  # of k-means; later ones hardly move a centroid


class Centroids(nn.Module):
    """Images float32 (N, C, H, W) in [0, 1] -> (maps, embedding), as a `Body`.

    maps: the pooled features (N, K, 2, 2); embedding: the same flattened, (N, 4 * K).

    Attributes:
        mean: of normalized patches, (D,) with D = C * side * side.
        whitening: symmetric, (D, D).
        centroids: whitened patches, (K, D).
    """

    mean: torch.Tensor
    whitening: torch.Tensor
    centroids: torch.Tensor

    def __init__(self, count: int, side: int, shape: tuple[int, int, int]) -> None:
        """
        Args:
            count: K.
            side: of a patch.
            shape: (C, H, W) of the images.

        Raises:
            LayerError: the images are smaller than two patches side by side, or K is too large.
        """
        super().__init__()
        channels, *sides = shape
        places = [length - side + 1 for length in sides]
        if min(places) < QUADRANTS:
            raise LayerError(
                f"patches of {side}x{side} pixels are too large for images of "
                f"{sides[1]}x{sides[0]}. Use a smaller patch or a larger --image-size."
            )
        width = channels * side**2
        work = math.prod(places) * width * (width + count)
        values = max(count * width, math.prod(places) * max(count, width))
        check_size(f"{count} centroids", values=values, work=work)
        self.count, self.side = count, side
        self.width = QUADRANTS**2 * count
        self.widths = (self.width,)
        weights = {"mean": (width,), "whitening": (width, width), "centroids": (count, width)}
        for name, size in weights.items():
            # Filled when it is registered, for that is where a limit would refuse it.
            self.register_parameter(name, nn.Parameter(torch.empty(size), requires_grad=False))
            nn.init.zeros_(getattr(self, name))

    @property
    def architecture(self) -> dict[str, Any]:
        """What `architecture.build` makes this body of again, JSON-safe."""
        return {"kind": "centroids", "count": self.count, "side": self.side}

    def forward(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """A few images at a time: the distances of all patches of one image fill megabytes."""
        each = (images.shape[2] - self.side + 1) * (images.shape[3] - self.side + 1) * self.count
        parts = torch.split(images, max(1, AT_ONCE // each))
        pooled = torch.cat([self._pooled(part) for part in parts])
        return (pooled,), pooled.flatten(1)

    def learn(self, patches: torch.Tensor, generator: torch.Generator) -> None:
        """Make whitening and centroids of patches, float32 (P, D) in [0, 1].

        Raises:
            DataError: there are fewer patches than centroids.
        """
        if len(patches) < self.count:
            raise DataError(
                f"{len(patches)} patches cannot make {self.count} centroids: use more images, or "
                "fewer centroids (--set NAME.centroids=...)."
            )
        normalized = normalized_patches(patches)
        self.mean.copy_(normalized.mean(0))
        self.whitening.copy_(zca(normalized))
        self.centroids.copy_(
            kmeans((normalized - self.mean) @ self.whitening, self.count, generator)
        )

    def _pooled(self, images: torch.Tensor) -> torch.Tensor:
        """(n, K, 2, 2)."""
        rows = images.shape[2] - self.side + 1
        patches = nn.functional.unfold(images, self.side).transpose(1, 2)  # (n, places, D)
        whitened = (normalized_patches(patches) - self.mean) @ self.whitening
        features = triangle(whitened, self.centroids).transpose(1, 2)
        maps = features.reshape(*features.shape[:2], rows, -1)
        return nn.functional.adaptive_avg_pool2d(maps, QUADRANTS)


def normalized_patches(patches: torch.Tensor) -> torch.Tensor:
    """Patches (..., D) of mean 0 and deviation near 1; one without contrast stays near 0."""
    centered = patches - patches.mean(-1, keepdim=True)
    return centered / (centered.square().mean(-1, keepdim=True) + CONTRAST).sqrt()


def zca(patches: torch.Tensor) -> torch.Tensor:
    """The symmetric matrix (D, D) after which patches (P, D) are nearly uncorrelated."""
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.double(), correction=0))
    scale = (values.clamp(min=0) + WHITENING).rsqrt()
    return ((vectors * scale) @ vectors.T).float()


def triangle(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """By how much each centroid (K, D) is nearer to points (..., D) than on average; (..., K)."""
    distances = (
        points.square().sum(-1, keepdim=True)
        - 2 * points @ centroids.T
        + centroids.square().sum(-1)
    )
    distances = distances.clamp_(min=0).sqrt_()
    return (distances.mean(-1, keepdim=True) - distances).clamp_(min=0)


def kmeans(points: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Centroids (count, D) of points (P, D), by Lloyd's iterations from random points.

    A centroid that no point is nearest to becomes a random point.
    """
    order = torch.randperm(len(points), generator=generator)
    centroids = points[order[:count]].clone()
    for _ in range(ITERATIONS):
        sums, sizes = torch.zeros_like(centroids), points.new_zeros(count)
        for part in torch.split(points, max(1, AT_ONCE // count)):
            # The nearest by x @ c - |c|^2 / 2: what is left out is the same for all centroids.
            nearest = (part @ centroids.T - centroids.square().sum(1) / 2).argmax(1)
            sums.index_add_(0, nearest, part)
            sizes += torch.bincount(nearest, minlength=count)
        drawn = torch.randint(len(points), (count,), generator=generator)
        centroids = torch.where(
            sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], points[drawn]
        )
    return centroids
