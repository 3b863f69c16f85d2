"""Taps: a timm network that gives the maps of several stages and their means as one embedding.

timm is imported where it is used: it takes seconds that networks from scratch need not wait for.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import torch
from torch import nn

from labelwise.errors import LayerError

LARGEST_TAPS = 8  # inner stages at most; of deeper networks the last ones
# Lets a vision transformer take images of any size: its position embeddings are resampled to the
# grid of patches (as in Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.2), the last row and
# column of which may be padded.
ANY_SIZE: dict[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": True}


@cache
def takes_any_size(name: str) -> bool:
    """Whether a network of timm can take images of other sizes than its weights were trained on."""
    import timm

    if not _fixed_size(name):
        return True
    try:
        with torch.device("meta"):
            timm.create_model(name, **ANY_SIZE)
    except Exception:  # it has no such options, or cannot even be built
        return False
    return True


class Taps(nn.Module):
    """Normalized images -> (maps, embedding) for any timm backbone.

    A stage is a stage of maps of a convolutional network, or a block of a transformer, whose patch
    tokens are its maps; class and register tokens are left out.

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
        import timm

        super().__init__()
        self.name = name
        if name.split(".")[0] not in timm.list_models():
            raise LayerError(f"{name!r} is not an architecture of the installed timm.")
        try:
            self.net = _net(name)
        except LayerError:
            raise
        except Exception as error:  # timm's architectures refuse in many ways
            raise LayerError(f"{name} cannot be built: {error!r}") from None
        widths = self.widths_at(size or self._own_size)
        count = len(widths)
        chosen = tuple(range(count)) if chosen is None else chosen
        if outside := [index for index in chosen if not -count <= index < count]:
            raise LayerError(f"{name} has {count} stages; there is no stage {outside[0]}.")
        self.chosen = tuple(sorted({index % count for index in chosen}))
        self.widths = tuple(widths[index] for index in self.chosen)
        self.width = sum(self.widths)

    @property
    def architecture(self) -> dict[str, Any]:
        """What `architecture.build` makes this body of again, JSON-safe."""
        return {"kind": "timm", "name": self.name, "chosen": list(self.chosen)}

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
                if _are_maps(final, self.net.num_features):
                    maps.append(final)
                parts.append(self.net.forward_head(final, pre_logits=True))
        return tuple(maps), torch.cat(parts, 1)

    def _stages(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The final features and the maps of the inner stages, the last LARGEST_TAPS of them."""
        if "efficientnet" in self.name or "mobilenetv3" in self.name:
            # Every block stage instead of one per scale; the last entry repeats the final maps.
            final, inner = self.net.forward_intermediates(images, extra_blocks=True)
            return final, list(inner[1 : 1 + len(self.net.blocks)])
        # Hiera has no norm to put behind an inner stage.
        final, inner = self.net.forward_intermediates(images, norm="hiera" not in self.name)
        return final, list(inner[-LARGEST_TAPS:])

    def widths_at(self, size: tuple[int, int]) -> list[int]:
        """Width of every stage's part of the embedding, from a pass over one black image.

        Raises:
            LayerError: the net cannot take images of this height and width.
        """
        try:
            return self._probe(size)
        except Exception as error:  # timm's architectures refuse in many ways
            raise LayerError(
                f"{self.name} does not work for images of {size[1]} x {size[0]} pixels "
                f"({error!r}). Give another --image-size; its own is {self._own_size[0]}."
            ) from None

    @property
    def _own_size(self) -> tuple[int, int]:
        height, width = self.net.pretrained_cfg["input_size"][1:]
        return height, width

    @torch.inference_mode()
    def _probe(self, size: tuple[int, int]) -> list[int]:
        training = self.net.training
        self.net.eval()
        try:
            final, inner = self._stages(torch.zeros(1, 3, *size))
            embedding = self.net.forward_head(final, pre_logits=True)
        finally:
            self.net.train(training)
        return [*(part.shape[1] for part in inner), embedding.shape[1]]


def _are_maps(final: Any, width: int) -> bool:
    """Whether final features are maps (N, C, H, W), not tokens or several of these."""
    return isinstance(final, torch.Tensor) and final.ndim == 4 and final.shape[1] == width


def _net(name: str) -> Any:
    """The network without its classifier, whose weights would only lie in every saved model."""
    import timm

    if _fixed_size(name):
        with contextlib.suppress(TypeError):  # it has no such options
            return timm.create_model(name, pretrained=False, num_classes=0, **ANY_SIZE)
    return timm.create_model(name, pretrained=False, num_classes=0)


def _fixed_size(name: str) -> bool:
    """Whether timm says that the network takes one size only unless it is made otherwise."""
    import timm

    configuration = timm.get_pretrained_cfg(name)
    return bool(configuration and configuration.fixed_input_size)
