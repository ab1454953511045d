"""Crossed random effects: the penalised Hessian of a mixed model, factored along its nested terms.

scipy has no sparse Cholesky factorisation. Votes need none: the levels of a term without multiple membership never meet in a
vote, so its block is diagonal; where cases nest in pairs, eliminating the cases leaves the pairs' block diagonal too. What
remains (participants, concepts) is small and dense. Of the inverse, only the entries are wanted where the Hessian is not zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, sparse

from analysis.inference.concept_sets import Codes, Floats
from evalkit.errors import UserError

ABSENT = -1


def _sums(codes: Codes, values: Floats, count: int) -> Floats:
    """Return the sum of `values` for each of the codes 0 to `count` - 1 (numpy gives integers if there are no rows)."""
    return np.bincount(codes, values, count).astype(np.float64, copy=False)


@dataclass(frozen=True)
class RandomTerm:
    """One random intercept: a normal effect for every level of `name`.

    `codes` is one level per row, or, for multiple membership (the concepts of a case), one column per member, whose effects
    add up; -1 there means no further member.
    """

    name: str
    codes: Codes


@dataclass(frozen=True)
class _Link:
    """One eliminated term: where its levels meet the terms that are eliminated later."""

    codes: Codes
    levels: int
    parents: dict[int, Codes]
    """The level of each later eliminated term that holds a level of this one, by that term's place."""
    rows: Codes
    columns: Codes
    """Level of this term and column of the dense remainder, for each of their meetings."""
    starts: Codes
    place: Codes
    """Which meeting each member of each row is, of shape (rows, members)."""
    inherited: dict[int, Codes]
    """Which meeting of a later eliminated term holds each of these meetings."""


@dataclass(frozen=True)
class RandomEffectsDesign:
    """The terms in the order of elimination: a nested chain first, then the dense remainder.

    The columns of the random effects follow `names`; a last column, without variance, represents absent members.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    chain: tuple[_Link, ...]
    members: Codes
    """Column of the remainder of each member, of shape (rows, members)."""
    remainder: int
    indicator: sparse.csr_array
    """Which effects each row adds up, of shape (rows, columns)."""

    @cached_property
    def transposed(self) -> sparse.csr_array:
        """Return the indicator with its rows and columns exchanged, stored by rows."""
        return sparse.csr_array(self.indicator.T)

    @cached_property
    def term_of_column(self) -> Codes:
        """Return the place of each column's term; the column of absent members has the place after the last."""
        spare = self.indicator.shape[1] - sum(self.sizes)
        return np.repeat(np.arange(len(self.sizes) + 1), [*self.sizes, spare]).astype(np.int64)

    @cached_property
    def bounds(self) -> list[int]:
        """Return where each eliminated term's columns start, and where the remainder's do."""
        return [0, *np.cumsum([link.levels for link in self.chain]).tolist()]

    def spread(self, deviations: Floats) -> Floats:
        """Return each column's standard deviation."""
        return np.append(deviations, 0.0)[self.term_of_column]


def design_of(terms: Sequence[RandomTerm]) -> RandomEffectsDesign:
    """Return the design of `terms`; raise UserError for a term that no data of this shape can tell from the others."""
    levels, single = _levels(terms)
    order = sorted(single, key=lambda index: -(levels[index].max() + 1))
    chain = order[:1]
    for index in order[1:]:
        inner, outer = levels[chain[-1]][:, 0], levels[index][:, 0]
        pairs = np.unique(inner * (outer.max() + 1) + outer)
        if len(pairs) == inner.max() + 1:
            if len(pairs) == outer.max() + 1:
                same = f"{terms[chain[-1]].name!r} and {terms[index].name!r}"
                raise UserError(f"random effects: {same} group the rows in the same way; leave one of them out")
            chain.append(index)
    rest = [index for index in range(len(terms)) if index not in chain]
    return _assemble(terms, levels, chain, rest)


def _levels(terms: Sequence[RandomTerm]) -> tuple[list[Codes], list[int]]:
    """Return each term's levels as 0, 1, 2, ... of shape (rows, members), and which terms have one member everywhere."""
    if not terms:
        raise UserError("random effects: no term was given; give at least one, or use a plain logistic regression")
    levels, single = [], []
    for index, term in enumerate(terms):
        codes = term.codes.reshape(len(term.codes), -1)
        known, inverse = np.unique(codes, return_inverse=True)
        inverse = inverse.reshape(codes.shape).astype(np.int64) - int(known[0] == ABSENT)
        if inverse.max() < 1:
            raise UserError(f"random effects: {term.name!r} has one level only; at least two are needed, so leave it out")
        if codes.shape[1] == 1 and known[0] != ABSENT:
            single.append(index)
        levels.append(inverse)
    return levels, single


def _assemble(terms: Sequence[RandomTerm], levels: list[Codes], chain: list[int], rest: list[int]) -> RandomEffectsDesign:
    rows = len(terms[0].codes)
    sizes = [int(codes.max()) + 1 for codes in levels]
    blocks, width = [], 0
    for index in rest:
        blocks.append(np.where(levels[index] < 0, ABSENT, levels[index] + width))
        width += sizes[index]
    members = np.concatenate([np.empty((rows, 0), np.int64), *blocks], axis=1)
    if np.any(members == ABSENT):
        members[members == ABSENT] = width
        width += 1
    codes = [levels[index][:, 0] for index in chain]
    links: list[_Link] = []
    keys_of: dict[int, Codes] = {}
    for index in reversed(range(len(chain))):
        count = sizes[chain[index]]
        keys, where = np.unique(codes[index][:, None] * max(width, 1) + members, return_inverse=True)
        level, column = np.divmod(keys, max(width, 1))
        first = np.zeros(count, np.int64)
        first[codes[index]] = np.arange(rows)
        parents = {later: codes[later][first] for later in range(index + 1, len(chain))}
        inherited = {
            later: np.searchsorted(keys_of[later], parent[level] * max(width, 1) + column) for later, parent in parents.items()
        }
        keys_of[index] = keys
        starts = np.searchsorted(level, np.arange(count + 1))
        links.append(_Link(codes[index], count, parents, level, column, starts, where.reshape(members.shape), inherited))
    links.reverse()
    offsets = np.cumsum([0] + [link.levels for link in links])
    columns = np.concatenate([np.stack(codes, 1) + offsets[:-1], members + offsets[-1]], axis=1) if codes else members
    shape = (rows, int(offsets[-1]) + width)
    indicator = sparse.csr_array(
        (np.ones(columns.size), (np.repeat(np.arange(rows), columns.shape[1]), columns.ravel())), shape
    )
    order = [*chain, *rest]
    return RandomEffectsDesign(
        tuple(terms[index].name for index in order),
        tuple(sizes[index] for index in order),
        tuple(links),
        members,
        width,
        indicator,
    )


@dataclass(frozen=True)
class Factor:
    """H = I + S Z'WZ S, factored: Z the design's indicator, W the rows' weights, S the columns' standard deviations."""

    design: RandomEffectsDesign
    deviations: Floats
    pivots: tuple[Floats, ...]
    couplings: tuple[dict[int, Floats], ...]
    """For each eliminated term, its levels' entries with the later eliminated terms, after elimination."""
    meetings: tuple[Floats, ...]
    """The same with the remainder, one value per meeting."""
    lower: Floats
    """Cholesky factor of what is left of the remainder."""

    @property
    def log_determinant(self) -> float:
        """Return log |H|."""
        return sum(float(np.log(pivot).sum()) for pivot in self.pivots) + 2.0 * float(np.log(np.diag(self.lower)).sum())

    def _crossing(self, index: int, scale: Floats) -> sparse.csr_array:
        link = self.design.chain[index]
        values = self.meetings[index] * scale[link.rows]
        return sparse.csr_array((values, link.columns, link.starts), shape=(link.levels, self.design.remainder))

    def solve(self, right: Floats) -> Floats:
        """Return x in H x = `right`, one value per column."""
        design = self.design
        parts = [part.copy() for part in np.split(right, design.bounds[1:])]
        for index, link in enumerate(design.chain):
            scaled = parts[index] / self.pivots[index]
            for later, parent in link.parents.items():
                parts[later] -= _sums(parent, self.couplings[index][later] * scaled, len(parts[later]))
            parts[-1] -= _sums(link.columns, self.meetings[index] * scaled[link.rows], design.remainder)
        if design.remainder:
            parts[-1] = linalg.cho_solve((self.lower, True), parts[-1], check_finite=False)
        for index in reversed(range(len(design.chain))):
            link = design.chain[index]
            value = parts[index] - _sums(link.rows, self.meetings[index] * parts[-1][link.columns], link.levels)
            for later, parent in link.parents.items():
                value -= self.couplings[index][later] * parts[later][parent]
            parts[index] = value / self.pivots[index]
        return np.concatenate(parts)

    def variances(self) -> tuple[Floats, Floats]:
        """Return a'H^-1 a for every row a of Z S, and the trace of H^-1 over the columns of each term.

        The entries of the inverse come from the last block to the first (Takahashi, Fagan and Chin 1973).
        """
        design, depth = self.design, len(self.design.chain)
        deviation = design.spread(self.deviations)[design.bounds[-1] :]
        dense = (
            linalg.cho_solve((self.lower, True), np.eye(design.remainder), check_finite=False)
            if design.remainder
            else self.lower
        )
        diagonal: dict[int, Floats] = {}
        coupled: dict[tuple[int, int], Floats] = {}
        met: dict[int, Floats] = {}
        rows = np.zeros(len(design.members))
        for index in reversed(range(depth)):
            link, inverse = design.chain[index], -1.0 / self.pivots[index]
            meeting, couplings = self.meetings[index], self.couplings[index]
            cross = np.asarray(self._crossing(index, np.ones(link.levels)) @ dense)[link.rows, link.columns]
            for later in link.parents:
                cross += couplings[later][link.rows] * met[later][link.inherited[later]]
            met[index] = cross * inverse[link.rows]
            for later in link.parents:
                total = _sums(link.rows, meeting * met[later][link.inherited[later]], link.levels)
                for other, parent in link.parents.items():
                    entry = diagonal[later] if other == later else coupled[min(later, other), max(later, other)]
                    total += couplings[other] * entry[link.parents[min(later, other)] if other != later else parent]
                coupled[index, later] = total * inverse
            total = _sums(link.rows, meeting * met[index], link.levels)
            for later in link.parents:
                total += couplings[later] * coupled[index, later]
            diagonal[index] = (total - 1.0) * inverse
            own = self.deviations[index]
            rows += own**2 * diagonal[index][link.codes]
            for later in link.parents:
                rows += 2.0 * own * self.deviations[later] * coupled[index, later][link.codes]
            rows += 2.0 * own * (met[index][link.place] * deviation[design.members]).sum(1)
        scaled = dense * np.outer(deviation, deviation)
        for left in range(design.members.shape[1]):
            for right in range(design.members.shape[1]):
                rows += scaled[design.members[:, left], design.members[:, right]]
        whole = np.concatenate([*(diagonal[index] for index in range(depth)), np.diag(dense)])
        return rows, _sums(design.term_of_column, whole, len(design.sizes) + 1)[:-1]


def factorize(design: RandomEffectsDesign, weights: Floats, deviations: Floats) -> Factor:
    """Return H for the rows' `weights` and the terms' standard `deviations`, factored."""
    width = design.remainder
    spread = design.spread(deviations)[design.bounds[-1] :]
    held = design.members.shape[1]
    cells = (design.members[:, :, None] * width + design.members[:, None, :]).ravel()
    dense = _sums(cells, np.repeat(weights, held * held), width * width).reshape(width, width)
    dense = dense * np.outer(spread, spread) + np.eye(width)
    pivots, couplings, meetings = [], [], []
    for index, link in enumerate(design.chain):
        own = float(deviations[index])
        total = _sums(link.codes, weights, link.levels)
        pivots.append(1.0 + own**2 * total)
        couplings.append({later: own * float(deviations[later]) * total for later in link.parents})
        met = _sums(link.place.ravel(), np.repeat(weights, held), len(link.rows))
        meetings.append(own * met * spread[link.columns])
    for index, link in enumerate(design.chain):
        for later, parent in link.parents.items():
            ratio = couplings[index][later] / pivots[index]
            pivots[later] -= _sums(parent, couplings[index][later] * ratio, len(pivots[later]))
            meetings[later] -= _sums(link.inherited[later], ratio[link.rows] * meetings[index], len(meetings[later]))
            for other in design.chain[later].parents:
                couplings[later][other] -= _sums(parent, ratio * couplings[index][other], len(couplings[later][other]))
        values = meetings[index] / np.sqrt(pivots[index])[link.rows]
        crossing = sparse.csr_array((values, link.columns, link.starts), shape=(link.levels, width))
        dense = dense - np.asarray((crossing.T @ crossing).toarray(), np.float64)
    lower = linalg.cholesky(dense, lower=True, check_finite=False) if width else dense
    return Factor(design, deviations, tuple(pivots), tuple(couplings), tuple(meetings), lower)
