"""Description: what model.json says, and the seal that shows whether it is as it was saved.

The last line of the file but the bracket is `"sha256": "..."`, the SHA-256 of all bytes before the
comma in front of it. Every format from 2 on ends so; format 1 had no seal and stays readable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, Field

from labelwise import __version__
from labelwise.foreign import LARGEST_JSON, Deviations, Means, brief, first_problem, read_document
from labelwise.measure.temperature import COLDEST, HOTTEST

FORMAT = 2
DEEPEST = 16  # levels of a free-form record
LARGEST_WEIGHTS = 8 * 2**30  # bytes
LARGEST_SIDE = 2048  # pixels; as in the recipes
MOST_MEMBERS = 64  # of an ensemble
# Entries of the free-form records that are used, not only shown.
OF_RECIPE: dict[str, type] = {"name": str}
OF_FACTS: dict[str, type] = {"labels": str, "data": dict, "backbone": dict}


def _typed(values: dict[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    for name, kind in kinds.items():
        if not isinstance(values.get(name, kind()), kind):
            raise ValueError(f"{name!r} is not a {kind.__name__}")
    return values


def _shallow(values: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        held = (v.values() if isinstance(v, dict) else v for v in level)
        level = [item for items in held for item in items if isinstance(item, dict | list)]
    if level:
        raise ValueError(f"has more than {DEEPEST} levels")
    return values


#: free-form, but no deeper than its readers can walk
_Record = Annotated[dict[str, Any], AfterValidator(_shallow)]


def _views(text: str) -> str:
    from labelwise.nn.views import parse_views

    parse_views(text)
    return text


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


_Size = Annotated[int, Field(ge=1, le=65_536)]


class _Body(_Strict):
    """What every kind of architecture has."""

    mean: Means
    std: Deviations
    project: _Size | None = None
    neighbors: _Size | None = None
    bank: _Size | None = None


class _Layers(_Body):
    kind: Literal["layers"]
    layers: Annotated[str, Field(max_length=10_000)]
    views: Annotated[str, Field(max_length=100), AfterValidator(_views)] = ""
    hidden: Annotated[list[_Size], Field(max_length=16)] = []
    decoder: Annotated[str, Field(max_length=10_000)] = ""
    prior: Literal["", "normal"] = ""


class _Timm(_Body):
    kind: Literal["timm"]
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)?$", max_length=200)]
    chosen: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=64)]


class _Centroids(_Body):
    kind: Literal["centroids"]
    count: _Size
    side: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class _Member(_Strict):
    architecture: Annotated[_Layers | _Timm | _Centroids, Field(discriminator="kind")]
    height: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    width: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    color: Literal["rgb", "gray"]
    weight: Annotated[float, Field(gt=0, le=1)]
    temperature: Annotated[float, Field(ge=COLDEST, le=HOTTEST)]


class _Ensemble(_Strict):
    kind: Literal["ensemble"]
    mean: Means
    std: Deviations
    members: Annotated[list[_Member], Field(min_length=1, max_length=MOST_MEMBERS)]

    @pydantic.model_validator(mode="after")
    def _sound(self) -> _Ensemble:
        if abs(sum(member.weight for member in self.members) - 1) > 1e-6:
            raise ValueError("the weights of the members must have the sum 1")
        for member in self.members:
            _check_channels(member.architecture, member.color)
        return self


def _check_channels(architecture: _Body | _Ensemble, color: str) -> None:
    # A network of three channels takes a gray image as three equal ones.
    allowed = {3} if color == "rgb" else {1, 3}
    mean, std = len(architecture.mean), len(architecture.std)
    if mean != std or mean not in allowed:
        raise ValueError("mean and std must have a value for each channel of the images")


_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Scale(_Strict):
    mean: _Finite
    deviation: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Novelty(_Strict):
    energy: _Scale
    distance: _Scale
    thresholds: dict[Literal["0.1", "0.05", "0.02", "0.01"], _Finite]


_Coverage = Literal["0.8", "0.9", "0.95", "0.98", "0.99"]
_Limits = Annotated[list[_Finite], Field(min_length=1, max_length=100_000)]


class _Sets(_Strict):
    lac: dict[_Coverage, _Limits]
    aps: dict[_Coverage, _Limits]
    raps: dict[_Coverage, _Limits]
    per_class: dict[_Coverage, _Limits] = Field(alias="per-class")


class _Calibration(_Strict):
    temperature: Annotated[float, Field(ge=COLDEST, le=HOTTEST)]
    sets: _Sets
    answers: dict[Literal["0.1", "0.05", "0.02", "0.01"], _Finite]
    count: Annotated[int, Field(ge=0)]


class _Preprocessing(_Strict):
    height: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    width: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    color: Literal["rgb", "gray"]
    resize: Literal["crop", "squash", "pad"]


class Weights(_Strict):
    """Of weights.safetensors."""

    bytes: Annotated[int, Field(ge=0, le=LARGEST_WEIGHTS)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Description(_Strict):
    """model.json, format 1 or 2."""

    format: Annotated[int, Field(ge=1, le=FORMAT)]
    labelwise: Annotated[str, Field(max_length=100)]
    class_names: Annotated[list[str], Field(max_length=100_000)]  # none: without a head
    preprocessing: _Preprocessing
    architecture: Annotated[_Layers | _Timm | _Centroids | _Ensemble, Field(discriminator="kind")]
    recipe: Annotated[_Record, AfterValidator(lambda values: _typed(values, OF_RECIPE))]
    calibration: _Calibration | None = None
    unknown_threshold: _Novelty | None = None
    facts: Annotated[_Record, AfterValidator(lambda values: _typed(values, OF_FACTS))]
    weights: Weights

    @pydantic.field_validator("class_names")
    @classmethod
    def _names(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        "".join(names).encode()  # half a surrogate pair could be neither printed nor written
        return names

    @pydantic.model_validator(mode="after")
    def _limits(self) -> Description:
        if self.calibration is None:
            return self
        for method, of in self.calibration.sets.model_dump(by_alias=True).items():
            expected = len(self.class_names) if method == "per-class" else 1
            if any(len(limits) != expected for limits in of.values()):
                raise ValueError(f"sets {method!r} must have {expected} limits")
        return self

    @pydantic.model_validator(mode="after")
    def _channels(self) -> Description:
        _check_channels(self.architecture, self.preprocessing.color)
        return self

    @pydantic.model_validator(mode="after")
    def _answers(self) -> Description:
        if self.architecture.kind == "ensemble" and not self.class_names:
            raise ValueError("an ensemble must have classes")
        return self


def to_bytes(values: Mapping[str, Any]) -> bytes:
    """The content of model.json, sealed.

    Raises:
        ValueError: `from_bytes` would not read it back.
    """
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    head = text.removesuffix("\n}").encode("utf-8", "backslashreplace")
    data = head + _seal(head)
    from_bytes(data)
    return data


def from_bytes(data: bytes) -> Description:
    """What model.json says.

    Raises:
        ValueError: damaged, too new, or not a description; says which.
    """
    if len(data) > LARGEST_JSON:
        raise ValueError(f"has {len(data)} bytes; expected {LARGEST_JSON} at most.")
    head = data[: -len(_seal(b""))]
    sealed = data == head + _seal(head)
    values = _document(head + b"\n}" if sealed else data, sealed)
    version = values.get("format") if isinstance(values, dict) else None
    if version != 1 and not sealed:
        raise ValueError(_UNSEALED)
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(
            f"has format {brief(version)}; this labelwise {__version__} reads up to {FORMAT}. "
            "Install a newer labelwise."
        )
    try:
        return Description.model_validate(values)
    except pydantic.ValidationError as error:
        raise ValueError(f"is not of a saved model: {first_problem(error)}.") from None


_UNSEALED = (
    "does not have the SHA-256 that its last line gives: damaged, changed by hand, or not of a "
    "saved model. Take it from a copy, or save the model again."
)


def _document(data: bytes, sealed: bool) -> Any:
    try:
        return read_document(data)
    except ValueError:
        if sealed:
            raise
        raise ValueError(_UNSEALED) from None


def _seal(head: bytes) -> bytes:
    return f',\n "sha256": "{hashlib.sha256(head).hexdigest()}"\n}}\n'.encode()
