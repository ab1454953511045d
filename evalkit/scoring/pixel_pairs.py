"""Images that are compared pixel by pixel: each waits, decoded, until all its partners have come by."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import UserError
from evalkit.metric_spec.metric_card import PairEncoder
from evalkit.run.feature_cache import Features, FeatureStore
from evalkit.scoring.model_calls import build_net, compare

if TYPE_CHECKING:
    from torch import Tensor

# sha256 of the images that one is compared with; an image whose bytes two arms share is its own partner
Partners = frozenset[str]
NO_PARTNERS: Partners = frozenset()


def pair_key(left: str, right: str) -> str:
    """Return what names the score of two images in a store, in whatever order they are given."""
    return "~".join(sorted((left, right)))


def partners(pairs: Iterable[tuple[str, str]]) -> Mapping[str, Partners]:
    """Return for every image of some pairs those it is compared with."""
    by_key: dict[str, set[str]] = {}
    for left, right in pairs:
        by_key.setdefault(left, set()).add(right)
        by_key.setdefault(right, set()).add(left)
    return {key: frozenset(others) for key, others in by_key.items()}


def lacking(store: FeatureStore, recipe: str, key: str, others: Iterable[str]) -> set[str]:
    """Return the images whose score with this one is not in the store."""
    keys = {other: pair_key(key, other) for other in others}
    stored = store.get(recipe, list(keys.values()))
    return {other for other, pair in keys.items() if pair not in stored}


class PairMatcher:
    """Decoded images that wait for partners of one model; an image goes as soon as it was compared with all of them."""

    def __init__(self, name: str, encoder: PairEncoder, store: FeatureStore) -> None:
        """Start with no image waiting; `name` is the model's in messages."""
        self.name, self.encoder, self.store = name, encoder, store
        self.built = False
        self.waiting: dict[str, tuple[Tensor, set[str]]] = {}
        self.gone: set[str] = set()

    def add(self, key: str, tensor: "Tensor", others: Partners) -> tuple[int, Sequence[str], Sequence[str]]:
        """Compare an image with the partners that wait.

        Returns:
            How many it was compared with; the partners of another size; and a line for each comparison that failed.
        """
        if not self.built:
            build_net(self.name, self.encoder)
            self.built = True
        recipe = self.encoder.recipe.key
        _, before = self.waiting.get(key, (tensor, set()))
        wanted = lacking(self.store, recipe, key, others | before) - self.gone
        self.waiting[key] = (tensor, wanted)
        fresh: dict[str, Features] = {}
        unequal: list[str] = []
        failures: list[str] = []
        for other in sorted(wanted & self.waiting.keys()):
            theirs, still = self.waiting[other]
            if theirs.shape == tensor.shape:
                left, right = (tensor, theirs) if key <= other else (theirs, tensor)
                try:
                    value = compare(self.name, self.encoder, left, right)
                    if math.isnan(value):
                        raise UserError(
                            f"{self.name} gives no number for it and another image; mend the metric, or leave it out"
                        )
                    fresh[pair_key(key, other)] = np.array([value], dtype=np.float32)
                except UserError as error:
                    failures.append(str(error))
            else:
                unequal.append(other)
            wanted.discard(other)
            still.discard(key)
            if not still:
                del self.waiting[other]
        if not wanted:
            self.waiting.pop(key, None)
        self.store.put(recipe, fresh)
        return len(fresh), unequal, failures

    def lose(self, key: str, others: Partners) -> None:
        """Release all that wait for an unreadable image."""
        self.gone.add(key)
        for other in others:
            if other in self.waiting:
                self.waiting[other][1].discard(key)
                if not self.waiting[other][1]:
                    del self.waiting[other]
