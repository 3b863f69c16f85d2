"""Recipe `fixmatch`: unlabeled images keep their class when they are changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from labelwise.data.dataset import UNLABELED
from labelwise.data.preprocess import Color
from labelwise.errors import OptionError
from labelwise.model import Model
from labelwise.nn.augment import parse_augmentation
from labelwise.nn.consistency import Align, Consistency, steps_of
from labelwise.nn.language import parse_layers
from labelwise.nn.looks import PixelLooks
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, evaluate, head_of
from labelwise.recipe.base import (
    Context,
    Cost,
    Fitted,
    PseudoLabels,
    Task,
    Twin,
    option,
)
from labelwise.recipe.beside import Beside
from labelwise.recipe.cnn import PRESETS as NETS
from labelwise.recipe.frozen import FrozenFit
from labelwise.recipe.on_frozen import BACKBONE, FROZEN, OnFrozen
from labelwise.recipe.reading import color_of
from labelwise.recipe.scratch import FromScratch

MODERN = "fast"  # the preset where only layers are given
LONGER = 4.0  # from scratch, than with labels: the first pseudo-labels are often wrong
PASSES, MOST_PASSES = 8.0, 20  # over the pool, that a frozen network's head should and may get
SHOWN = 1_000  # unlabeled images whose pseudo-labels are kept to look at, at most
STRONGLY = "randaugment 2 5"  # and a square of a third of the side

# What learning from a pool takes, whatever the network.
_POOL: Mapping[str, Any] = {
    "batch": 32,
    "epochs": None,
    "least_steps": 20,
    "patience": 0,
    "smoothing": 0.0,
    "average": 0.99,
    "augment": "crop 2",
    "mirror": "color",
}
PRESETS: dict[str, dict[str, Any]] = {
    FROZEN: {
        "optimizer": "adam",
        "lr": 3e-3,
        "decay": "cosine",
        "scale": "standard",
        "resize": None,
        **_POOL,
        "augment": "crop 8",
    },
    **{name: {**values, **_POOL} for name, values in NETS.items()},
}


@dataclass(frozen=True)
class FixMatch(OnFrozen, Beside):
    """Consistency between weak and strong changes of unlabeled images (FixMatch,
    arXiv:2001.07685), with soft weights by confidence (SoftMatch, arXiv:2301.10921), aligned shares
    of the classes and a moving average of the weights.

    Unless a preset or layers of `cnn` are given, a linear head learns on embeddings of several
    views by a frozen network, beginning with the head of `probe`. With them, a network learns from
    scratch, which is meant for small images unlike photos, such as digits.

    Where a paired test on the validation part does not say that it is better than its supervised
    twin, the twin is the result.
    """

    name: ClassVar[str] = "fixmatch"
    regime: ClassVar[str] = "unlabeled images keep their class when they are changed"
    rank: ClassVar[int] = 6
    presets: ClassVar = PRESETS

    preset: str = option(FROZEN, "where the other fields' values come from")
    backbone: str | None = option(
        None,
        f"pretrained network that stays as it is; left open: {BACKBONE}, or none with a preset or "
        "layers of cnn",
    )
    ratio: int = option(7, "unlabeled images per labeled one in a step")
    strong: str | None = option(
        None, f'strong change of images; left open: "{STRONGLY}, cutout" of a third of the side'
    )
    looks: int = option(2, "strong views of every image that a frozen network embeds")
    strength: float = option(3.0, "of the pseudo-labels' loss; 0: labels only")
    align: Align = option(
        "labels", "shares of the classes in the pool: those of the labels, uniform, or none known"
    )

    def __post_init__(self) -> None:
        if self.layers is not None and self.preset == FROZEN:
            object.__setattr__(self, "preset", MODERN)
        if self.preset != FROZEN:
            self.refuse_backbone("layers" if self.layers is not None else f"preset={self.preset}")
        elif self.backbone is None:
            object.__setattr__(self, "backbone", BACKBONE)
        super().__post_init__()
        for name in ("ratio", "looks"):
            if getattr(self, name) < 1:
                raise OptionError(f"fixmatch({name}={getattr(self, name)}): must be at least 1.")
        self.refuse_mixup("strong", self.strong)
        if self.preset != FROZEN:
            parse_layers(self.body)

    @property
    def twin(self) -> Twin | None:
        """The probe of the same backbone; from scratch, the same steps without the pool's loss."""
        if not self.strength:
            return None
        same = self.probe if self.backbone else replace(self, strength=0.0)
        return Twin(same, "supervised", "the unlabeled images")

    def alone(self, task: Task, context: Context) -> Fitted:
        """See `Beside`; the pseudo-labels are what it takes unlabeled images for in the end."""
        if self.backbone is None:
            own = FromScratch.fit(self, task, context)
        else:
            own = self._frozen(task, context).fit()
        return replace(own, pseudo=_pseudo_labels(own.model, task, context.seed))

    def own_cost(self, task: Task, context: Context) -> Cost:
        """Times views on empty images, and steps on empty vectors."""
        if self.backbone is None:
            return FromScratch.cost(self, task, context)
        return self._frozen(task, context).cost()

    def enough_passes(self, task: Task) -> float:
        return LONGER * super().enough_passes(task) if self.backbone is None else PASSES

    @property
    def open_epochs(self) -> int | None:
        return super().open_epochs if self.epochs or self.backbone is None else MOST_PASSES

    def changes(self, color: Color, side: int) -> tuple[str, str]:
        """The weak and the strong change of images, as text."""
        weak = self._looks(color)[0]
        strong = self.strong if self.strong is not None else f"{STRONGLY}, cutout {side // 3}"
        return weak, ", ".join(filter(None, (weak, strong)))

    def pace(self, images: int) -> dict[str, Any]:
        """How `Consistency` goes through so many images, and what it makes of them."""
        steps, pool_batch = steps_of(images, self._step, self.least_steps or 0)
        return {
            "steps": max(1, round((self.share or 1.0) * steps)),
            "batch": max(1, pool_batch // self.ratio),
            "pool_batch": pool_batch,
            "smoothing": self.smoothing or 0.0,
            "strength": self.strength,
            "align": self.align,
        }

    def _frozen(self, task: Task, context: Context) -> FrozenFit:
        return FrozenFit(self, self.probe, self._schedule, task, context)

    @property
    def _step(self) -> int:
        return (self.batch or 1) * self.ratio

    def _objective(
        self, network: Network, examples: Examples, validation: Examples | None
    ) -> Consistency:
        given = (examples.labels >= 0).nonzero()[:, 0]
        side = min(examples.pixels.shape[2:])
        weak, strong = map(parse_augmentation, self.changes(color_of(examples.pixels), side))
        labels, pool = examples.labels[given], len(examples) * bool(self.strength)
        looks = PixelLooks(examples.pixels, given, labels, weak, strong, pool)
        judge = partial(evaluate, network, validation) if validation is not None else dict
        classes = head_of(network).out_features
        return Consistency(network, looks, judge, classes=classes, **self.pace(len(examples)))


def _pseudo_labels(model: Model, task: Task, seed: int) -> tuple[PseudoLabels, ...]:
    """What a model takes some unlabeled images for, drawn by seed."""
    drawn = np.random.default_rng([seed, 7]).permutation(np.flatnonzero(task.labels == UNLABELED))
    if not len(drawn):
        return ()
    images = task.images.subset(np.sort(drawn[:SHOWN]))
    proba = model.predict_proba(images)
    sure = proba.max(1).astype(np.float32)
    return (PseudoLabels(images.rows, proba.argmax(1), sure),)
