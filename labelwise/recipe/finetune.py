"""Recipe `finetune`: a pretrained network, its head first, then its last blocks or all of it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import nn

from labelwise.activations import SHIFT, Looks
from labelwise.data.dataset import Images
from labelwise.data.preprocess import Color, Preprocessing, Resize
from labelwise.data.split import VALIDATION_FROM
from labelwise.errors import OptionError
from labelwise.features import input_of, load_body
from labelwise.nn.augment import parse_augmentation
from labelwise.nn.network import Network
from labelwise.nn.passes import pace
from labelwise.nn.standard import StandardHead
from labelwise.nn.supervised import Supervised, head_of
from labelwise.nn.tail import blocks_of
from labelwise.nn.train import Schedule
from labelwise.recipe.base import Context, Cost, Fitted, Recipe, Task, option
from labelwise.recipe.by_schedule import train_by
from labelwise.recipe.learner import BehindFront, FromPixels, Learner
from labelwise.recipe.probe import Probe
from labelwise.recipe.ranges import Reals, choices
from labelwise.recipe.rehearsal import TUNED, blank, seconds_each, tuning_seconds
from labelwise.recipe.scratch import Mirror
from labelwise.recipe.sizes import spread
from labelwise.transfer import find_backbone

MOST_EPOCHS = 12  # planned for where the number was left open
LAST_BLOCKS = 4  # that learn unless said otherwise; see docs/recipes.md
HEAD, ALL = "head", "all"  # the phases of a fit
KEPT = "probe"  # what is kept by a fit that gained nothing by its second phase
FEW = f"fewer than {VALIDATION_FROM} labels per class"
WEIGHT_DECAY = 0.01  # of filters and matrices
WARMUP = 0.1  # share of the steps in which the learning rate rises
LEAST_STEPS = 20  # of an epoch; few images make smaller batches, and are passed over several times
HEAD_SHARE = 0.2  # of a fit's time, for the display
SAMPLED = 256  # images whose embeddings say what is standard


@dataclass(frozen=True)
class Finetune(Recipe):
    """Linear probing, then fine-tuning (Kumar et al. 2022, arXiv:2202.10054): the head of a `probe`
    on the frozen backbone first, then the weights as well, slowly, from there.

    Batch norm stays in inference mode: its statistics never move, its scale and shift do. Of a
    network of blocks only the last ones learn, from activations of the frozen ones before, which
    are kept on disk in 16 bits for a few looks at every image (plain, mirrored, shifted).

    Where the validation part says that the start was better, the probe is the result; also below 5
    labels per class, where nothing could say so.
    """

    name: ClassVar[str] = "finetune"
    regime: ClassVar[str] = "pretrained network, its head first, then its last blocks or all of it"
    rank: ClassVar[int] = 4

    backbone: str = option(
        "efficientnet-lite0", "pretrained network (see labelwise doctor), or a saved model's folder"
    )
    layers: Literal["all"] | int | None = option(
        None,
        f"so many of the last blocks learn, or all; left open: {LAST_BLOCKS}, and all of a network "
        "that has no blocks",
    )
    lr: float = option(2e-4, "learning rate, at its largest", search=Reals(3e-5, 1e-3))
    average: float = option(0.0, "decay of a moving average of the weights; 0: none")
    smoothing: float = option(0.0, "of the labels, from 0 to below 1", search=choices(0, 0.1))
    looks: int = option(4, "at every image that activations are kept of")
    disk: float = option(8.0, "GB for activations; more images make fewer looks")
    augment: str | None = option(
        None, "of the images, where all layers learn; left open: shifted by up to an eighth"
    )
    mirror: Mirror = option("color", "images also mirrored: yes, no, or color only")
    batch: int = option(32, "images per step", search=choices(16, 32, 64))
    epochs: int | None = option(None, "passes over the images; left open: as the time allows")
    share: float = option(
        1.0,
        "of its images that an epoch goes through; fewer than all where a plan must end in time",
    )
    patience: int = option(4, "epochs without progress before stopping; 0: never stop")
    image_size: int | None = option(None, "pixels a side; left open: the backbone's own")
    color: Color | None = option(None, "rgb or gray; left open: the backbone's own")
    resize: Resize | None = option(None, "crop, squash or pad; left open: the backbone's own")

    def __post_init__(self) -> None:
        for name in ("lr", "looks", "disk", "batch", "share", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise OptionError(f"finetune({name}={value}): must be positive.")
        for name, most in (("share", 1), ("average", 0.9999), ("smoothing", 0.9999)):
            if not 0 <= getattr(self, name) <= most:
                raise OptionError(
                    f"finetune({name}={getattr(self, name)}): must be from 0 to {most}."
                )
        if self.patience < 0:
            raise OptionError(f"finetune(patience={self.patience}): cannot be negative.")
        if isinstance(self.layers, int) and self.layers < 1:
            raise OptionError(
                f"finetune(layers={self.layers}): give a number of blocks from 1, or all. Without "
                "any, it is the recipe probe."
            )
        parse_augmentation(self.augment or "")
        self._probe  # noqa: B018  # refuses a size that makes no sense

    def fit(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        if task.validation is None and _too_few(task.labels):
            return replace(self._probe.fit(task, context), chosen=_kept(FEW))
        # It is judged on the validation part, which its own head must not have seen.
        head = self._probe.fit(replace(task, validation=None), context.part(0, HEAD_SHARE))
        network = copy.deepcopy(head.model.network)
        learner = self._learner(network, task, head.model.preprocessing, context)
        objective = self._objective(learner, task)
        standard = _standard_head(objective)
        before = objective.judge()
        history, best = train_by(
            self._schedule,
            objective.network,
            objective,
            torch.Generator().manual_seed(context.seed),
            context.part(HEAD_SHARE, 1.0),
            task.checkpoint,
        )
        standard.hand_over(head_of(network))
        records = _phases(head.history, before, history)
        if before and before["validation_loss"] <= history[best - 1]["validation_loss"]:
            model = self._probe.fit(task, context.part(1, 1)).model
            chosen = _kept("it was better on the validation part")
        else:
            model = replace(
                head.model,
                network=network.to("cpu").eval().requires_grad_(False),
                recipe=self.configuration,
                facts={"backbone": {**head.model.facts["backbone"], "frozen": False}},
                backbone=None,
            )
            chosen = {"kept": ALL, "best_epoch": best}
        seconds = time.perf_counter() - started
        return Fitted(model, records, chosen, seconds, stages={HEAD: head.model})

    def cost(self, task: Task, context: Context) -> Cost:
        """Rehearses on a few empty images; counts only the activations not yet on disk."""
        backbone, start = find_backbone(self.backbone), self._probe.cost(task, context)
        dataset = task.images.dataset
        every = dataset.images(dataset.labeled)
        preprocessing = input_of(
            backbone, every, image_size=self.image_size, color=self.color, resize=self.resize
        )
        network = Network(
            copy.deepcopy(load_body(backbone)),
            len(task.class_names),
            mean=backbone.mean,
            std=backbone.std,
        )
        learner = self._learner(network, task, preprocessing, context)
        step, validate = tuning_seconds(learner.network, learner.blank(TUNED), self._schedule)
        answered = blank(TUNED, preprocessing.shape, context.device).pixels
        count = len(task.labeled)

        @torch.inference_mode()
        def answer() -> None:
            network.eval()(answered)

        return Cost(
            once=start.once + learner.once(every),
            fit=start.fit,
            epoch=step * count * pace(count, self.batch, LEAST_STEPS)[1],
            validate=validate,
            answer=seconds_each(answer),
        )

    def unsuited(self, images: Images) -> str | None:
        if _too_few(images.dataset.labels[images.rows]):
            return f"{FEW}, so that it would be the probe"
        return None

    def planned(self, passes: float) -> Self:
        if self.epochs:
            return self
        epochs, share = spread(passes, self.share)
        return replace(self, epochs=epochs, share=share)

    @property
    def open_epochs(self) -> int | None:
        return None if self.epochs else MOST_EPOCHS

    @property
    def decides_on_validation(self) -> bool:
        return True

    def settled(self, chosen: Sequence[Mapping[str, Any]]) -> Recipe:
        """The median best epoch of the folds; the probe if most of them kept it."""
        gained = [int(values["best_epoch"]) for values in chosen if values["kept"] != KEPT]
        if len(gained) < len(chosen) / 2:
            return self._probe
        return replace(self, epochs=max(1, round(median(gained)))) if gained else self

    def remark(self, chosen: Sequence[Mapping[str, Any]]) -> str | None:
        reasons = [str(values["because"]) for values in chosen if values["kept"] == KEPT]
        if not reasons:
            return None
        return f"the probe was kept in {len(reasons)} of {len(chosen)} folds: {reasons[0]}"

    @property
    def _probe(self) -> Probe:
        return Probe(
            backbone=self.backbone,
            image_size=self.image_size,
            color=self.color,
            resize=self.resize,
        )

    def _learner(
        self, network: Network, task: Task, preprocessing: Preprocessing, context: Context
    ) -> Learner:
        """What of a network learns; its weights are made to."""
        dataset = task.images.dataset
        usable = dataset.images(dataset.usable)
        mirrored = self.mirror == "yes" or (self.mirror == "color" and not usable.gray)
        first = self._first(network.body)
        network.to(context.device)
        if first is not None:
            backbone = find_backbone(self.backbone)
            looks = Looks(backbone, preprocessing, first, mirrored, self.looks, self.disk)
            every = dataset.images(dataset.labeled)
            if looks.affordable(every):
                return BehindFront(network, looks, every, context.part(0.0, HEAD_SHARE).advance)
        side = min(preprocessing.height, preprocessing.width)
        moved = f"crop {side // SHIFT}" if self.augment is None else self.augment
        augment = ", ".join(filter(None, ["alternate" if mirrored else "", moved]))
        return FromPixels(network, preprocessing, augment, first)

    def _first(self, body: nn.Module) -> int | None:
        """The first block that learns; None if everything does."""
        blocks = blocks_of(body)
        if isinstance(self.layers, int) and not blocks:
            raise OptionError(
                f"finetune(layers={self.layers}): the backbone {self.backbone!r} is no network of "
                "blocks that could be cut. Use layers=all, or leave it out."
            )
        learning = blocks if self.layers == "all" else (self.layers or LAST_BLOCKS)
        return blocks - learning if learning < blocks else None

    def _objective(self, learner: Learner, task: Task) -> Supervised:
        labeled = task.labeled
        validation = None
        if task.validation is not None:
            validation = learner.examples(*task.validation, learned=False)
        return Supervised(
            learner.network,
            learner.examples(task.images.subset(labeled), task.labels[labeled], learned=True),
            validation,
            batch=self.batch,
            least_steps=LEAST_STEPS,
            share=self.share,
            smoothing=self.smoothing,
            augment=parse_augmentation(learner.augment),
        )

    @property
    def _schedule(self) -> Schedule:
        return Schedule(
            optimizer="adamw",
            lr=self.lr,
            decay="cosine",
            epochs=self.epochs or MOST_EPOCHS,
            patience=self.patience or None,
            weight_decay=WEIGHT_DECAY,
            average=self.average,
            warmup=WARMUP,
        )


def _too_few(labels: np.ndarray) -> bool:
    """Whether there are so few labels per class that no validation part is held back."""
    labeled = labels[labels >= 0]
    return len(labeled) < VALIDATION_FROM * len(np.unique(labeled))


def _kept(because: str) -> dict[str, Any]:
    return {"kept": KEPT, "best_epoch": 0, "because": because}


def _standard_head(objective: Supervised) -> StandardHead:
    """Give an objective's network a head for standardized embeddings in the place of its own."""
    network, examples = objective.network, objective.examples
    step = max(1, len(examples) // SAMPLED)
    some = examples.plain(slice(0, None, step))
    with torch.no_grad():
        _, embeddings = network.eval().body(network.normalized(some))
    network.head = StandardHead(head_of(network), embeddings)
    return network.head


def _phases(
    head: Sequence[Mapping[str, Any]], before: Mapping[str, Any], history: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The strengths tried for the head, the head on the validation part, and then the epochs."""
    first = [*head, *([{"seconds": 0.0, **before}] if before else [])]
    records = [{**record, "phase": HEAD} for record in first]
    records += [{**record, "phase": ALL} for record in history]
    return [{**record, "epoch": number} for number, record in enumerate(records, start=1)]
