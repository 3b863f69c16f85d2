"""What timm, or the folder of a timm model, says about weights: scaling, size, license, places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Field

from labelwise.errors import BackboneError
from labelwise.foreign import Deviations, Means, brief, first_problem

UNSTATED = "not stated"
# Words of licenses under which nothing may be sold that is built on the weights.
NON_COMMERCIAL = (
    "cc-by-nc",
    "non-commercial",
    "noncommercial",
    "research",
    "apple-amlr",  # Apple Machine Learning Research Model License
    "seer-license",
)


class Configuration(pydantic.BaseModel):
    """What is used of timm's description of weights; all else in it is ignored, URLs included.

    Mean and deviation have no default: a wrong guess costs points and no error says so.
    """

    license: Annotated[str, Field(max_length=1000)] | None = None
    mean: Annotated[Means, Field(min_length=3)]
    std: Annotated[Deviations, Field(min_length=3)]
    input_size: tuple[int, int, Annotated[int, Field(ge=16, le=2048)]] = (3, 224, 224)

    @property
    def terms(self) -> str:
        """The license in words."""
        return self.license or UNSTATED

    @property
    def non_commercial(self) -> bool:
        """Whether the license forbids commercial use."""
        return any(word in self.terms.lower() for word in NON_COMMERCIAL)


def known_values(timm_name: str) -> dict[str, Any]:
    """What timm knows about an architecture's weights; of no tag, about its default ones.

    Raises:
        BackboneError: the installed timm has no such architecture, or no such tag of it.
    """
    import timm

    if timm_name.split(".")[0] not in timm.list_models():
        raise BackboneError(
            f"'{brief(timm_name)}' is not an architecture of the installed timm. See "
            "timm.list_models(), or install a newer timm."
        )
    try:
        configuration = timm.get_pretrained_cfg(timm_name)
    except RuntimeError as error:  # there is no such tag
        raise BackboneError(f"{timm_name!r}: {error}") from None
    # As a list of lists of plain values, like those of a folder's config.json.
    values = configuration.to_dict() if configuration else {}  # type: ignore[no-untyped-call]
    return {**values, **{n: list(values[n]) for n in ("mean", "std") if values.get(n) is not None}}


def configuration_of(name: str, values: Mapping[str, Any]) -> Configuration:
    """The checked configuration of weights.

    Raises:
        BackboneError: a value is missing or no such value; names it.
    """
    try:
        return Configuration.model_validate(values)
    except pydantic.ValidationError as error:
        raise BackboneError(f"{name!r}: its pretrained_cfg: {first_problem(error)}.") from None


def require_commercial(name: str, configuration: Configuration) -> None:
    """Refuse weights for non-commercial use that were not named by their own file or folder.

    Raises:
        BackboneError: says how to name them.
    """
    if configuration.non_commercial:
        raise BackboneError(
            f"The weights of {name!r} are for non-commercial use only ({configuration.terms}). If "
            f"that suits you, name their file or folder yourself: {name}@FILE.safetensors or "
            "timm:FOLDER."
        )
