"""The recipes: one file each. RECIPES is the list that everything else reads."""

from labelwise.recipe.autoencoder import Autoencoder
from labelwise.recipe.base import Recipe
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.finetune import Finetune
from labelwise.recipe.fixmatch import FixMatch
from labelwise.recipe.joint_autoencoder import JointAutoencoder
from labelwise.recipe.kmeans_features import KmeansFeatures
from labelwise.recipe.metric import Metric
from labelwise.recipe.mlp import Mlp
from labelwise.recipe.probe import Probe
from labelwise.recipe.propagation import Propagation
from labelwise.recipe.self_training import SelfTraining
from labelwise.recipe.vae import Vae

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        Mlp,
        Cnn,
        Probe,
        Finetune,
        Metric,
        Propagation,
        SelfTraining,
        FixMatch,
        KmeansFeatures,
        Autoencoder,
        JointAutoencoder,
        Vae,
    )
}
