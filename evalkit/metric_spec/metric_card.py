"""Metric cards: what a metric is, what it needs, and how its model is loaded; the list of cards is the registry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from evalkit.errors import UserError, unknown
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.cosine_convention import PLAIN, Convention
from evalkit.metric_spec.signature import ModelRecipe, sign
from evalkit.run.score_table import Direction
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

# What an image is compared with: nothing, its prompt, a concept's references, another arm's image at its case and seed (by
# features, or by a model that sees both), or the images of the same case and arm at the other seeds (the same two ways); or
# all of these are judged together, and each has the value of all. A joint model sees the image together with its prompt
# (`text_image`), or with one reference at a time (`image_pair`); `concepts` finds each concept of the case in it.
Needs = Literal[
    "image",
    "prompt",
    "references",
    "text_image",
    "image_pair",
    "concepts",
    "other_arm",
    "other_arm_pixels",
    "other_seeds",
    "other_seeds_pixels",
    "all_seeds",
]
# How features become a score for each of them; part of the signature.
REDUCTION: Mapping[Needs, str] = MappingProxyType(
    {
        "image": "score",
        "prompt": "cos",
        "references": "cos-mean-refs",
        "text_image": "joint",
        "image_pair": "pair-mean-refs",
        # thresholds of presence: lowest leave-one-out identity of the references, at least that of equal error rates
        "concepts": "hungarian-cos-mean-refs-min-loo-eer",
        "other_arm": "cos",
        "other_arm_pixels": "pair",
        "other_seeds": "1-cos-mean-seeds",
        "other_seeds_pixels": "pair-mean-seeds",
        "all_seeds": "vendi-cos",
    }
)


class Model(Protocol):
    """Description of a model, and its preparation of an image."""

    @property
    def recipe(self) -> ModelRecipe:
        """Return how this model turns an image into features."""

    @property
    def largest_batch(self) -> int:
        """Return how many images go through at once at most."""

    @property
    def smallest_side(self) -> int:
        """Return the shortest side in pixels this model can read."""

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return an image as this model's input before normalisation: uint8, 3 x H x W. Safe in any thread."""


class Encoder(Model, Protocol):
    """A model that turns images into features: an embedding, or for a quality metric the score itself (d = 1)."""

    def features(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the features of prepared images, uint8 n x 3 x H x W to n x d."""


class TextEncoder(Encoder, Protocol):
    """An encoder that puts texts into the same space as images."""

    def texts(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return the features of texts, n x d."""

    def truncated(self, texts: Sequence[str]) -> tuple[bool, ...]:
        """Return which of the texts are longer than the model reads; they are cut before their end token."""


class PairEncoder(Model, Protocol):
    """A model that sees two images at once, whose order must not matter."""

    def compare(self, left: "Tensor", right: "Tensor") -> float:
        """Return the score of two prepared images of one size; infinity if it has no bound and they are equal."""


class JointEncoder(Model, Protocol):
    """A model that sees an image together with a text, such as a vision-language model that answers a question."""

    def judge(self, image: "Tensor", text: str) -> float:
        """Return the score of a prepared image, uint8 3 x H x W, with a text."""


Loader = Callable[[Weights, str], Model]


class CropEncoder(NamedTuple):
    """The encoder of the objects that a metric's detector finds: its weights, and what loads it."""

    source: Source
    load: Loader


class Loadable(Protocol):
    """What has a model, whatever it makes of its features."""

    @property
    def model(self) -> str:
        """Return what names the model."""

    @property
    def weights(self) -> Source | None:
        """Return the weights it needs, if any."""

    @property
    def load(self) -> Loader:
        """Return what takes weights and a device and makes the model."""


@dataclass(frozen=True)
class MetricCard:
    """What a metric is. `load` takes weights and a device and imports what it needs."""

    name: str
    summary: str
    direction: Direction
    unit: str
    # lowest and highest value; None if there is no bound
    limits: tuple[float | None, float | None]
    # who defined it: author year
    source: str
    needs: Needs
    weights: Source | None
    licence: str
    load: Loader = field(repr=False)
    # a run is scored with it only if it is named: it is not a metric of the papers, or is expensive
    on_request: bool = False
    # whose numbers these are, empty if no preset concerns them; what that means for a cosine with a prompt or references
    preset: str = ""
    convention: Convention = PLAIN
    # of the way from features to the score: raise it in the change that makes scores differ
    revision: int = 1
    # of a metric that detects concepts, whose `load` gives the detector
    crops: CropEncoder | None = None

    @property
    def model(self) -> str:
        """Return what names the model; metrics with the same one share it, and its features."""
        return self.weights.name if self.weights else self.name

    def signature(self, recipe: ModelRecipe) -> str:
        """Return the recipe of this metric's scores in one line."""
        return sign(self.name, recipe, self.convention.reduction(REDUCTION[self.needs]), self.preset, self.revision)


def metric(
    *,
    direction: Direction,
    unit: str,
    limits: tuple[float | None, float | None],
    source: str,
    needs: Needs = "image",
    weights: Source | None = None,
    licence: str | None = None,
    on_request: bool = False,
    preset: str = "",
    revision: int = 1,
    crops: CropEncoder | None = None,
) -> Callable[[Loader], MetricCard]:
    """Return a decorator that makes a metric's card of its loader; name and summary are the loader's own.

    Nothing is registered: `by_name` makes the registry of a list of cards.

    Parameters
    ----------
    direction
        `higher` or `lower` is better, or `none`.
    unit
        The unit of a score, such as `cosine` or `dB`.
    limits
        Smallest and largest possible score; None for no limit.
    source
        Who defined the metric: author and year.
    needs
        What an image is compared with: `image` (nothing), `prompt`, `references`, `other_arm`, `other_seeds` and others; or a
        joint model sees it with its prompt (`text_image`), or with one reference at a time (`image_pair`).
    weights
        Where the model's weights come from; None for a metric without a model.
    licence
        The licence of code and weights; by default that of the weights.
    on_request
        Run only if the metric is named.
    preset
        The name of the scoring convention in the signature; empty if no preset concerns this metric.
    revision
        Part of the signature: raise it in the change that makes scores differ.
    crops
        With `needs="concepts"`, the encoder of the crops that the metric's detector finds.
    """
    if needs not in get_args(Needs):
        raise ValueError(f"a metric needs one of {', '.join(get_args(Needs))}, not {needs!r}")
    terms = licence or (weights.licence if weights else None)
    if not terms:
        raise ValueError("a metric needs a licence; give `licence`, or weights that state theirs")

    def card(load: Loader) -> MetricCard:
        name = getattr(load, "__name__", "")
        summary = (load.__doc__ or "").strip().partition("\n")[0]
        if not summary:
            raise ValueError(f"metric {name}: its loader needs a docstring that states what it measures")
        return MetricCard(
            name, summary, direction, unit, limits, source, needs, weights, terms, load, on_request, preset, revision=revision,
            crops=crops,
        )  # fmt: skip

    return card


def feature_fault(card: MetricCard, features: "NDArray[np.float32]") -> str:
    """Return why a metric can't use the features of an image; empty if it can.

    Raises:
        UserError: they are of the wrong kind for any image: several numbers as a score, or a single one for a cosine, which is
            1 or -1 whatever the images show.
    """
    if REDUCTION[card.needs] == "score":
        if features.size != 1:
            raise UserError(f"{card.name}: its model returns {features.size} numbers for an image; return 1, the score")
        return ""
    if "cos" in REDUCTION[card.needs]:
        if features.size < 2:
            raise UserError(
                f"{card.name}: its model returns a single number for an image, whose cosine is always 1 or -1; "
                "return a feature vector, or declare needs='image'"
            )
        if not features.any():
            return f"{card.model} gives features of length 0, which have no cosine"
    return ""


def by_name(*cards: MetricCard) -> Mapping[str, MetricCard]:
    """Return the registry of these cards, in their order.

    Raises:
        ValueError: two have the same name, or share a model's name but not what it is.
    """
    registry: dict[str, MetricCard] = {}
    models: dict[str, Source | None] = {}
    for card in cards:
        if card.name in registry:
            raise ValueError(f"two metrics are called {card.name!r}")
        if models.setdefault(card.model, card.weights) != card.weights:
            raise ValueError(f"metric {card.name!r}: another metric already means other weights by {card.model!r}")
        registry[card.name] = card
    return MappingProxyType(registry)


def pick(registry: Mapping[str, MetricCard], names: Sequence[str]) -> list[MetricCard]:
    """Return the cards called `names`, in the registry's order, each once; raise a UserError that names the known ones."""
    for name in names:
        if name not in registry:
            raise unknown("no metric", name, registry)
    return [card for name, card in registry.items() if name in names]
