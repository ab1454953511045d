"""The concepts that rows are about, and sums over rows that share one."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

# With fewer concepts the verdict is about the cases of the run; what holds for others is stated next to it.
MIN_CONCEPTS = 5
# If the residuals hold less than this part of the variance that concepts cause, nothing can be estimated from them.
LEAST_LEFT = 0.1


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

        If `names` (one per row: its case) is given, a row without concepts represents its case alone.
        """
        sets = [frozenset(row) for row in rows]
        if names is not None:
            sets = [held or frozenset([("case", name)]) for held, name in zip(sets, names, strict=True)]
        members = tuple(dict.fromkeys(sets))
        code_of = {held: code for code, held in enumerate(members)}
        return cls(np.array([code_of[held] for held in sets], dtype=np.int64), members)

    def take(self, rows: Codes | NDArray[np.bool_]) -> "ConceptSets":
        """Return the sets of some of the rows."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        return ConceptSets(codes.astype(np.int64), tuple(self.members[code] for code in present))

    @cached_property
    def ordered_members(self) -> tuple[tuple[Hashable, ...], ...]:
        """Return the concepts of each set in an order that is the same in every process; that of a frozenset is not."""
        return tuple(tuple(sorted(held, key=repr)) for held in self.members)

    @cached_property
    def concepts(self) -> int:
        """Return how many different concepts there are."""
        return len({concept for held in self.members for concept in held})

    @cached_property
    def word(self) -> str:
        """Return what to call a set: `pairs` where all hold two concepts."""
        return "pairs" if all(len(held) == 2 for held in self.members) else "concept sets"

    @cached_property
    def common(self) -> frozenset[Hashable]:
        """Return the concepts that are in every set, if there are several sets: they are fixed, so they represent no others."""
        return frozenset.intersection(*self.members) if len(self.members) > 1 else frozenset()

    @cached_property
    def varying(self) -> "ConceptSets":
        """Return the sets without their common concepts; a set that has no others represents itself."""
        if all(self.members) and not self.common:
            return self
        members = [held - self.common for held in self.members]
        named = [held or frozenset([("set", code)]) for code, held in enumerate(members)]
        return ConceptSets(self.codes, tuple(named))

    @cached_property
    def estimable(self) -> bool:
        """Return whether an error for other concepts can be estimated, from however few."""
        return len(self.members) > 1 and self.varying.dyadic_factor is not None

    @cached_property
    def generalises(self) -> bool:
        """Return whether the verdict is about other concepts: there are enough of them, in enough sets."""
        return min(self.varying.concepts, len(self.members)) >= MIN_CONCEPTS and self.estimable

    @cached_property
    def dyadic_factor(self) -> float | None:
        """Return what makes the dyadic variance unbiased under concept effects, or None where hardly anything of it is left.

        For independent effects of the concepts: the variance of the sum of the rows, over what `meat` of their residuals is
        expected to be. That is K (K - 1) / ((K - 2) (K - 3)) where all pairs of K concepts are equally frequent (there also
        under effects of pairs), and K / (K - 1) where every row is about one of K concepts, equally often.
        """
        if not any(self.members):
            return None
        rows = np.bincount(self.codes, minlength=len(self.members)).astype(np.float64)
        together = sparse.csr_array(self.subsets @ sparse.diags_array(rows) @ self.incidence)
        of_concept, of_subset = self.incidence.T @ rows, self.subsets @ rows
        share = of_concept / rows.sum()
        squares = together.power(2).sum(axis=1) - 2.0 * of_subset * (together @ share) + of_subset**2 * float(share @ share)
        expected, true = float(self.signs @ squares), float(of_concept @ of_concept)
        return true / expected if expected > LEAST_LEFT * true else None

    @cached_property
    def incidence(self) -> sparse.csr_array:
        """Return which concepts each set holds, of shape (sets, concepts)."""
        named = dict.fromkeys(concept for held in self.ordered_members for concept in held)
        names = {concept: index for index, concept in enumerate(named)}
        cells = [(row, names[concept]) for row, held in enumerate(self.ordered_members) for concept in held]
        holder, concept = np.array(cells, dtype=np.int64).reshape(-1, 2).T
        return sparse.csr_array((np.ones(len(cells)), (holder, concept)), shape=(len(self.members), len(names)))

    @cached_property
    def subsets(self) -> sparse.csr_array:
        """Return which non-empty subsets of concepts each set holds, of shape (subsets, sets)."""
        _, ids, signs, counts = self._subsets
        columns = np.repeat(np.arange(len(self.members)), counts)
        return sparse.csr_array((np.ones(len(ids)), (ids, columns)), shape=(len(signs), len(self.members)))

    @property
    def signs(self) -> Floats:
        """Return the sign of each subset in the inclusion and exclusion: 1 for odd sizes, -1 for even ones."""
        return self._subsets[2]

    def shared_products(self, totals: Floats) -> Floats:
        """Return the sum of t_s t_u over all ordered pairs of sets that share a concept; `totals` is (sets, ...)."""
        return np.asarray(np.tensordot(self.signs, np.square(self.subsets @ totals), axes=1), np.float64)

    @cached_property
    def _subsets(self) -> tuple[Codes, Codes, Floats, Codes]:
        """Return, for each set, its non-empty subsets: starts, their ids, the sign of each id, and how many per set."""
        known: dict[frozenset[Hashable], int] = {}
        signs: list[float] = []
        ids: list[int] = []
        counts: list[int] = []
        for ordered in self.ordered_members:
            subsets = [frozenset(some) for size in range(1, len(ordered) + 1) for some in combinations(ordered, size)]
            for subset in subsets:
                if subset not in known:
                    known[subset] = len(known)
                    signs.append(1.0 if len(subset) % 2 else -1.0)
                ids.append(known[subset])
            counts.append(len(subsets))
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
