"""Dyadic standard errors: the variance of a mean whose rows share concepts, for cases of any number of concepts.

Thirty concepts make 435 pairs, and each concept is in 29 of them. The sum of products of residuals over rows that share a
concept (Aronow, Samii and Assenova 2015, arXiv 1312.3398) estimates the variance that concepts and their sets cause. Here it is
made unbiased for the design at hand and gets the degrees of freedom of that design (Satterthwaite 1946; Bell and McCaffrey
2002).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from analysis.inference.concept_sets import Codes, ConceptSets, Floats

# Part of the variance of the mean that concepts cause in the working model of the degrees of freedom. Less would be too timid
# if concepts matter, all of it wrong too often if they matter little (docs/statistics.md).
CONCEPT_PART = 0.85
# Above this many pairs of sets that share a concept the degrees of freedom are those of concept effects alone.
LARGEST_OVERLAP = 10_000_000
LARGEST_TABLE = 5_000_000


def cluster_meat(residuals: Floats, codes: Codes) -> float:
    """Return the sum over clusters of the squared sum of their residuals."""
    return float(np.sum(np.bincount(codes, weights=residuals) ** 2))


def correct(variance: float, count: int) -> float:
    """Return the variance times G / (G - 1), the usual correction for G clusters."""
    return variance * count / (count - 1) if count > 1 else variance


def cluster_factor(share: Floats) -> tuple[float, float]:
    """Return what makes a clustered variance unbiased, and its degrees of freedom, for clusters with these shares of the rows.

    For equal shares that is G / (G - 1) and G - 1. For one cluster with half of the rows among twenty it is 3.2 and 1.4.
    """
    second, third, fourth, fifth = (float(np.sum(share**power)) for power in (2, 3, 4, 5))
    expected = second - 2.0 * third + second**2
    if expected <= 1e-12:
        return 1.0, 0.0
    squares = (
        second**4
        + 2.0 * fourth * second
        - 4.0 * second**2 * third
        + 2.0 * third**2
        + fourth * (1.0 + 2.0 * second)
        - 4.0 * fifth
    )
    return second / expected, expected**2 / squares


@dataclass(frozen=True)
class DyadicDesign:
    """The dyadic variance expected from the design alone; `sets` are those without concepts that are in all of them.

    The variance of the mean is `factor` times the sum of products of the sets' residual totals (divided by all rows) over sets
    that share a concept. Two kinds of effects are told apart for its degrees of freedom: those of concepts, and those of sets
    (everything within them included).
    """

    sets: ConceptSets

    @cached_property
    def share(self) -> Floats:
        """Return the share of the rows that each set has."""
        rows = np.bincount(self.sets.codes, minlength=len(self.sets.members)).astype(np.float64)
        return np.asarray(rows / rows.sum(), np.float64)

    @cached_property
    def factor(self) -> float:
        """Return what makes the variance unbiased under effects of concepts."""
        return self.sets.dyadic_factor or 1.0

    @cached_property
    def _effects(self) -> Floats:
        """Return the residual total of each set per unit of each concept's effect, of shape (sets, concepts)."""
        holds = self.sets.incidence
        return np.asarray(self.share[:, None] * (holds.toarray() - holds.T @ self.share), np.float64)

    @cached_property
    def _shared_effects(self) -> Floats:
        signed = sparse.diags_array(self.sets.signs) @ (self.sets.subsets @ self._effects)
        return np.asarray(self.sets.subsets.T @ signed, np.float64)

    @cached_property
    def _of_concepts(self) -> tuple[float, float]:
        """Return the trace of the variance as a form of concept effects, and that of its square."""
        form = self.factor * (self._effects.T @ self._shared_effects)
        return float(np.trace(form)), float(np.sum(form * form.T))

    @cached_property
    def _working(self) -> tuple[float, float, float] | None:
        """Return traces of the variance as a form of set effects: its own, that with concept effects, and that of its square.

        None if the design is so large that concept effects alone are enough.
        """
        share, holds = self.share, self.sets.incidence
        overlap = float(np.sum(np.asarray(holds.sum(axis=0)).ravel() ** 2))
        if overlap > LARGEST_OVERLAP or holds.shape[0] * holds.shape[1] > LARGEST_TABLE:
            return None
        second = float(share @ share)
        meets = (holds @ holds.T).sign().tocsr()
        seen = meets @ share
        of_sets = second - 2.0 * float(share**2 @ seen) + second * float(share @ seen)
        left = self.factor * share[:, None] * self._shared_effects
        crossed = left - share[:, None] * left.sum(axis=0)
        form = (self.factor * sparse.diags_array(share) @ meets @ sparse.diags_array(share)).tocsr()
        total = np.asarray(form.sum(axis=1)).ravel()
        columns, rows = np.stack([total, form @ share]), np.stack([second - share, -np.ones(len(share))])
        inner = rows @ columns.T
        square = float(form.power(2).sum()) + 2.0 * float(np.sum((rows @ form) * columns)) + float(np.sum(inner * inner.T))
        return self.factor * of_sets, float(np.sum(crossed**2)), square

    @cached_property
    def concept_df(self) -> float:
        """Return the degrees of freedom if concepts caused all of the variance: K - 1 for all pairs of K concepts."""
        trace, square = self._of_concepts
        return max(1.0, trace**2 / square)

    @cached_property
    def df(self) -> float:
        """Return the degrees of freedom of the dyadic variance, for a working model in which `CONCEPT_PART` of it is concepts'.

        With all of it they would be K - 1 for all pairs of K concepts; but products of single sets are noisy, the more so the
        larger the factor. Like the clustered errors of Bell and McCaffrey, they depend on the design alone.
        """
        alone = self.concept_df
        if self._working is None:
            return alone
        trace, square = self._of_concepts
        of_sets, crossed, of_squares = self._working
        concept, within = CONCEPT_PART / trace, (1.0 - CONCEPT_PART) / float(self.share @ self.share)
        spread = concept**2 * square + 2.0 * concept * within * crossed + within**2 * of_squares
        return min(alone, max(1.0, (concept * trace + within * of_sets) ** 2 / spread))

    def participant_part(self, cells: sparse.csr_array) -> float:
        """Return how much of a participants' variance the dyadic variance holds already; `cells` is votes (sets,
        participants)."""
        scaled = cells / cells.sum()
        by_person, share = np.asarray(scaled.sum(axis=0)).ravel(), self.share
        subsets, signs = self.sets.subsets, self.sets.signs
        own = float(signs @ np.asarray((subsets @ scaled).power(2).sum(axis=1)).ravel())
        seen = subsets.T @ (signs * (subsets @ share))
        centred = own - 2.0 * float((scaled.T @ seen) @ by_person) + float(by_person @ by_person) * float(share @ seen)
        return self.factor * centred
