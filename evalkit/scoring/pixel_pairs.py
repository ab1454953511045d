"""Pictures that are compared pixel by pixel: each waits, decoded, until all its partners have come by."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evalkit.metric_spec.metric_card import PairEncoder
from evalkit.run.feature_cache import FeatureStore

if TYPE_CHECKING:
    from torch import Tensor

# sha256 of the pictures that one is compared with; a picture whose bytes two arms share is its own partner
Partners = frozenset[str]


def pair_key(left: str, right: str) -> str:
    """Return what names the score of two pictures in a store, in whatever order they are given."""
    return "~".join(sorted((left, right)))


def partners(pairs: Iterable[tuple[str, str]]) -> Mapping[str, Partners]:
    """Return for every picture of some pairs those it is compared with."""
    found: dict[str, set[str]] = {}
    for left, right in pairs:
        found.setdefault(left, set()).add(right)
        found.setdefault(right, set()).add(left)
    return {key: frozenset(others) for key, others in found.items()}


def lacking(store: FeatureStore, recipe: str, key: str, others: Iterable[str]) -> set[str]:
    """Return the pictures whose score with this one is not in the store."""
    keys = {other: pair_key(key, other) for other in others}
    there = store.get(recipe, list(keys.values()))
    return {other for other, pair in keys.items() if pair not in there}


class PairMatcher:
    """Decoded pictures that wait for partners of one model; a picture goes as soon as it was compared with all of them."""

    def __init__(self, encoder: PairEncoder, store: FeatureStore) -> None:
        """Begin with nobody waiting."""
        self.encoder, self.store = encoder, store
        self.waiting: dict[str, tuple[Tensor, set[str]]] = {}
        self.gone: set[str] = set()

    def add(self, key: str, tensor: "Tensor", others: Partners) -> tuple[int, Sequence[str]]:
        """Compare a picture with the partners that wait; return how many it was compared with, and those of another size."""
        recipe = self.encoder.recipe.key
        _, before = self.waiting.get(key, (tensor, set()))
        wanted = lacking(self.store, recipe, key, others | before) - self.gone
        self.waiting[key] = (tensor, wanted)
        fresh, unequal = {}, []
        for other in sorted(wanted & self.waiting.keys()):
            theirs, still = self.waiting[other]
            if theirs.shape == tensor.shape:
                left, right = (tensor, theirs) if key <= other else (theirs, tensor)
                fresh[pair_key(key, other)] = np.array([self.encoder.compare(left, right)], dtype=np.float32)
            else:
                unequal.append(other)
            wanted.discard(other)
            still.discard(key)
            if not still:
                del self.waiting[other]
        if not wanted:
            self.waiting.pop(key, None)
        self.store.put(recipe, fresh)
        return len(fresh), unequal

    def lose(self, key: str, others: Partners) -> None:
        """Let nobody wait for a picture that can't be read."""
        self.gone.add(key)
        for other in others:
            if other in self.waiting:
                self.waiting[other][1].discard(key)
                if not self.waiting[other][1]:
                    del self.waiting[other]
