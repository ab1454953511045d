"""Shares of votes where people choose one of several arms: simultaneous intervals, clustered ones, and differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA, Contrast
from analysis.inference.cautions import cautions
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.mean_contrast import clusters_of, contrast_of_mean, scope_words
from analysis.inference.scoped_variance import DependentRows
from analysis.inference.share_intervals import ClusteredShares
from analysis.results import Result
from evalkit.errors import UserError

SCALE = "difference of shares"


@dataclass(frozen=True)
class Choices:
    """One row per vote: the arm chosen (its place in `arms`) among all of them, and what the votes share.

    `comparison` is what was judged, `sets` its concepts, `participant` who judged; None if no one recurs.
    """

    arms: tuple[str, ...]
    chosen: Codes
    comparison: Codes
    sets: ConceptSets
    participant: Codes | None = None


@dataclass(frozen=True, slots=True)
class Share(Result):
    """How many votes one arm got.

    Both intervals hold for all arms at once, at 95 %: the naive one takes votes for independent, the clustered one counts only
    the independent votes that as many clustered ones are worth.
    """

    arm: str
    votes: int
    total: int
    naive: tuple[float, float]
    clustered: tuple[float, float] | None
    worth: float | None
    """How many independent votes would be as precise; never more than `total`."""
    scope: tuple[str, ...]
    clusters: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        """Return the arm's share of the votes, in 0 to 1."""
        return self.votes / self.total


def goodman_interval(share: float, total: float, arms: int, quantile: float | None = None) -> tuple[float, float]:
    """Return the interval of one of several shares that holds for all of them at once (Goodman 1965).

    `quantile` replaces the root of the chi-squared quantile where the number of clusters is small.
    """
    square = float(stats.chi2.isf(ALPHA / arms, 1)) if quantile is None else quantile**2
    middle, spread = square + 2.0 * total * share, np.sqrt(square * (square + 4.0 * total * share * (1.0 - share)))
    low, high = (middle - spread) / (2.0 * (total + square)), (middle + spread) / (2.0 * (total + square))
    return max(0.0, float(low)), min(1.0, float(high))


def shares(votes: Choices) -> tuple[Share, ...]:
    """Return the share of every arm, also of those never chosen.

    The clustered interval is Goodman's with the effective number of votes of Korn and Graubard (1998), p (1 - p) / V, V the
    project's default variance, and a t quantile; it is never narrower than the naive one's number of votes allows. That number
    is also its limit for an arm that all or none of the votes chose.
    """
    counts = _counts(votes)
    result, total, size = [], len(votes.chosen), len(votes.arms)
    rows = DependentRows(votes.comparison, votes.sets, votes.participant)
    primary, notes = rows.primary, cautions(rows)
    for column, (arm, count) in enumerate(zip(votes.arms, counts.tolist(), strict=True)):
        share = count / total
        naive = goodman_interval(share, total, size)
        if primary is None:
            alone = ("A single vote has no standard error, so no clustered interval can be given.",)
            result.append(Share(arm, count, total, naive, None, None, (), (), alone))
            continue
        chosen = _indicator(votes, column)[:, None]
        variance = rows.variance(chosen, primary)
        clustered_share = ClusteredShares.of(chosen, variance)
        worth = float(clustered_share.effective[0])
        quantile = float(stats.t.isf(ALPHA / (2 * size), clustered_share.df[0]))
        clustered = goodman_interval(share, worth, size, quantile)
        scope = scope_words(rows, primary)
        result.append(Share(arm, count, total, naive, clustered, worth, scope, clusters_of(rows), notes))
    return tuple(result)


def share_differences(votes: Choices) -> tuple[Contrast, ...]:
    """Return the difference of every two arms' shares with the project's default errors.

    Correct the family with `analysis.contrast.holm`.
    """
    _counts(votes)
    differences = []
    for one, other in combinations(range(len(votes.arms)), 2):
        values = _indicator(votes, one) - _indicator(votes, other)
        differences.append(
            contrast_of_mean(
                values, votes.comparison, votes.sets, votes.participant, first=votes.arms[one], second=votes.arms[other],
                measure="votes", scale=SCALE, null=0.0,
            )
        )  # fmt: skip
    return tuple(differences)


def conditional_sign_test(first: int, second: int) -> float:
    """Return the exact two-sided p of two arms' votes being equally likely, votes for others left out, votes independent."""
    if first < 0 or second < 0 or first + second == 0:
        raise UserError(f"sign test: {first} and {second} votes; at least one vote for either arm is needed")
    return float(stats.binomtest(first, first + second, 0.5).pvalue)


def _indicator(votes: Choices, column: int) -> Floats:
    return np.asarray(votes.chosen == column, np.float64)


def _counts(votes: Choices) -> Codes:
    size, rows = len(votes.arms), len(votes.chosen)
    if size < 2:
        raise UserError("shares: fewer than two arms leave no choice; at least two arms are needed")
    if not rows:
        raise UserError("shares: there are no votes; at least one is needed")
    columns: Sequence[Codes] = [votes.comparison, votes.sets.codes, *([] if votes.participant is None else [votes.participant])]
    if any(len(column) != rows for column in columns):
        raise UserError(
            f"shares: {rows} votes, but {[len(column) for column in columns]} rows of shared levels; give one row per vote"
        )
    if votes.chosen.min() < 0 or votes.chosen.max() >= size:
        raise UserError(f"shares: a vote is for an arm outside 0 to {size - 1}; there are {size} arms")
    return np.bincount(votes.chosen, minlength=size).astype(np.int64)
