"""Attribution: the heat maps of a model's answers, by the most exact way its network allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from labelwise.attribution.cam import cam
from labelwise.attribution.grad_cam import grad_cam
from labelwise.attribution.occlusion import occlusion
from labelwise.errors import OptionError
from labelwise.model import Model

METHODS = {
    "cam": "class activation map: what every place adds to the logit, exactly",
    "grad-cam": "Grad-CAM: the last maps, weighted by their gradients",
    "occlusion": "what the logit loses when a place is covered",
}
AUTO = "auto"
AT_ONCE = 2**20  # pixels of images in one pass
LARGE, OCCLUDED = 96, 4  # a side in pixels, from which on occlusion takes so few images


@dataclass(frozen=True)
class Attribution:
    """Heat maps.

    Attributes:
        heat: float32 (N, H, W); what is above 0 speaks for the class.
        method: a key of METHODS.
    """

    heat: np.ndarray
    method: str


def attribute(
    model: Model, pixels: torch.Tensor, classes: np.ndarray, method: str = AUTO
) -> Attribution:
    """Where a model looks for a class.

    Args:
        pixels: uint8 (N, C, H, W) at its input size.
        classes: int64 (N,), one per image.
        method: a key of METHODS, or "auto": the first that the network allows.

    Raises:
        OptionError: there is no such method, or the network does not allow it.
        UsageError: the model has no head.
    """
    check_method(method)
    model.require_head()
    each = max(1, AT_ONCE // model.area)
    labels = torch.from_numpy(np.asarray(classes, np.int64))
    pieces, used = [], method
    for start in range(0, len(pixels), each):
        some = slice(start, start + each)
        heat, used = _heat(model, pixels[some], labels[some], used)
        pieces.append(heat)
    whole = torch.cat(pieces) if pieces else torch.zeros(0, *pixels.shape[2:])
    return Attribution(whole.numpy(), used)


def affordable(model: Model, images: int) -> int:
    """How many of some images are explained where nobody asked for it.

    Occlusion is some fifty passes for each: of a network for large images that is a minute.
    """
    if model.area <= LARGE**2:
        return images
    blank = torch.zeros(1, *model.preprocessing.shape, dtype=torch.uint8)
    network, one = model.network.eval(), torch.zeros(1, dtype=torch.int64)
    blank, one = blank.to(network.mean.device), one.to(network.mean.device)
    exact = cam(network, blank, one) is not None or grad_cam(network, blank, one) is not None
    return images if exact else min(images, OCCLUDED)


def check_method(method: str) -> None:
    """Raises OptionError if there is no such method."""
    if method not in (AUTO, *METHODS):
        raise OptionError(f"method={method!r}: expected {AUTO} or one of {', '.join(METHODS)}.")


def _heat(
    model: Model, pixels: torch.Tensor, classes: torch.Tensor, method: str
) -> tuple[torch.Tensor, str]:
    network = model.network.eval()
    device = network.mean.device
    pixels, classes = pixels.to(device), classes.to(device)
    ways = {"cam": cam, "grad-cam": grad_cam, "occlusion": occlusion}
    for name, way in ways.items():
        if method in (AUTO, name) and (found := way(network, pixels, classes)) is not None:
            return found.float().cpu(), name
    raise OptionError(
        f"method={method}: this model's network does not allow it: "
        + (
            "its head is not linear in maps. Use grad-cam, occlusion or auto."
            if method == "cam"
            else "it has no maps. Use occlusion or auto."
        )
    )
