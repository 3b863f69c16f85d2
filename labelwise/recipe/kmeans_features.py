"""Recipe `kmeans-features`: patches of all images clustered, and a linear head on them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch

from labelwise.architecture import build
from labelwise.data.dataset import Images
from labelwise.data.preprocess import Color, Preprocessing, Resize
from labelwise.errors import OptionError
from labelwise.features import stored_pixels
from labelwise.model import Model
from labelwise.nn.centroids import ITERATIONS, Centroids
from labelwise.nn.coding import encoded
from labelwise.nn.network import Network
from labelwise.recipe.base import (
    EVERY_FIT,
    Context,
    Cost,
    Fitted,
    Recipe,
    Task,
    Twin,
    option,
    require_labels,
)
from labelwise.recipe.code_heads import logistic_head
from labelwise.recipe.decoding import encoding_seconds
from labelwise.recipe.heads import head_seconds
from labelwise.recipe.inputs import are_large, own_input
from labelwise.recipe.ranges import choices
from labelwise.recipe.rehearsal import reading_seconds

Learns = Literal["all", "labeled"]

LARGEST_SIDE = 32
PATCHES = 100_000  # that are clustered
READ = 4096  # images whose pixels are in memory at once
TIMED = 32  # images


@dataclass(frozen=True)
class KmeansFeatures(Recipe):
    """Random patches of all images are clustered by k-means; an image is how near its patches are
    to each centroid in each quadrant, and a logistic regression reads that (Coates et al. 2011).

    No gradient and no label is needed for the features; without any label the model has no head.
    """

    name: ClassVar[str] = "kmeans-features"
    regime: ClassVar[str] = "clustered patches of all images, linear head"
    rank: ClassVar[int] = 3
    uses_unlabeled: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    learns: Learns = option("all", "from patches of all images, or of labeled ones only")
    centroids: int = option(800, "clusters of patches", search=choices(200, 400, 800, 1600))
    patch: int = option(6, "pixels a side of a patch", search=choices(5, 6, 7, 8))
    image_size: int | None = option(
        None, "pixels a side; left open: the images' own, up to a limit"
    )
    color: Color | None = option(None, "rgb or gray; left open: gray if every image is")
    resize: Resize = option("crop", "crop to the middle, squash, or pad with black")

    def __post_init__(self) -> None:
        if not 2 <= self.centroids <= 65_536:
            raise OptionError(
                f"kmeans-features(centroids={self.centroids}): must be from 2 to 65536."
            )
        if not 2 <= self.patch <= 32:
            raise OptionError(f"kmeans-features(patch={self.patch}): must be from 2 to 32.")
        if self.image_size is not None and not 4 <= self.image_size <= 256:
            raise OptionError(
                f"kmeans-features(image_size={self.image_size}): must be from 4 to 256."
            )

    def unsuited(self, images: Images) -> str | None:
        if are_large(images, LARGEST_SIDE):
            return "images are larger than 64 pixels, where patches of a few pixels say little"
        return None

    @property
    def twin(self) -> Twin | None:
        if self.learns == "labeled":
            return None
        return Twin(replace(self, learns="labeled"), "supervised", "the unlabeled images")

    def fit(self, task: Task, context: Context) -> Fitted:
        started = time.perf_counter()
        if task.class_names or self.learns == "labeled":
            require_labels(task)
        preprocessing = self._input(task)
        architecture = self._architecture(preprocessing)
        network = build(architecture, None, preprocessing.shape).to(context.device)
        generator = torch.Generator().manual_seed(context.seed)
        context.advance(0.0, "clustering patches")
        learned = task.images if self.learns == "all" else task.images.subset(task.labeled)
        patches = self._patches(learned, preprocessing, generator)
        _centroids(network).learn(patches.to(context.device), generator)
        history: list[dict[str, Any]] = []
        chosen: dict[str, Any] = {}
        if task.class_names:
            parts = [task.images.subset(task.labeled)]
            parts += [task.validation[0]] if task.validation is not None else []
            codes = torch.cat([_features(network, part, preprocessing, context) for part in parts])
            network.head, chosen, history = logistic_head(codes, task, context.seed)
        model = Model(
            network=network.to("cpu").eval(),
            architecture=architecture,
            preprocessing=preprocessing,
            class_names=task.class_names,
            recipe=self.configuration,
        )
        return Fitted(model, history, chosen, time.perf_counter() - started)

    def cost(self, task: Task, context: Context) -> Cost:
        """Times the features of a few empty images; refuses images that are too small."""
        preprocessing = self._input(task)
        network = build(self._architecture(preprocessing), None, preprocessing.shape)
        network = network.to(context.device)
        answer = encoding_seconds(network, preprocessing.shape, context.device, TIMED)
        # An iteration compares as many patches as some images have, and sums them up as well.
        places = (preprocessing.height - self.patch + 1) * (preprocessing.width - self.patch + 1)
        clustering = ITERATIONS * answer * self._patch_count(len(task.images)) / places
        everything = task.images.dataset.images(task.images.dataset.usable)
        labels = len(task.labeled)
        head = head_seconds(labels, 4 * self.centroids, len(task.class_names))
        return Cost(
            once=reading_seconds(task.images, everything, preprocessing),
            fit=EVERY_FIT + clustering + answer * labels + head,
            answer=answer,
            everything=self.learns == "all",
        )

    def _patch_count(self, images: int) -> int:
        """Patches that are clustered: so many, but no more than the images have of their own."""
        return max(self.centroids, min(PATCHES, 100 * images))

    def _patches(
        self, images: Images, preprocessing: Preprocessing, generator: torch.Generator
    ) -> torch.Tensor:
        """Random patches of random images, float32 (P, C * side * side) in [0, 1]."""
        count, side = self._patch_count(len(images)), self.patch
        of, _ = torch.randint(len(images), (count,), generator=generator).sort()
        y = torch.randint(preprocessing.height - side + 1, (count,), generator=generator)
        x = torch.randint(preprocessing.width - side + 1, (count,), generator=generator)
        parts = []
        for start in range(0, len(images), READ):
            pixels = stored_pixels(images.subset(slice(start, start + READ)), preprocessing)
            here = (of >= start) & (of < start + READ)
            windows = pixels.unfold(2, side, 1).unfold(3, side, 1)  # (n, C, rows, columns, ...)
            parts.append(windows[of[here] - start, :, y[here], x[here]].flatten(1))
        return torch.cat(parts).float() / 255

    def _architecture(self, preprocessing: Preprocessing) -> dict[str, Any]:
        channels = preprocessing.shape[0]
        return {
            "kind": "centroids",
            "count": self.centroids,
            "side": self.patch,
            "mean": [0.0] * channels,
            "std": [1.0] * channels,
        }

    def _input(self, task: Task) -> Preprocessing:
        return own_input(task.images, LARGEST_SIDE, self.image_size, self.color, self.resize)


def _centroids(network: Network) -> Centroids:
    return cast(Centroids, network.body)


def _features(
    network: Network, images: Images, preprocessing: Preprocessing, context: Context
) -> torch.Tensor:
    """The features of images, float32 (N, 4 * K)."""
    parts = []
    for start in range(0, len(images), READ):
        pixels = stored_pixels(images.subset(slice(start, start + READ)), preprocessing)
        parts.append(encoded(network, pixels.to(context.device)))
        context.advance(0.2 + 0.7 * start / len(images), "features of labeled images")
    return torch.cat(parts)
