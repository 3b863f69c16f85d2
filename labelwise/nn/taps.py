"""Taps: a timm network that gives the maps of several stages and their means as one embedding."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from labelwise.errors import LayerError

LARGEST_TAPS = 8  # inner stages at most; of deeper networks the last ones


class Taps(nn.Module):
    """Normalized images -> (maps, embedding) for any timm backbone.

    Attributes:
        name: architecture in timm.
        widths: width of every stage's part of the embedding; the last is the network's own
            embedding (what its classifier would get).
        width: their sum, D.
        chosen: the stages that are given, ascending indices into all of them.
    """

    def __init__(
        self,
        name: str,
        chosen: tuple[int, ...] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """
        Args:
            chosen: stages to give; None for all. Negative indices count from the end.
            size: height and width of images; None: what the weights were trained with.

        Raises:
            LayerError: timm has no such net, it cannot take such images, or has no such stage.
        """
        super().__init__()
        self.name = name
        if name.split(".")[0] not in timm.list_models():
            raise LayerError(f"{name!r} is not an architecture of the installed timm.")
        try:
            # The classifier stays out: its weights would only lie in every saved model.
            self.net: Any = timm.create_model(name, pretrained=False, num_classes=0)
            widths = self._probe(size)
        except LayerError:
            raise
        except Exception as error:  # timm's architectures refuse in many ways
            raise LayerError(
                f"{name} does not work for images of {size or 'its own size'} pixels: {error!r}"
            ) from None
        count = len(widths)
        chosen = tuple(range(count)) if chosen is None else chosen
        if outside := [index for index in chosen if not -count <= index < count]:
            raise LayerError(f"{name} has {count} stages; there is no stage {outside[0]}.")
        self.chosen = tuple(sorted({index % count for index in chosen}))
        self.widths = tuple(widths[index] for index in self.chosen)
        self.width = sum(self.widths)

    @property
    def architecture(self) -> dict[str, Any]:
        """What `model.build` makes this body of again, JSON-safe."""
        return {"kind": "timm", "name": self.name, "chosen": list(self.chosen)}

    def columns(self, chosen: tuple[int, ...]) -> list[int]:
        """Columns of this net's embedding that belong to some of its stages (negative allowed)."""
        starts = [sum(self.widths[:index]) for index in range(len(self.widths))]
        wanted = sorted({index % len(self.widths) for index in chosen})
        return [
            column
            for index in wanted
            for column in range(starts[index], starts[index] + self.widths[index])
        ]

    def forward(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """float32 (N, 3, H, W) -> (maps of the chosen stages, float32 (N, D))."""
        final, inner = self._stages(images)
        last = len(inner)
        parts, maps = [], []
        for index in self.chosen:
            if index < last:
                maps.append(inner[index])
                parts.append(inner[index].mean((2, 3)))
            else:
                if final.ndim == 4 and final.shape[1] == self.net.num_features:
                    maps.append(final)
                parts.append(self.net.forward_head(final, pre_logits=True))
        return tuple(maps), torch.cat(parts, 1)

    def _stages(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The final features and the maps of the inner stages, the last LARGEST_TAPS of them."""
        if "efficientnet" in self.name or "mobilenetv3" in self.name:
            # Every block stage instead of one per scale; the last entry repeats the final maps.
            final, inner = self.net.forward_intermediates(images, extra_blocks=True)
            return final, list(inner[1 : 1 + len(self.net.blocks)])
        final, inner = self.net.forward_intermediates(images, norm=True)
        return final, list(inner[-LARGEST_TAPS:])

    @torch.inference_mode()
    def _probe(self, size: tuple[int, int] | None) -> list[int]:
        """Width of every stage's part of the embedding, from a pass over one black image."""
        training = self.net.training
        self.net.eval()
        size = size or self.net.pretrained_cfg["input_size"][1:]
        final, inner = self._stages(torch.zeros(1, 3, *size))
        self.net.train(training)
        embedding = self.net.forward_head(final, pre_logits=True)
        return [*(part.shape[1] for part in inner), embedding.shape[1]]
