"""Recipe: a training regime. Its fields are its hyperparameters; its one method is `fit`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from labelwise.data.dataset import Images
from labelwise.errors import NO_LABELED, TrainingError
from labelwise.model import Model
from labelwise.recipe.ranges import Parts, Range

EVERY_FIT = 0.7  # seconds around a fit that do not depend on its images, mostly files, at most


def option(default: Any, help: str, search: Range | Parts | None = None) -> Any:
    """A hyperparameter with its meaning, which `labelwise recipes NAME` shows.

    Args:
        search: where `labelwise tune` looks for a value unless told otherwise; None: it does not.
    """
    return field(default=default, metadata={"help": help, "search": search})


@dataclass(frozen=True)
class Task:
    """What a recipe learns from.

    Attributes:
        images, labels: N images and their classes, int64 (N,), 0..K-1, UNLABELED = -1.
        class_names: of all K classes, also those without an image here; empty if the data has no
            label at all.
        validation: images and labels to decide on, or None: then everything is fixed by rule.
        checkpoint: file for an unfinished fit, from which a later one of the same task goes on;
            None keeps nothing.
        weights: of the labeled images in the loss, float32 (N,), in (0, 1]; None: all 1. Only for
            recipes that say that they weigh.
        pseudo: whose labels are guesses: they are learned from and decide nothing; bool (N,), None:
            nobody's.
    """

    images: Images
    labels: np.ndarray
    class_names: tuple[str, ...]
    validation: tuple[Images, np.ndarray] | None = None
    checkpoint: Path | None = None
    weights: np.ndarray | None = None
    pseudo: np.ndarray | None = None

    @property
    def labeled(self) -> np.ndarray:
        """Positions of the labeled images."""
        return np.flatnonzero(self.labels >= 0)


def require_labels(task: Task) -> None:
    """Refuse a task that nothing can be learned from.

    Raises:
        TrainingError: no image has a label.
    """
    if not len(task.labeled):
        raise TrainingError(NO_LABELED)


def without_validation(task: Task) -> Task:
    """The task with its validation part among the images to learn from, behind the others."""
    if task.validation is None:
        return task
    images, labels = task.validation

    def longer(values: np.ndarray | None, filler: float) -> np.ndarray | None:
        if values is None:
            return None
        return np.concatenate([values, np.full(len(labels), filler, values.dtype)])

    return dataclasses.replace(
        task,
        images=Images.join(task.images, images),
        labels=np.concatenate([task.labels, labels]),
        validation=None,
        weights=longer(task.weights, 1),
        pseudo=longer(task.pseudo, 0),
    )


def _nothing(done: float, note: str) -> None:
    return


def _unseen(record: Mapping[str, Any]) -> None:
    return


@dataclass(frozen=True)
class Context:
    """Where and how to compute; never changes what is learned, but for the seed.

    Attributes:
        seed: of everything random.
        device: torch device.
        advance: told the fraction of the fit that is done, in [0, 1], and what is going on.
        observe: shown the record of every epoch when it ends; may raise to give the fit up.
        timing: seconds that one timing of training steps takes, about, when costs are measured.
    """

    seed: int = 0
    device: str = "cpu"
    advance: Callable[[float, str], None] = _nothing
    observe: Callable[[Mapping[str, Any]], None] = _unseen
    timing: float = 0.15

    @property
    def quiet(self) -> Context:
        """For a fit inside of another, whose progress nobody is to see."""
        return dataclasses.replace(self, advance=_nothing)

    def part(self, start: float, end: float) -> Context:
        """For a part of a fit, which goes from one fraction of it to another."""

        def advance(done: float, note: str) -> None:
            self.advance(start + (end - start) * done, note)

        return dataclasses.replace(self, advance=advance)


@dataclass(frozen=True)
class PseudoLabels:
    """Labels that a recipe gave to images without one, for people to look at.

    Attributes:
        rows: of the data set, each once; int64 (M,).
        labels: int64 (M,), 0..K-1.
        confidence: float32 (M,), in (0, 1].
    """

    rows: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """The result of a fit.

    Attributes:
        model: answers for all K classes; without a head where there are none.
        history: a record per epoch (or per value tried), columns as in history.parquet.
        chosen: what was decided on validation or inner folds, JSON-safe; `Recipe.settled` uses it.
        seconds: time that this fit took.
        stages: models on the way to this one, by name; kept beside it where all models are.
        pseudo: labels that were given to images without one on the way to the model, those that it
            learned from last; empty where none were given.
    """

    model: Model
    history: list[dict[str, Any]]
    chosen: Mapping[str, Any]
    seconds: float
    stages: Mapping[str, Model] = field(default_factory=dict)
    pseudo: tuple[PseudoLabels, ...] = ()


@dataclass(frozen=True)
class Cost:
    """Measured seconds.

    Attributes:
        once: for all fits together, if they read every labeled image of the data; every image if
            `everything`.
        fit: for one fit of the task that was measured.
        epoch: for an epoch of it that leaves no image out, before validation.
        fixed: what of an epoch a fit of fewer images takes as well.
        validate: for an image of the validation part, after every epoch.
        answer: for an image that a fitted model answers for.
        everything: whether a fit learns from images without a label as well; its seconds then do
            not depend on the number of labels.
    """

    once: float = 0.0
    fit: float = 0.0
    epoch: float = 0.0
    fixed: float = 0.0
    validate: float = 0.0
    answer: float = 0.0
    everything: bool = False


@dataclass(frozen=True)
class Twin:
    """What a recipe is judged beside: itself without the one thing that sets it apart.

    Attributes:
        recipe: the twin.
        word: what the twin is, behind the variant's name: NAME-untrained.
        gain: what the twin does without, as in "the trained start".
    """

    recipe: Recipe
    word: str
    gain: str


@dataclass(frozen=True)
class Recipe(ABC):
    """A training regime; a frozen dataclass whose fields are the hyperparameters.

    Class attributes:
        name: as on the command line.
        regime: one line for lists.
        rank: declared cost of using the model and of making it, low is cheap; breaks ties between
            equally good variants, so that a recommendation never depends on measured seconds.
        uses_unlabeled: whether images without a label are of use to it.
        needs_labels: whether it needs any label at all; without one, its model has no head.
        weighs: whether it honors `Task.weights`.
        embeds: whether it is made for its embedding, which trials then judge.
        joint: whether `fit_many` shares numerical work between its tasks, so that the last digits
            of a fit depend on the others; a resumed run then fits them together again.
    """

    name: ClassVar[str]
    regime: ClassVar[str]
    rank: ClassVar[int]
    uses_unlabeled: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = True
    weighs: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    joint: ClassVar[bool] = False

    @abstractmethod
    def fit(self, task: Task, context: Context) -> Fitted:
        """Learn from a task.

        Raises:
            TrainingError: there is nothing to learn from, or the loss is not a number.
        """

    def fit_many(self, tasks: Sequence[Task], context: Context) -> Iterator[Fitted]:
        """Learn from several tasks, in order; a recipe that can share work between them may."""
        for number, task in enumerate(tasks):
            yield self.fit(task, context.part(number / len(tasks), (number + 1) / len(tasks)))

    @abstractmethod
    def cost(self, task: Task, context: Context) -> Cost:
        """Measure, within about a second, what fitting `task` would take."""

    def unsuited(self, images: Images) -> str | None:
        """Why the recipe is not worth running on such images unless asked for; None if it is."""
        return None

    def sizes(self, task: Task) -> Sequence[Self]:
        """The recipe with its open sizes filled in, one for each choice, cheapest first."""
        return (self,)

    def enough_passes(self, task: Task) -> float:
        """Passes over the images that it should get before a larger size is worth its seconds."""
        return 0.0

    def planned(self, passes: float) -> Self:
        """The recipe with epochs that come to so many passes, if their number was left open."""
        return self

    @property
    def open_epochs(self) -> int | None:
        """The most epochs to plan for, if the number was left open; None if it is given."""
        return None

    @property
    def decides_on_validation(self) -> bool:
        """Whether a fit takes something from a validation part that `settled` fixes for good."""
        return False

    def settled(self, chosen: Sequence[Mapping[str, Any]]) -> Recipe:
        """The recipe of the final fit: what the folds decided is fixed in it."""
        return self

    def pinned(self, chosen: Mapping[str, Any]) -> Recipe:
        """The recipe with what a fit decided, for more fits of the same images."""
        return self.settled([chosen])

    def remark(self, chosen: Sequence[Mapping[str, Any]]) -> str | None:
        """What the user should know of the folds' decisions, in a sentence; usually nothing."""
        return None

    @property
    def twin(self) -> Twin | None:
        """What a comparison reports it beside; None if nothing sets it apart."""
        return None

    def searchable(self, field: str) -> bool:
        """Whether `labelwise tune` may vary a field that declares a range."""
        return True

    @classmethod
    def is_meant(cls, field: str, value: Any, given: Collection[str]) -> bool:
        """Whether an option for all recipes is meant for a field of this one.

        Args:
            given: fields that the variant gives itself.
        """
        return True

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the backbones that it builds on, or that recipes inside of it do."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        inner = [name for v in values.values() if isinstance(v, Recipe) for name in v.backbones]
        own = [values["backbone"]] if isinstance(values.get("backbone"), str) else []
        return (*own, *inner)

    @property
    def configuration(self) -> dict[str, Any]:
        """Name and fields, JSON-safe."""
        values: dict[str, Any] = {"name": self.name}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Recipe):
                value = value.configuration
            values[item.name] = list(value) if isinstance(value, tuple) else value
        return values
