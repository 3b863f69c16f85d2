"""Recipe `vae`: a variational autoencoder on all images, a classifier on its mean code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from labelwise.data.preprocess import Preprocessing
from labelwise.errors import OptionError
from labelwise.nn.coding import Coder
from labelwise.nn.network import Network
from labelwise.nn.variational import Variational
from labelwise.recipe.base import option
from labelwise.recipe.codes import TwoSteps
from labelwise.recipe.ranges import choices


@dataclass(frozen=True)
class Vae(TwoSteps):
    """A variational autoencoder learns the codes of all images (Kingma and Welling 2014,
    arXiv:1312.6114); a logistic regression is learned on the mean codes of the labeled ones.

    New images can be drawn from it. Without any label the model has no head: it embeds.
    """

    name: ClassVar[str] = "vae"
    regime: ClassVar[str] = "variational autoencoder on all images, classifier on its mean code"
    rank: ClassVar[int] = 4

    latent: int = option(32, "entries of the code", search=choices(8, 16, 32, 64, 128))

    def __post_init__(self) -> None:
        if not 1 <= self.latent <= 65_536:
            raise OptionError(f"vae(latent={self.latent}): must be from 1 to 65536.")
        super().__post_init__()

    @property
    def body(self) -> str:
        return f"{super().body}, dense {self.latent}"

    def _architecture(
        self, preprocessing: Preprocessing, scaling: Mapping[str, list[float]]
    ) -> dict[str, Any]:
        return {**super()._architecture(preprocessing, scaling), "prior": "normal"}

    def _coder(self, network: Network) -> Coder:
        return Variational(network).to(network.mean.device)
