"""The signed-rank test for differences that share concepts, and the interval that inverts it.

Wilcoxon's scores sign(d) rank(|d|) / (n + 1) are numbers of one case each, so their mean gets the variance of cases that share
concepts (`analysis.inference.scoped_variance`), like any mean. The interval holds the shifts that the test does not reject; its
centre is the Hodges-Lehmann estimate.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA
from analysis.inference.concept_sets import ConceptSets, Floats
from analysis.inference.finite_values import check_finite
from analysis.inference.mean_contrast import scope_words
from analysis.inference.scoped_variance import DependentRows, Scope

# Shifts that are tried at once while an end of the interval is sought, and how often.
TRIED, ROUNDS = 33, 4


@dataclass(frozen=True, slots=True)
class ClusteredSignedRank:
    """The test of a shift of zero, the interval of the shift at 95 %, and what both hold for."""

    p: float
    interval: tuple[float, float]
    scope: tuple[str, ...]


def clustered_signed_rank(differences: Floats, sets: ConceptSets) -> ClusteredSignedRank | None:
    """Return the test of one difference per concept set; None if the sets can't represent other concepts."""
    check_finite("signed-rank test", differences, "difference")
    rows = DependentRows(np.arange(len(differences)), sets)
    scope = rows.primary
    if scope is None or not scope.concepts or not np.ptp(differences):
        return None
    low, high = float(differences.min()), float(differences.max())
    ends = []
    for sign in (-1.0, 1.0):
        inside, outside = float(np.median(differences)), low if sign < 0 else high
        for _ in range(ROUNDS):
            tried = np.linspace(inside, outside, TRIED)
            rejected = _p(differences, tried, rows, scope) < ALPHA
            # the first shift that is rejected, seen from the middle; none up to the last one
            first = int(np.argmax(rejected)) if rejected.any() else TRIED - 1
            inside, outside = float(tried[max(0, first - 1)]), float(tried[first])
        ends.append(outside)
    p = float(_p(differences, np.zeros(1), rows, scope)[0])
    return ClusteredSignedRank(p, (ends[0], ends[1]), scope_words(rows, scope))


def _p(differences: Floats, shifts: Floats, rows: DependentRows, scope: Scope) -> Floats:
    """Return the two-sided p of each shift."""
    moved = differences[:, None] - shifts
    scores = np.sign(moved) * stats.rankdata(np.abs(moved), axis=0) / (len(differences) + 1.0)
    scoped = rows.variance(scores, scope)
    error = np.sqrt(np.maximum(scoped.variance, 1e-300))
    return np.asarray(2.0 * stats.t.sf(np.abs(scores.mean(axis=0)) / error, scoped.df), np.float64)
