"""Intervals and tests of a share of votes from an effective number of votes: Wilson's score interval, clustered and with ties.

With V the clustered variance of a share p, the effective number of votes is p (1 - p) / V, at most the number of votes (Korn
and Graubard 1998). Wilson's interval (1927) with that number and a t quantile is never narrower than the one for independent
votes. If at most 5 % of the votes differ from the rest, V tells next to nothing: the number of votes is then divided by how
many of those that differ share something with one of them, so that it grows as they turn, up to all votes at unanimity.
`cannot tell` counts half a vote for each arm; with d the share of decided votes the variance of one vote at a share of 1/2 + x
is d/4 - x^2. Like the share in Wilson's interval, d is shrunken: towards 1, by t^2 votes, so that an interval has a width even
if no one decides. Without ties this is Wilson's interval.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.inference.concept_sets import Floats
from analysis.inference.scoped_variance import ScopedVariance


@dataclass(frozen=True)
class ClusteredShares:
    """Shares of votes for the first arm, one per column: 1 for a vote for it, 0 for one against it, .5 for an undecided one."""

    share: Floats
    decided: Floats
    """Share of the votes that decide; four times the mean squared distance from one half."""
    effective: Floats
    """Effective number of votes."""
    df: Floats
    """Degrees of freedom of the variance."""

    @classmethod
    def of(cls, values: Floats, variance: ScopedVariance) -> "ClusteredShares":
        """Return the shares of columns of votes (rows, columns) with these variances of their means."""
        centred = values - 0.5
        mean, decided = centred.mean(axis=0), 4.0 * np.mean(centred**2, axis=0)
        own = np.maximum(decided / 4.0 - mean**2, 0.0)
        # (unanimous votes have residuals of rounding only)
        independent = (variance.variance <= own / len(values)) | (own < 1e-12)
        effective = np.where(independent, float(len(values)), own / np.where(independent, 1.0, variance.variance))
        alike = variance.crowding > 0
        effective = np.where(alike, len(values) / np.maximum(variance.crowding, 1.0), effective)
        # (one vote that differs among few must not be surer than none)
        one = own <= (len(values) - 0.5) / len(values) ** 2
        df = np.where(one, np.minimum(variance.df, variance.df_alike), variance.df)
        return cls(0.5 + mean, decided, effective, np.where(alike, variance.df_alike, df))

    def interval(self, tail: float) -> tuple[Floats, Floats]:
        """Return both ends of the interval that leaves `tail` on each side: .025 for one at 95 %."""
        square = stats.t.isf(tail, self.df) ** 2 / self.effective
        centre = self.share - 0.5
        decided = (self.decided + square) / (1.0 + square)
        spread = np.sqrt(np.maximum(square * (decided / 4.0 * (1.0 + square) - centre**2), 0.0))
        low, high = ((centre + sign * spread) / (1.0 + square) for sign in (-1.0, 1.0))
        return np.maximum(0.0, 0.5 + low), np.minimum(1.0, 0.5 + high)

    def statistic(self, null: float) -> Floats:
        """Return the t statistic of the share being `null`: beyond a quantile where the interval with it excludes `null`."""
        away, size = self.share - null, self.effective
        square, whole = 4.0 * away**2, 1.0 - 4.0 * (null - 0.5) ** 2
        middle = self.decided - 4.0 * (null - 0.5) ** 2 - square
        root = np.sqrt(middle**2 + 4.0 * whole * square)
        # (the root of the quadratic in t^2, written so that nothing cancels)
        squared = np.where(middle > 0, 2.0 * square / np.where(middle > 0, middle + root, 1.0), (root - middle) / (2.0 * whole))
        return np.asarray(np.sign(away) * np.sqrt(size * squared), np.float64)

    def p(self, null: float) -> Floats:
        """Return the two-sided p of the share being `null`."""
        return np.asarray(2.0 * stats.t.sf(np.abs(self.statistic(null)), self.df), np.float64)

    def standard_error(self) -> Floats:
        """Return the standard error, at least that of independent votes; of unanimous votes that of Wilson's interval."""
        own = np.maximum(self.decided / 4.0 - (self.share - 0.5) ** 2, 0.0) / self.effective
        edge = float(stats.norm.isf(0.025))
        square = edge**2 / self.effective
        return np.where(own > 0, np.sqrt(own), square / (1.0 + square) / 2.0 / edge)
