"""A metric of sets: what it is, the model whose features it compares, and how."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from evalkit.metric_spec.metric_card import Loader
from evalkit.metric_spec.signature import ModelRecipe, sign, stamp
from evalkit.run.score_table import Direction
from evalkit.weights.lookup import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Features: TypeAlias = "NDArray[np.float32]"
# features of the images and of what they are held against, n x d and m x d, to how far they are apart
Distance = Callable[[Features, Features], float]


@dataclass(frozen=True)
class SetMetric:
    """What a metric of two sets of images is; every one is a distance, so lower is better."""

    name: str
    summary: str
    unit: str
    # who defined it: author year
    source: str
    weights: Source
    licence: str
    # how features become a distance; part of the signature
    reduction: str
    # images in each set below which the number is unreliable
    least: int
    load: Loader = field(repr=False)
    distance: Distance = field(repr=False)
    # packages that compute the distance, whose version can change it
    packages: tuple[str, ...] = ()
    direction: Direction = "lower"
    # of the distance: raise it in the change that makes values differ
    revision: int = 1

    @property
    def model(self) -> str:
        """Return what names the model; metrics with the same one share its features."""
        return self.weights.name

    def signature(self, recipe: ModelRecipe) -> str:
        """Return the recipe of this metric's values in one line."""
        libraries = (*recipe.libraries, *(stamp(package) for package in self.packages))
        return sign(self.name, replace(recipe, libraries=libraries), self.reduction, revision=self.revision)


def set_metric(
    *,
    unit: str,
    source: str,
    weights: Source,
    load: Loader,
    reduction: str,
    least: int,
    packages: tuple[str, ...] = (),
    revision: int = 1,
) -> Callable[[Distance], SetMetric]:
    """Return a decorator that makes a metric of a distance between two sets of features; name and summary are its own."""

    def card(distance: Distance) -> SetMetric:
        name = getattr(distance, "__name__", "")
        summary = (distance.__doc__ or "").strip().partition("\n")[0]
        return SetMetric(
            name, summary, unit, source, weights, weights.licence, reduction, least, load, distance, packages, revision=revision
        )

    return card
