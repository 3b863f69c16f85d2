"""Overlap: classes and images of the data that a backbone has been trained on already.

Whoever judges a network on what it knows learns little about what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from labelwise.backbones import Backbone
from labelwise.backbones.pretrained import Pretrained
from labelwise.data.dataset import Dataset
from labelwise.files import expanded
from labelwise.model import Model
from labelwise.nn.bank import Bank
from labelwise.nn.graph import neighbors
from labelwise.recipe.variants import Variant
from labelwise.transfer import SavedBackbone, familiar, find_backbone, with_backbone

IMAGENET = "ImageNet"
CLASSES_OF = {1000: "imagenet-1k", 11821: "imagenet-12k", 21841: "imagenet-22k"}
SHOWN = 3  # names beside a class, and classes with them
LOOKED_AT = 1_000  # images that are compared with those a saved model remembers
RARE, MANY = 0.01, 0.05  # share of new images that seem copies, and of those that are too many


def backbones_of(variants: Sequence[Variant]) -> list[str]:
    """Names of the backbones that variants build on, each once."""
    return list(dict.fromkeys(name for v in variants for name in v.recipe.backbones))


def known_already(variants: Sequence[Variant], dataset: Dataset, test: np.ndarray) -> list[str]:
    """Warnings about backbones that have learned from images or classes of the data.

    Args:
        test: rows of the test part, int64 (N,).
    """
    warnings = []
    for name in backbones_of(variants):
        backbone = find_backbone(name)
        seen = isinstance(backbone, SavedBackbone) and images_warning(backbone, dataset, test)
        found = (seen, overlap_warning(backbone, dataset.class_names))
        warnings += [sentence for sentence in found if sentence]
    return warnings


def images_warning(backbone: SavedBackbone, dataset: Dataset, test: np.ndarray) -> str | None:
    """A sentence if a saved model has learned from images that are judged here."""
    place, facts = expanded(backbone.name), backbone.model.facts
    learned = familiar(place, facts, dataset, dataset.labeled)
    if not learned:
        share = copies(backbone.model, dataset)
        if share < MANY:
            return None
        return (
            f"The backbone {backbone.name!r} has probably learned from changed copies of these "
            f"images: {share:.0%} of a sample lie so close to images that it remembers as "
            f"{RARE:.0%} of other images would. Whatever builds on it may look better than it is."
        )
    kept = len(test) and not familiar(place, facts, dataset, test)
    but = f" Of the {len(test)} images of the test part it has seen none." if kept else ""
    return (
        f"The backbone {backbone.name!r} {learned}: whatever builds on it is judged on images that "
        f"it knows, and looks better than it is.{but}"
    )


def copies(model: Model, dataset: Dataset) -> float:
    """Share of the labeled images, of a sample, that seem to be copies of images a model remembers.

    They lie closer to one than 99 % of the remembered images do to each other. Fewer are found the
    more a model has learned from beyond what it remembers.
    """
    bank = model.network.bank
    rows = dataset.labeled[:: max(1, len(dataset.labeled) // LOOKED_AT)]
    if not isinstance(bank, Bank) or len(bank.points) < 1 / RARE or not len(rows):
        return 0.0
    asked = torch.from_numpy(with_backbone(model).embed(dataset.images(rows)))
    with torch.inference_mode():
        _, among = neighbors(bank.points.cpu(), 1)
        found = bank.cosines(asked.to(bank.points.device)).amax(dim=1).cpu()
    return float((found > among[:, 0].quantile(1 - RARE)).float().mean())


def overlap_warning(backbone: Backbone, class_names: Sequence[str]) -> str | None:
    """A sentence if classes of the data are among those that a backbone was trained on.

    By name: a class of the backbone, one of its synonyms, or its last word ("cat" of "tabby cat").
    """
    found = overlap(class_names, known_classes(backbone))
    if not found:
        return None
    listed = [f"{name} ({', '.join(known[:SHOWN])})" for name, known in found.items()]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    where = IMAGENET if isinstance(backbone, Pretrained) else "its own data"
    count = f"{len(found)} of the {len(class_names)} classes"
    return (
        f"The backbone {backbone.name!r} has learned {count} from {where} already, by their names: "
        f"{'; '.join(listed[:SHOWN])}{more}. Its numbers here say little about classes that it has "
        "never seen."
    )


def overlap(class_names: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """The classes that are known, each with the known names that match; ascending as given."""
    by_name: dict[str, list[str]] = {}
    for name in known:
        words = _words(name)
        last = [word for word in words[-1:] if not word.isdigit()]
        for key in {" ".join(words), *last} - {""}:
            by_name.setdefault(key, []).append(name)
    found = {name: by_name.get(" ".join(_words(name)), []) for name in class_names}
    return {name: matches for name, matches in found.items() if matches}


def known_classes(backbone: Backbone) -> tuple[str, ...]:
    """Names, with synonyms, of what a backbone was trained to tell apart; none if not known."""
    if isinstance(backbone, SavedBackbone):
        return backbone.model.class_names
    return _of_imagenet(backbone.timm_name) if isinstance(backbone, Pretrained) else ()


@cache
def _of_imagenet(timm_name: str) -> tuple[str, ...]:
    import timm
    from timm.data.imagenet_info import ImageNetInfo

    configuration = timm.get_pretrained_cfg(timm_name)
    count = configuration.num_classes if configuration else 0
    subset = CLASSES_OF.get(count)
    if subset is None:
        return ()
    info = ImageNetInfo(subset)
    descriptions = (info.index_to_description(k) for k in range(count))
    return tuple(name for text in descriptions for name in text.split(", "))


def _words(name: str) -> list[str]:
    """Lower case, without signs, each in the singular as far as an s tells."""
    words = re.findall(r"[^\W_]+", name.casefold())
    return [w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in words]
