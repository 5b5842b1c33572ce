"""The recipe: one typed file that says everything about a run."""

from openk2.recipe.check import check
from openk2.recipe.files import emit, read, write
from openk2.recipe.flags import override
from openk2.recipe.recipe import Budget, Recipe

__all__ = ["Budget", "Recipe", "check", "emit", "override", "read", "write"]
