"""From a folder of images, few of them labeled, to the best classifier those labels can buy.

The jobs are functions: load, check, compare, train, tune, evaluate, judge, predict, embed, similar,
map_embeddings (the command map), recipes, demo, doctor; and load_model, save_model.
`help(labelwise.compare)` tells more. The values: Dataset, Recipe, Model, Evaluation, Run.
ImageClassifier is a recipe as a scikit-learn estimator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from labelwise.atlas.drawing import map_embeddings
    from labelwise.auditing import audit
    from labelwise.bundle import load as load_model
    from labelwise.bundle import save as save_model
    from labelwise.checks import check
    from labelwise.data.dataset import Dataset
    from labelwise.data.load import load
    from labelwise.embedding import embed
    from labelwise.estimator import ImageClassifier
    from labelwise.explaining import explain
    from labelwise.leafing import mistakes
    from labelwise.likeness import similar
    from labelwise.machine import doctor
    from labelwise.measure import Evaluation
    from labelwise.model import Model
    from labelwise.recipe.base import Recipe
    from labelwise.recipe.describe import recipes
    from labelwise.run import Run, compare, train
    from labelwise.showcase import demo
    from labelwise.tuning.search import tune
    from labelwise.use import evaluate, judge, predict

# Public name -> where it is. Imported on first use, so that `labelwise --help` answers at once.
_PLACES = {
    "Dataset": "labelwise.data.dataset",
    "Evaluation": "labelwise.measure",
    "ImageClassifier": "labelwise.estimator",
    "Model": "labelwise.model",
    "Recipe": "labelwise.recipe.base",
    "Run": "labelwise.run",
    "audit": "labelwise.auditing",
    "check": "labelwise.checks",
    "compare": "labelwise.run",
    "demo": "labelwise.showcase",
    "doctor": "labelwise.machine",
    "embed": "labelwise.embedding",
    "explain": "labelwise.explaining",
    "evaluate": "labelwise.use",
    "judge": "labelwise.use",
    "load": "labelwise.data.load",
    "load_model": "labelwise.bundle:load",
    "map_embeddings": "labelwise.atlas.drawing",
    "mistakes": "labelwise.leafing",
    "predict": "labelwise.use",
    "recipes": "labelwise.recipe.describe",
    "save_model": "labelwise.bundle:save",
    "similar": "labelwise.likeness",
    "train": "labelwise.run",
    "tune": "labelwise.tuning.search",
}

__all__ = [  # noqa: RUF022 (the jobs in the order of the command line, then the values)
    "load",
    "check",
    "compare",
    "train",
    "tune",
    "evaluate",
    "judge",
    "predict",
    "explain",
    "mistakes",
    "audit",
    "embed",
    "similar",
    "map_embeddings",
    "recipes",
    "demo",
    "doctor",
    "ImageClassifier",
    "load_model",
    "save_model",
    "Dataset",
    "Recipe",
    "Model",
    "Evaluation",
    "Run",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'labelwise' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)
