"""Settings: every option of a run, checked once, recorded in run.json."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field, field_validator

from labelwise.data.split import LabelCount, parse_labels
from labelwise.errors import OptionError

_UNITS = {"s": 1, "m": 60, "h": 3600}


class CommonSettings(pydantic.BaseModel):
    """What any run was asked to do. Fields have the names of the command line's options.

    Attributes:
        labels: numbers of labels, as in "all", "40", "1,4,25/class".
        folds: None for the rule (5; one held-out part above 5,000 labeled images).
        test: share of the labeled images to seal away; None: no test part, or a given one.
        set: "variant.field=value" each.
        budget: time that the run may take, as in "90s", "10m", "2h".
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    target: str | None = Field(None, description="the name of a column")
    labels: str = Field("all", description="numbers of labels, such as 40 or '1,4,25/class'")
    folds: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="a whole number from 1 to 1000"
    )
    repeats: int = Field(1, ge=1, le=1000, description="a whole number from 1 to 1000")
    test: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="a fraction above 0 and below 1, such as 0.2"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="a whole number from 0 to 2147483647")
    metric: str = Field("accuracy", description="the name of a metric")
    backbone: str | None = Field(None, description="the name of a backbone or a folder")
    image_size: Annotated[int, Field(ge=4, le=2048)] | None = Field(
        None, description="pixels a side, a whole number from 4 to 2048"
    )
    color: Literal["rgb", "gray"] | None = Field(None, description="rgb or gray")
    resize: Literal["crop", "squash", "pad"] | None = Field(None, description="crop, squash or pad")
    seen_classes: str | None = Field(None, description="names of classes, as in 'cat, dog'")
    set: tuple[str, ...] = Field((), description="texts such as 'cnn.epochs=5'")
    budget: str = Field("10m", description="a time such as 90s, 10m or 2h")
    device: str = Field("auto", description="auto, cpu, mps, cuda or cuda:N")

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: str) -> str:
        parse_labels(value)
        return value

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        seconds(value)
        return value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise OptionError(f"--device {value!r}: expected auto, cpu, mps, cuda or cuda:N.")
        return value

    @field_validator("metric")
    @classmethod
    def _metric(cls, value: str) -> str:
        from labelwise.measure.metrics import check_metric

        check_metric(value)
        return value

    @property
    def label_counts(self) -> tuple[LabelCount, ...]:
        """The numbers of labels."""
        return parse_labels(self.labels)

    @property
    def recipe_fields(self) -> dict[str, Any]:
        """The given options that are fields of recipes, for those that do not say their own."""
        names = ("backbone", "image_size", "color", "resize", "seen_classes")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def budget_seconds(self) -> float:
        """The time budget in seconds."""
        return seconds(self.budget)


class Settings(CommonSettings):
    """What `compare` and `train` were asked to do.

    Attributes:
        recipes: variants to compare; None for those that fit data, machine and budget.
        save_models: "recommended", or "all" final fits.
        ensemble: whether a weighted mean of all variants is compared as well.
    """

    recipes: tuple[str, ...] | None = Field(None, description="names of recipes")
    save_models: Literal["recommended", "all"] = Field(
        "recommended", description="recommended or all"
    )
    ensemble: bool = Field(False, description="true or false")


class TuneSettings(CommonSettings):
    """What `tune` was asked to do; `set` is "field=value" each.

    Attributes:
        recipe: the variant to begin with, as text; None if it was given as a value.
        trials: at most so many.
        search: "field=low..high" or "field=a|b" each, instead of the declared ranges.
    """

    recipe: str | None = Field(None, description="the text of a recipe")
    trials: int = Field(40, ge=1, le=10_000, description="a whole number from 1 to 10000")
    search: tuple[str, ...] = Field((), description="texts such as 'lr=1e-4..1e-2'")

    @field_validator("labels")
    @classmethod
    def _one_number(cls, value: str) -> str:
        if len(parse_labels(value)) > 1:
            raise OptionError(f"--labels {value!r}: a search has one number of labels. Give one.")
        return value


S = TypeVar("S", bound=CommonSettings)


def settings_of(kind: type[S], given: Mapping[str, Any]) -> S:
    """Settings from options; those that are None take their default.

    Raises:
        OptionError: names the option, its value and what was expected.
    """
    values = {name: value for name, value in given.items() if value is not None}
    for name in ("recipes", "set", "search"):
        if isinstance(values.get(name), str):
            values[name] = (values[name],)
        elif isinstance(values.get(name), Iterable):
            values[name] = tuple(values[name])
    for name in ("labels", "budget"):
        if isinstance(values.get(name), int | float):
            values[name] = f"{values[name]}{'s' if name == 'budget' else ''}"
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "options"
        if first["type"] == "extra_forbidden":
            known = ", ".join(option_name(field) for field in kind.model_fields)
            raise OptionError(f"there is no option {name!r}. There are {known}.") from None
        if isinstance(refused := first.get("ctx", {}).get("error"), OptionError):
            raise refused from None
        raise OptionError(
            f"{option_name(name)} {_as_given(first['input'])}: expected "
            f"{kind.model_fields[name].description}."
        ) from None


def read_config(file: Path, known: Collection[str]) -> dict[str, Any]:
    """Options from a TOML file; their names as on the command line, with - or _.

    Args:
        known: names of the options that can be given so.

    Raises:
        OptionError: the file cannot be read, is not TOML, or holds something else.
    """
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise OptionError(f"--config {file}: cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"--config {file} is not TOML: {error}.") from None
    options = {name.replace("-", "_"): value for name, value in values.items()}
    for name, value in options.items():
        if name not in known:
            raise OptionError(
                f"--config {file}: {name!r} is not an option that a file can give. "
                f"There are {', '.join(known)}."
            )
        flag = isinstance(value, bool) and name == "ensemble"
        if isinstance(value, bool | dict) and not flag:
            raise OptionError(
                f"--config {file}: {name} = {value!r} is not a value for this option."
            )
    return options


def seconds(text: str) -> float:
    """Read a time: "90s", "10m", "2h", "1.5h"; a number alone is seconds.

    Raises:
        OptionError: not a positive time.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    value = float(match[1]) * _UNITS.get(match[2], 1) if match else 0.0
    if not 0 < value < math.inf:
        raise OptionError(f"--budget {text!r}: expected a time such as 90s, 10m or 2h.")
    return value


def _as_given(value: object) -> str:
    """A value as it was written: a number is not put in quotes for coming from a command line."""
    number = isinstance(value, str) and re.fullmatch(r"[-+]?\d[\d.e+-]*", value, re.ASCII)
    return str(value) if number else repr(value)


def option_name(field: str) -> str:
    """image_size -> --image-size"""
    return "--" + field.replace("_", "-")
