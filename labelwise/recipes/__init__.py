"""The recipes: one file each. RECIPES is the list that everything else reads."""

from labelwise.recipes.cnn import Cnn
from labelwise.recipes.mlp import Mlp
from labelwise.recipes.probe import Probe
from labelwise.recipes.recipe import Recipe

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (Mlp, Cnn, Probe)}
