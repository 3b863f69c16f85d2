"""Mixed: several models as one, whose probabilities are the weighted mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from labelwise.architecture import build
from labelwise.data.dataset import Images
from labelwise.data.preprocess import Preprocessing, channels_of
from labelwise.errors import RunError
from labelwise.model import Model
from labelwise.nn.mixture import Mixture


def mixed(
    models: Sequence[Model],
    *,
    weights: npt.ArrayLike,
    temperatures: npt.ArrayLike,
    images: Images,
) -> Model:
    """One model of M.

    Args:
        models: with the same classes.
        weights: above 0, sum 1; (M,).
        temperatures: what divides the logits of each; (M,).
        images: such as it will see; their size decides how large it sees them.

    Raises:
        RunError: the models do not see the same part of an image.
    """
    sides = [model.preprocessing for model in models]
    preprocessing = _common(sides, images)
    channels = channels_of(preprocessing.color)
    counts = zip(np.asarray(weights).tolist(), np.asarray(temperatures).tolist(), strict=True)
    architecture = {
        "kind": "ensemble",
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
        "members": [
            {
                "architecture": dict(model.architecture),
                "height": side.height,
                "width": side.width,
                "color": side.color,
                "weight": weight,
                "temperature": temperature,
            }
            for model, side, (weight, temperature) in zip(models, sides, counts, strict=True)
        ],
    }
    network = build(architecture, len(models[0].class_names), preprocessing.shape)
    members = cast(Mixture, network.body).members
    for member, model in zip(members, models, strict=True):
        member.load_state_dict(model.network.state_dict())
    return Model(
        network=network.eval(),
        architecture=architecture,
        preprocessing=preprocessing,
        class_names=models[0].class_names,
        recipe={},
        facts={"members": [_origin(model) for model in models]},
    )


def differently(sides: Sequence[Preprocessing]) -> str | None:
    """Why models do not see the same part of an image; None if they do."""
    ways = {side.resize for side in sides}
    shapes = {side.height / side.width for side in sides}
    if len(ways) < 2 and len(shapes) < 2:
        return None
    seen = ", ".join(f"{side.width} x {side.height} {side.resize}" for side in sides)
    return (
        f"One model prepares an image once, and these see different parts of it ({seen}). "
        "Give all the same: --resize crop and --image-size."
    )


def _origin(model: Model) -> dict[str, Any]:
    """What made a member; the license of its weights stays on record."""
    return {"recipe": dict(model.recipe), "backbone": model.facts.get("backbone")}


def _common(sides: Sequence[Preprocessing], images: Images) -> Preprocessing:
    """How an image is prepared for all members, each of which scales it once more.

    As large as the largest member wants it, but no larger than the images are: what was enlarged
    and shrunk again has lost its sharpness.
    """
    if (problem := differently(sides)) is not None:
        raise RunError(problem)
    largest = max(sides, key=lambda side: side.height)
    share = min(1.0, float(np.median(images.sizes.min(axis=1))) / min(largest.size))
    height, width = (max(1, round(side * share)) for side in largest.size)
    gray = all(side.color == "gray" for side in sides)
    return Preprocessing(height, width, "gray" if gray else "rgb", largest.resize)
