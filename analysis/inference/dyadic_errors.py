"""The variance of a mean whose rows share concepts, participants and comparisons.

Two rows are dependent where they share a participant or at least one concept: 30 concepts make 435 pairs, and each concept sits
in 29 of them. Treating the rows as independent understates the error of a study of that size fivefold.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

# Fewer concepts cannot be treated as a sample: with four of them the residuals of all pairs nearly cancel.
MIN_CONCEPTS = 5
# Where the residuals hold less than this part of the variance that concepts cause, nothing can be learnt from them.
LEAST_LEFT = 0.1
# With simulated concept effects of .5 logit a nominal 5 % test is wrong in 7 to 8 % of studies of 8 concepts.
RELIABLE_CONCEPTS = 20


def codes_of(values: Sequence[Hashable]) -> Codes:
    """Return 0, 1, 2, ... in the order in which the values first appear."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


@dataclass(frozen=True)
class ConceptSets:
    """Which concepts every row is about.

    `codes` holds the set of each row, `members` the concepts of each set. A row may be about any number of concepts; a set
    without concepts shares nothing with any other.
    """

    codes: Codes
    members: tuple[frozenset[Hashable], ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Hashable]], names: Sequence[Hashable] | None = None) -> "ConceptSets":
        """Return the sets of `rows`, one collection of concepts per row.

        Where `names` (one per row: its case) is given, a row without concepts stands for its case alone.
        """
        sets = [frozenset(row) for row in rows]
        if names is not None:
            sets = [held or frozenset([("case", name)]) for held, name in zip(sets, names, strict=True)]
        members = tuple(dict.fromkeys(sets))
        place = {held: code for code, held in enumerate(members)}
        return cls(np.array([place[held] for held in sets], dtype=np.int64), members)

    def take(self, rows: Codes | NDArray[np.bool_]) -> "ConceptSets":
        """Return the sets of some of the rows."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        return ConceptSets(codes.astype(np.int64), tuple(self.members[code] for code in present))

    @cached_property
    def concepts(self) -> int:
        """Return how many different concepts there are."""
        return len({concept for held in self.members for concept in held})

    @cached_property
    def word(self) -> str:
        """Return what to call a set: `pairs` where all hold two concepts."""
        return "pairs" if all(len(held) == 2 for held in self.members) else "concept sets"

    @cached_property
    def generalises(self) -> bool:
        """Return whether the concepts can stand for others: enough of them, in enough sets, and none in every set."""
        enough = min(self.concepts, len(self.members)) >= MIN_CONCEPTS
        return enough and not frozenset.intersection(*self.members) and self.dyadic_factor is not None

    @cached_property
    def dyadic_factor(self) -> float | None:
        """Return what makes the dyadic variance unbiased under concept effects, or None where hardly anything of it is left.

        For independent effects of the concepts: the variance of the sum of the rows, over what `meat` of their residuals is
        expected to be. That is K (K - 1) / ((K - 2) (K - 3)) where all pairs of K concepts are equally frequent (there also
        under effects of pairs), and K / (K - 1) where every row is about one of K concepts, equally often.
        """
        rows = np.bincount(self.codes, minlength=len(self.members)).astype(np.float64)
        names = {concept: place for place, concept in enumerate(dict.fromkeys(c for held in self.members for c in held))}
        place = [(row, names[concept]) for row, held in enumerate(self.members) for concept in held]
        if not place:
            return None
        holder, concept = np.array(place, dtype=np.int64).T
        holds = sparse.csr_array((np.ones(len(place)), (holder, concept)), shape=(len(rows), len(names)))
        _, ids, signs, counts = self._subsets
        inside = (ids, np.repeat(np.arange(len(rows)), counts))
        within = sparse.csr_array((np.ones(len(ids)), inside), shape=(len(signs), len(rows)))
        together = sparse.csr_array(within @ sparse.diags_array(rows) @ holds)
        of_concept, of_subset = holds.T @ rows, within @ rows
        share = of_concept / rows.sum()
        squares = together.power(2).sum(axis=1) - 2.0 * of_subset * (together @ share) + of_subset**2 * float(share @ share)
        expected, true = float(signs @ squares), float(of_concept @ of_concept)
        return true / expected if expected > LEAST_LEFT * true else None

    @cached_property
    def _subsets(self) -> tuple[Codes, Codes, Floats, Codes]:
        """Return, for each set, its non-empty subsets: starts, their ids, the sign of each id, and how many per set."""
        known: dict[frozenset[Hashable], int] = {}
        signs: list[float] = []
        ids: list[int] = []
        counts: list[int] = []
        for held in self.members:
            ordered = sorted(held, key=repr)
            found = [frozenset(some) for size in range(1, len(ordered) + 1) for some in combinations(ordered, size)]
            for subset in found:
                if subset not in known:
                    known[subset] = len(known)
                    signs.append(1.0 if len(subset) % 2 else -1.0)
                ids.append(known[subset])
            counts.append(len(found))
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        return starts, np.array(ids, dtype=np.int64), np.array(signs), np.array(counts, dtype=np.int64)

    def meat(self, residuals: Floats, within: Codes | None = None) -> float:
        """Return the sum of r_i r_j over all ordered pairs of rows that share at least one concept (and their `within`).

        For sets of two this is sum_c S_c^2 - sum_p E_p^2, S the residual sums by concept and E those by pair (Aronow, Samii and
        Assenova 2015, arXiv 1312.3398); inclusion and exclusion over the subsets extends it to sets of any size. O(rows).
        """
        outer = np.zeros(len(residuals), dtype=np.int64) if within is None else within
        cells, cell = np.unique(outer * len(self.members) + self.codes, return_inverse=True)
        totals = np.bincount(cell, weights=residuals)
        groups, held = np.divmod(cells, len(self.members))
        starts, ids, signs, counts = self._subsets
        repeats = counts[held]
        offsets = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        subset = ids[np.repeat(starts[held], repeats) + offsets]
        keys, key = np.unique(np.repeat(groups, repeats) * len(signs) + subset, return_inverse=True)
        sums = np.bincount(key, weights=np.repeat(totals, repeats))
        return float(np.sum(signs[keys % len(signs)] * sums**2))


def cluster_meat(residuals: Floats, codes: Codes) -> float:
    """Return the sum over clusters of the squared sum of their residuals."""
    return float(np.sum(np.bincount(codes, weights=residuals) ** 2))


def correct(variance: float, count: int) -> float:
    """Return the variance times G / (G - 1), the usual correction for G clusters."""
    return variance * count / (count - 1) if count > 1 else variance


@dataclass(frozen=True, slots=True)
class Robust:
    """The variance of a mean, the degrees of freedom of its t, and what it generalises to."""

    variance: float
    df: int
    scope: tuple[str, ...]
    clusters: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]

    @property
    def standard_error(self) -> float:
        """Return the square root of the variance."""
        return math.sqrt(self.variance)


def robust_variance(values: Floats, comparison: Codes, sets: ConceptSets, participant: Codes | None) -> Robust | None:
    """Return the variance of the mean of `values` under the widest scope the design allows; None where it allows none.

    With enough of everything this is the max-rule
    V = max(V_pair + V_participant - V_both, V_dyad + V_participant - V_both', V_pair, V_participant), referred to a t with
    min(concepts, pairs, participants) - 1 degrees of freedom where the dyadic term is the largest, else min(pairs,
    participants) - 1. Its parts are the clustered variances of Cameron, Gelbach and Miller (2011) and the dyadic one of
    Aronow, Samii and Assenova (2015). Taking the largest is this project's own rule, justified by simulation
    (docs/statistics.md), not by a paper: the dyadic part alone rejects too often where concepts do not matter.
    V_dyad is made unbiased by `ConceptSets.dyadic_factor`, the others by G / (G - 1).
    Without participants (metrics) it is max(V_pair, V_dyad). Levels with too few members are left out and named in the notes.
    """
    residuals = values - values.mean()
    scale = 1.0 / len(values) ** 2
    people = 0 if participant is None else len(np.unique(participant))
    pairs, items = len(np.unique(sets.codes)), len(np.unique(comparison))
    with_people, with_pairs = people > 1, pairs > 1
    with_concepts = sets.generalises
    item = sets.codes if with_pairs else comparison
    level, count = (sets.word, pairs) if with_pairs else ("comparisons", items)

    plain: list[float] = []
    counts: list[int] = []
    v_people = correct(cluster_meat(residuals, participant) * scale, people) if with_people and participant is not None else 0.0
    if with_people:
        plain.append(v_people)
        counts.append(people)
    if count > 1:
        both = _both(residuals, participant, item) * scale if with_people and participant is not None else 0.0
        v_item = correct(cluster_meat(residuals, item) * scale, count)
        plain += [v_item, v_item + v_people - both]
        counts.append(count)
    if not plain:
        return None
    variance, df = max(0.0, *plain), min(counts) - 1
    if with_concepts:
        both = sets.meat(residuals, within=participant) * scale if with_people else 0.0
        dyadic = (sets.dyadic_factor or 1.0) * sets.meat(residuals) * scale + v_people - both
        if dyadic >= variance:
            variance, df = dyadic, min(sets.concepts, *counts) - 1
    scope: tuple[str, ...] = ("seeds",) if items > 1 else ()
    scope += (sets.word,) if with_pairs else ()
    scope += ("concepts",) if with_concepts else ()
    scope += ("participants",) if with_people else ()
    named = (("concepts", sets.concepts), (level, count)) + ((("participants", people),) if participant is not None else ())
    notes = _cautions(sets, people if participant is not None else None)
    return Robust(variance, df, scope, named, notes)


def _both(residuals: Floats, participant: Codes, item: Codes) -> float:
    keys, key = np.unique(participant * (item.max() + 1) + item, return_inverse=True)
    return correct(cluster_meat(residuals, key.astype(np.int64)), len(keys))


def _cautions(sets: ConceptSets, people: int | None) -> tuple[str, ...]:
    notes = []
    if len(sets.members) < 2:
        notes.append("All rows are about the same concepts, so nothing is said about other concepts.")
    elif not sets.generalises:
        fewest, name = min((sets.concepts, "concepts"), (len(sets.members), sets.word))
        if fewest < MIN_CONCEPTS:
            why = f"{fewest} {name} are too few to stand for other concepts ({MIN_CONCEPTS} are needed)"
        elif frozenset.intersection(*sets.members):
            why = "One concept is in every case"
        else:
            why = "Nearly every two cases share a concept"
        notes.append(f"{why}, so the result holds for these concepts alone.")
    elif sets.concepts < RELIABLE_CONCEPTS:
        notes.append(
            f"With {sets.concepts} concepts, fewer than {RELIABLE_CONCEPTS}, a test at 5 % can be wrong in up to 8 % of "
            "studies: a p just below .05 is weak evidence."
        )
    if people == 1:
        notes.append("One participant judged, so nothing is said about other people.")
    elif people is not None and people < MIN_CONCEPTS:
        notes.append(f"{people} participants judged; no number of votes makes up for so few.")
    return tuple(notes)
