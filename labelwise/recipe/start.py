"""Start: the saved network that a recipe for layers begins from, instead of from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labelwise.data.dataset import Images
from labelwise.data.preprocess import Color, Preprocessing, Resize
from labelwise.errors import OptionError
from labelwise.features import input_of
from labelwise.files import expanded, is_folder
from labelwise.nn.network import Network
from labelwise.transfer import SavedBackbone, find_backbone


@dataclass(frozen=True)
class Start:
    """A saved model made of layers; its head is of no use to another task, all else is."""

    backbone: SavedBackbone

    @property
    def layers(self) -> str:
        """The layers before the head, as text."""
        return str(self.backbone.model.architecture["layers"])

    @property
    def origin(self) -> dict[str, Any]:
        """What a model's record says about it: all of it learns on."""
        return {**self.backbone.origin, "frozen": False}

    def input(
        self,
        images: Images,
        *,
        image_size: int | None,
        color: Color | None,
        resize: Resize | None,
    ) -> Preprocessing:
        """How images become its input: as those did that it learned from.

        Args:
            image_size, color, resize: None where left open; only resize may be another.

        Raises:
            OptionError: the size or color contradicts.
        """
        own = self.backbone.preprocessing.color
        if color not in (None, own):
            raise OptionError(
                f"--color {color}: the backbone {self.backbone.name!r} was trained on {own} "
                "images. Leave the option out."
            )
        return input_of(self.backbone, images, image_size=image_size, resize=resize)

    def fill(self, network: Network) -> None:
        """Copy its weights and its batch-norm statistics into a network of the same layers."""
        network.body.load_state_dict(self.backbone.model.network.body.state_dict())


def find_start(name: str) -> Start:
    """The start in the folder of a saved model or of a run.

    Raises:
        OptionError: what the name stands for is not made of layers.
        BundleError: the folder holds no model, or a damaged one.
    """
    if (start := start_or_none(name)) is not None:
        return start
    what = (
        "holds a pretrained network with a new head, which is not made of layers"
        if is_folder(expanded(name))
        else "is not the folder of a saved model"
    )
    raise OptionError(
        f"cnn(backbone={name}): this {what}. cnn begins from what cnn or mlp has trained: give "
        "the folder of such a model, or of its run. A pretrained network is for probe."
    )


def start_or_none(name: str) -> Start | None:
    """The same; None where the name stands for something else than a model made of layers.

    Raises:
        BundleError: the folder holds no model, or a damaged one.
    """
    backbone = find_backbone(name) if name and is_folder(expanded(name)) else None
    if isinstance(backbone, SavedBackbone) and _is_of_layers(backbone):
        return Start(backbone)
    return None


def _is_of_layers(backbone: SavedBackbone) -> bool:
    architecture = backbone.model.architecture
    return architecture["kind"] == "layers" and not architecture.get("project")
