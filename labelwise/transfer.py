"""Transfer: a saved model as a backbone, and which images it has learned from already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from labelwise import bundle
from labelwise.backbones import Backbone, find_pretrained, sha256_of, stamp_of
from labelwise.data.dataset import Dataset
from labelwise.data.splits_table import final_roles
from labelwise.errors import BackboneError, LabelwiseError
from labelwise.features import load_body
from labelwise.files import expanded, intact, is_folder, read_json
from labelwise.model import Model
from labelwise.nn.layers import Stack
from labelwise.nn.projected import Projected
from labelwise.nn.taps import Taps


@dataclass(frozen=True)
class SavedBackbone(Backbone):
    """The body of a saved model, with all that it has learned."""

    model: Model = field(compare=False, repr=False)

    def body(self) -> Taps | Stack:
        return cast(Taps | Stack, self.model.network.body)


def find_backbone(name: str) -> Backbone:
    """The backbone of a name: a pretrained network, or the folder of a saved model or of a run.

    Raises:
        BackboneError: unknown name, or the weights are not on this machine; says what to do.
        BundleError: the folder holds no model, or a damaged one.
        MissingExtraError: the package with the weights is not installed.
    """
    folder = expanded(name)
    if not name or not is_folder(folder):
        return find_pretrained(name)
    folder = bundle.model_folder(folder)
    files = (folder / bundle.MODEL_FILE, folder / bundle.WEIGHTS_FILE)
    return _saved(name, folder, tuple(map(stamp_of, files)))


@lru_cache(maxsize=2)
def _saved(name: str, folder: Path, stamps: tuple[object, ...]) -> SavedBackbone:
    """Read and hashed once per process, however many fits ask; `stamps` tell when it changed."""
    model = bundle.load(folder)
    if model.architecture["kind"] == "ensemble":
        raise BackboneError(
            f"{name!r} is an ensemble of {len(model.architecture['members'])} networks. A backbone "
            "is one network: give the folder of a single model (`--save-models all` keeps them)."
        )
    file = folder / bundle.WEIGHTS_FILE
    return SavedBackbone(
        name=name,
        file=file,
        sha256=sha256_of(file),
        license=str(model.facts.get("backbone", {}).get("license", "that of the saved model")),
        mean=tuple(model.architecture["mean"]),
        std=tuple(model.architecture["std"]),
        preprocessing=model.preprocessing,
        resizable=model.architecture["kind"] == "timm",
        model=model,
    )


def with_backbone(model: Model) -> Model:
    """A model that was read from a file, with the frozen backbone inside if that is at hand.

    Its embeddings then come from the engine and the store, as they did when it was fitted. Only if
    every weight is the backbone's own: what the file says of its origin is not enough.
    """
    origin = model.facts.get("backbone") or {}
    if model.backbone is not None or not origin.get("frozen", True):
        return model
    try:
        backbone = find_backbone(str(origin["name"]))
        body = load_body(backbone)
    except (KeyError, LabelwiseError):
        return model
    inside = model.network.body
    inside = inside.base if isinstance(inside, Projected) else inside
    own, theirs = inside.state_dict(), body.state_dict()
    theirs_of = {**body.architecture, **backbone.scaling}
    same = theirs_of == {name: model.architecture.get(name) for name in theirs_of} and all(
        torch.equal(value, theirs[name]) for name, value in own.items()
    )
    return replace(model, backbone=backbone) if same else model


def familiar(
    place: Path | None, facts: Mapping[str, Any], dataset: Dataset, rows: np.ndarray
) -> str | None:
    """How a sentence about a model goes on if it has learned from some of these images.

    Which these are is known from the run that the model lies in; of a model by itself only whether
    it was made from this very data set.

    Args:
        place: folder of the model or of its run; None for a model that is not on disk.
        facts: of the model.
        rows: of the data set that are to be judged.
    """
    run, labels = _origin(place, facts)
    if run is None:
        if facts.get("data", {}).get("fingerprint") != dataset.fingerprint:
            return None
        return (
            "was made from this very data set: but for a test part, it has learned from these "
            "images"
        )
    with intact(run, f"Copy the model out of it: {run / 'model'}."):
        final = final_roles(pd.read_parquet(run / "folds.parquet"), labels)
        labeled = final["role"] == "train"
        ids = final[labeled]["id"] if labeled.any() else final["id"]
        contents = pd.read_parquet(run / "data.parquet", columns=["content"])["content"]
    seen = int(np.isin(dataset.contents[rows].astype(str), contents.iloc[ids].to_numpy(str)).sum())
    if not seen:
        return None
    how = "" if labeled.any() else ", without their labels"
    return f"has learned from {seen} of the {len(rows)} images{how}"


def _origin(place: Path | None, facts: Mapping[str, Any]) -> tuple[Path | None, str | None]:
    """The run that a model lies in, if any, and its number of labels as folds.parquet has it."""
    if place is None:
        return None, None
    folder = bundle.model_folder(place).resolve()
    run = next((above for above in [folder, *folder.parents] if _is_run(above)), None)
    if run is None or folder.parent == run or folder == run:
        return run, facts.get("labels")
    # Of a run that keeps all models: RUN/trials/VARIANT/TRIAL/model
    with intact(folder.parent, f"Copy the model out of it: {place}."):
        return run, read_json(folder.parent / "trial.json")["labels"]


def _is_run(folder: Path) -> bool:
    return (folder / "folds.parquet").exists() and (folder / "data.parquet").exists()
