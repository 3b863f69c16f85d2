"""Architecture: the description in model.json becomes a network again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from labelwise.data.preprocess import channels_of

if TYPE_CHECKING:
    import torch

    from labelwise.nn.network import Body, Network


def build(
    architecture: Mapping[str, Any],
    classes: int | None,
    input_shape: tuple[int, int, int],
    body: torch.nn.Module | None = None,
) -> Network:
    """A network with the shapes an architecture says and weights that mean nothing yet.

    Args:
        architecture: {"kind": "layers", "layers": text} or {"kind": "timm", "name": ...,
            "chosen": [...]}, both with "mean" and "std": one per channel of the network. Layers may
            have "views", "hidden" (units of a deep head) and a "decoder" (text), and with it
            "prior": "normal" if the codes were trained to be distributed so. The third kind is
            {"kind": "centroids", "count": K, "side": of a patch}. All of these may have "project"
            (the size of the embedding, see `Projected`), "neighbors" (how many a `NeighborHead`
            holds), and "bank" (how many images a `Bank` does). The fourth is {"kind": "ensemble",
            "members": [...]}, each with "architecture", "height", "width", "color", "weight" and
            "temperature", see `Mixture`.
        classes: K, or None without a head.
        input_shape: (C, H, W); a network of three channels takes a gray image as three equal ones.
        body: of that architecture, if there is one; it is taken as it is, with its weights.

    Raises:
        LayerError: the layers do not fit the input, or ask for too much.
        KeyError, ValueError: the description is not one this version knows.
    """
    from labelwise.nn.bank import Bank
    from labelwise.nn.centroids import Centroids
    from labelwise.nn.decoder import Decoder
    from labelwise.nn.layers import Stack
    from labelwise.nn.neighbor_head import NeighborHead
    from labelwise.nn.network import Network
    from labelwise.nn.projected import Projected
    from labelwise.nn.taps import Taps

    if architecture["kind"] == "ensemble":
        assert classes is not None
        return _ensemble(architecture, classes)
    height, width = input_shape[1:]
    image = (len(architecture["mean"]), height, width)
    made: torch.nn.Module
    decoder: Decoder | None = None
    if body is not None:
        made = body
    elif architecture["kind"] == "layers":
        made = stack = Stack(architecture["layers"], image)
        if architecture.get("decoder"):
            decoder = Decoder(architecture["decoder"], stack.shapes[-1], image)
    elif architecture["kind"] == "timm":
        made = Taps(architecture["name"], tuple(architecture["chosen"]), (height, width))
    elif architecture["kind"] == "centroids":
        made = Centroids(architecture["count"], architecture["side"], image)
    else:
        raise ValueError(f"{architecture['kind']!r} is not a kind of architecture")
    if body is None and architecture.get("project"):
        made = Projected(made, architecture["project"])
    network = Network(
        made,
        classes,
        mean=architecture["mean"],
        std=architecture["std"],
        views=architecture.get("views", ""),
        hidden=architecture.get("hidden", ()),
        decoder=decoder,
    )
    if classes and architecture.get("neighbors"):
        width = cast("Body", made).width
        network.head = NeighborHead(width, architecture["neighbors"], classes)
    if architecture.get("bank"):
        network.bank = Bank(architecture["bank"], cast("Body", made).widths[-1])
    return network


def _ensemble(architecture: Mapping[str, Any], classes: int) -> Network:
    from labelwise.nn.mixture import Mixture, MixtureBank, MixtureHead
    from labelwise.nn.network import Network

    members = architecture["members"]
    shapes = [(channels_of(m["color"]), m["height"], m["width"]) for m in members]
    parts = [
        build(member["architecture"], classes, shape)
        for member, shape in zip(members, shapes, strict=True)
    ]
    weights = [member["weight"] for member in members]
    temperatures = [member["temperature"] for member in members]
    body = Mixture(parts, shapes, temperatures, classes)
    network = Network(body, None, mean=architecture["mean"], std=architecture["std"])
    network.head = cast("torch.nn.Linear", MixtureHead(weights, classes))  # used like one
    network.bank = MixtureBank(weights)
    return network
