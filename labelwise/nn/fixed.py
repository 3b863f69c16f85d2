"""Fixed views: an image changed at random, but always in the same way, so that it can be kept.

What is random about a view of an image depends on the image's own pixels and on the view's seed,
not on the batch that the image happens to be in nor on the order in which images are computed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FixedView:
    """A view of prepared images.

    Attributes:
        augment: what changes them, as text for `parse_augmentation`; empty for nothing.
        seed: another one gives another view of the same kind.
    """

    augment: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """What tells its embeddings from those of other views."""
        return f"{self.augment}, seed {self.seed}" if self.augment else "center"

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images uint8 (N, C, H, W), CPU, as this view shows them; the same shape."""
        import torch

        from labelwise.nn.augment import parse_augmentation

        augmentation = parse_augmentation(self.augment)
        if not augmentation.parts:
            return pixels
        views = []
        for image in torch.split(pixels, 1):
            # Of a generator's seed only 32 bits count.
            own = zlib.crc32(image.contiguous().numpy().tobytes(), self.seed)
            generator = torch.Generator().manual_seed(own)
            views.append(augmentation(image, torch.tensor([own]), 0, generator))
        return torch.cat(views)


CENTER = FixedView()
