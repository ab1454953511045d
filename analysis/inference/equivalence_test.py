"""Equivalence tests: two one-sided tests (Schuirmann 1987) of a mean, a clustered share and a binomial count.

Equivalence within a margin is shown at 5 % if the 90 % interval is within the margin. A large p of a difference shows
nothing.
"""

import numpy as np
from scipy import stats

from analysis.inference.concept_sets import Floats
from analysis.inference.share_intervals import ClusteredShares


def equivalence_of_mean(difference: Floats, error: Floats, df: Floats, margin: float) -> Floats:
    """Return p of differences from no difference with these standard errors lying outside -`margin` to `margin`."""
    below, above = stats.t.sf((difference + margin) / error, df), stats.t.cdf((difference - margin) / error, df)
    return np.asarray(np.maximum(below, above), np.float64)


def equivalence_of_share(shares: ClusteredShares, null: float, margin: float) -> Floats:
    """Return p of clustered shares lying outside `null` - `margin` to `null` + `margin`."""
    below = stats.t.sf(shares.statistic(null - margin), shares.df)
    above = stats.t.cdf(shares.statistic(null + margin), shares.df)
    return np.asarray(np.maximum(below, above), np.float64)


def exact_equivalence(wins: int, decided: int, margin: float) -> float:
    """Return p of the share of wins lying outside 0.5 - `margin` to 0.5 + `margin`, by two one-sided binomial tests."""
    below = stats.binomtest(wins, decided, 0.5 - margin, "greater").pvalue
    above = stats.binomtest(wins, decided, 0.5 + margin, "less").pvalue
    return float(max(below, above))
