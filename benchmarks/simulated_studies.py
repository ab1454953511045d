"""Simulated studies whose truth is known, many at once: one design, and a column of votes or differences per study.

Effects are redrawn for every study, in logits for votes and in units of the metric for metrics. Cases, participants and their
assignment are those of the design. Without a shift the arms are equally good in the population of whatever the scope names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import special, stats

from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.scoped_variance import DependentRows
from analysis.planning.precision import NODES, WEIGHTS, Spread

Kind = Literal["votes", "metric", "choices"]
Distribution = Literal["normal", "t3", "lognormal"]
Sets = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SimulatedDesign:
    """Sets of concepts, seeds per set, and who judges what: `participants` is 0 for a metric."""

    sets: Sets
    seeds: int = 1
    participants: int = 0
    votes: int = 5
    loads: tuple[float, ...] = ()
    """How much of the votes each participant gives, relative to the others; empty for equal parts."""

    def rows(self, rng: np.random.Generator) -> DependentRows:
        """Return the rows of the design, with a random assignment of participants."""
        comparisons = len(self.sets) * self.seeds
        per = self.votes if self.participants else 1
        comparison = np.repeat(np.arange(comparisons), per)
        members = tuple(frozenset(held) for held in self.sets)
        sets = ConceptSets(np.repeat(np.arange(len(self.sets)), self.seeds * per), members)
        return DependentRows(comparison, sets, self._assign(comparisons, rng) if self.participants else None)

    def _assign(self, comparisons: int, rng: np.random.Generator) -> Codes:
        if not self.loads:
            return np.argsort(rng.random((comparisons, self.participants)), axis=1)[:, : self.votes].ravel()
        # each gets their part of all votes; nobody's votes are spread more evenly than by chance
        total = comparisons * self.votes
        share = np.array(self.loads) / sum(self.loads)
        counts = np.maximum(1, np.floor(share * total)).astype(np.int64)
        order = np.repeat(np.arange(self.participants), counts)
        more = rng.choice(self.participants, max(0, total - len(order)), p=share)
        return rng.permutation(np.concatenate([order, more]))[:total]


def pairs(concepts: int) -> Sets:
    """Return all pairs of concepts."""
    return tuple(combinations(range(concepts), 2))


def some_sets(concepts: int, together: int, count: int, seed: int = 0) -> Sets:
    """Return `count` random sets of `together` concepts that use every concept."""
    everything = list(combinations(range(concepts), together))
    rng = np.random.default_rng(seed)
    while True:
        chosen = tuple(everything[place] for place in sorted(rng.permutation(len(everything))[:count]))
        if len({concept for held in chosen for concept in held}) == concepts:
            return chosen


def ring(concepts: int) -> Sets:
    """Return pairs of neighbours on a ring."""
    return tuple((place, (place + 1) % concepts) for place in range(concepts))


def hub(partners: int, extra: int) -> Sets:
    """Return the pairs of one concept with all others, and `extra` pairs of the others."""
    return tuple((0, other) for other in range(1, partners + 1)) + tuple((2 * i + 1, 2 * i + 2) for i in range(extra))


def bipartite(left: int, right: int) -> Sets:
    """Return every pair of a concept on the left with one on the right, such as subjects and styles."""
    return tuple((one, left + other) for one in range(left) for other in range(right))


@dataclass(frozen=True)
class Truth:
    """What makes the rows differ, and what is true: standard deviations, fixed effects of cases, ties, a shift."""

    spread: Spread
    distribution: Distribution = "normal"
    ties: float = 0.0
    cases: tuple[float, ...] = ()
    """Fixed logits of the cases in place of random ones of concepts and sets; their mean vote must be one half."""
    without_effect: tuple[int, ...] = ()
    """Concepts that have no effect, since the scope does not generalise over them."""
    people: tuple[float, ...] = ()
    """Fixed logits of the participants in place of random ones."""

    def studies(self, rows: DependentRows, kind: Kind, count: int, shift: float, rng: np.random.Generator) -> Floats:
        """Return one column per study: votes of 0, .5 and 1, or differences."""
        if kind == "choices":
            chosen = [self._linear(rows, count, rng) + (shift if arm == 0 else 0.0) for arm in range(4)]
            noise = rng.gumbel(size=(4, len(rows.comparison), count))
            best = np.argmax(np.array(chosen) + noise, axis=0)
            return (best == 0).astype(np.float64) - (best == 1)
        linear = self._linear(rows, count, rng) + shift
        if kind == "metric":
            return linear + self._effects(len(rows.comparison), self.spread.comparison, count, rng)
        votes = (rng.random(linear.shape) < special.expit(linear)).astype(np.float64)
        if self.ties:
            votes[rng.random(votes.shape) < self.ties] = 0.5
        return votes

    def mean(self, kind: Kind, shift: float, together: int) -> float | None:
        """Return the true mean of the rows; None where it has no closed form here."""
        if shift == 0.0:
            return 0.5 if kind == "votes" else 0.0
        if kind == "metric":
            return shift
        if kind == "choices" or self.distribution != "normal" or self.cases:
            return None
        spread = self.spread
        variance = together * spread.concept**2 + spread.pair**2 + spread.comparison**2 + spread.participant**2
        share = float(WEIGHTS @ special.expit(shift + variance**0.5 * NODES) / WEIGHTS.sum())
        return 0.5 + (share - 0.5) * (1.0 - self.ties)

    def _effects(self, levels: int, deviation: float, count: int, rng: np.random.Generator) -> Floats:
        size = (levels, count)
        if self.distribution == "t3":
            return deviation / 3**0.5 * rng.standard_t(3, size)
        if self.distribution == "lognormal":
            return deviation / float(stats.lognorm.std(1.0)) * (rng.lognormal(size=size) - float(stats.lognorm.mean(1.0)))
        return deviation * rng.standard_normal(size)

    def _linear(self, rows: DependentRows, count: int, rng: np.random.Generator) -> Floats:
        spread, codes = self.spread, rows.sets.codes
        if self.cases:
            linear = np.array(self.cases)[codes][:, None] * np.ones(count)
        else:
            of_concept = self._effects(rows.sets.incidence.shape[1], spread.concept, count, rng)
            of_concept[list(self.without_effect)] = 0.0
            linear = (rows.sets.incidence @ of_concept + self._effects(len(rows.sets.members), spread.pair, count, rng))[codes]
        if rows.participant is None:
            return linear
        linear = linear + self._effects(rows.comparisons, spread.comparison, count, rng)[rows.comparison]
        if self.people:
            return linear + np.array(self.people)[rows.participant][:, None]
        return linear + self._effects(int(rows.participant.max()) + 1, spread.participant, count, rng)[rows.participant]


Sampler = Callable[[float, int, np.random.Generator], Floats]
