"""Strengths of arms from paired comparisons: Bradley-Terry and, with ties, Davidson, with errors that respect clusters.

Libraries give the estimates without errors, with errors for independent votes, or without ties and sides; none clusters.
With d the difference of strengths plus the side effect, left wins : tie : right wins = exp(d/2) : nu : exp(-d/2), which is
Bradley and Terry (1952) at nu = 0 and Davidson (1970) else; the side effect is that of Davidson and Beaver (1977).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.contrast import Contrast
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.dyadic_standard_errors import correct
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.inference.paired_comparisons import Comparisons, Counts, check_connected
from analysis.results import Result
from evalkit.errors import UserError

SCALE = "difference of log strengths"
# A log strength beyond this grows without end.
INFINITE = 15.0


@dataclass(frozen=True)
class Strengths(Result):
    """A fitted model.

    `estimates` are log strengths with mean zero, then the side effect if requested (positive: the left side helps),
    then log nu if there are ties; `covariance` belongs to them.
    """

    arms: tuple[str, ...]
    estimates: Floats
    covariance: Floats
    with_side: bool
    with_ties: bool
    errors: str
    """What the covariance takes for independent."""
    votes: float
    log_likelihood: float
    """Of the votes in their order, without the multinomial constants."""
    deviance: float
    residual_df: int
    null_log_likelihood: float
    """That of equal strengths, side effect and ties free."""

    @property
    def side(self) -> tuple[float, float]:
        """Return the side effect and its standard error."""
        return self._extra(len(self.arms)) if self.with_side else (0.0, 0.0)

    @property
    def log_tie(self) -> tuple[float, float]:
        """Return log nu and its standard error; a UserError without ties."""
        if not self.with_ties:
            raise UserError("strengths: there are no ties, so the model has no tie parameter; leave ties out")
        return self._extra(len(self.estimates) - 1)

    def _extra(self, index: int) -> tuple[float, float]:
        return float(self.estimates[index]), math.sqrt(float(self.covariance[index, index]))

    def difference(self, first: str, second: str) -> tuple[float, float]:
        """Return how many logits `first` is above `second`, and the standard error of that."""
        pick = np.zeros(len(self.estimates))
        pick[self.arms.index(first)] += 1.0
        pick[self.arms.index(second)] -= 1.0
        return float(pick @ self.estimates), math.sqrt(max(0.0, float(pick @ self.covariance @ pick)))

    def records(self) -> list[dict[str, object]]:
        """Return one row per arm, then one for the side effect and one for log nu."""
        extra = (["side"] if self.with_side else []) + (["log tie"] if self.with_ties else [])
        deviations = np.sqrt(np.diag(self.covariance)).tolist()
        named = zip((*self.arms, *extra), self.estimates.tolist(), deviations, strict=True)
        return [
            {"parameter": name, "estimate": estimate, "standard_error": error, "errors": self.errors, "votes": self.votes}
            for name, estimate, error in named
        ]


def fit_strengths(counts: Counts, side: bool = False) -> Strengths:
    """Return the strengths of largest likelihood by Newton; Davidson's model if there are ties.

    `side` adds the advantage of being shown left. Raises UserError if no finite estimate exists: groups that were not
    compared or never lost, nothing but ties, sides that were never swapped.
    """
    size, ties = len(counts.arms), float(counts.tied.sum())
    total = float(counts.total.sum())
    if size < 2:
        raise UserError("strengths: fewer than two arms were judged; at least two arms are needed")
    if ties == total:
        raise UserError(f"strengths: all {total:.0f} votes are ties, so the strengths are not identified; report the count")
    check_connected(counts)
    start = np.zeros(size + side + (ties > 0))
    if ties:
        start[-1] = math.log(2.0 * ties / (total - ties))
    with threadpool_limits(1):
        null = _newton(counts, start, side, np.arange(size, len(start)))
        estimates = _newton(counts, start, side, np.arange(len(start)))
        value, _, information = _likelihood(counts, estimates, side)
        inverse = np.asarray(np.linalg.inv(information), np.float64)
    estimates[:size] -= estimates[:size].mean()
    cells = counts.total > 0
    outcomes = 2 if ties else 1
    return Strengths(
        counts.arms, estimates, _centred(inverse, size), side, ties > 0, "votes", total, value,
        2.0 * (_saturated(counts) - value), outcomes * int(cells.sum()) - (len(start) - 1),
        _likelihood(counts, null, side)[0],
    )  # fmt: skip


def _saturated(counts: Counts) -> float:
    tables = np.stack([counts.won, counts.lost, counts.tied])
    share = np.divide(tables, counts.total, out=np.ones_like(tables), where=tables > 0)
    return float(np.sum(tables * np.log(share)))


def _chances(gap: Floats, log_tie: float) -> tuple[Floats, Floats, Floats]:
    """Return log of the normaliser, expected half-difference (left - right) / 2, and chance of a tie."""
    top = np.logaddexp(np.logaddexp(gap / 2, -gap / 2), log_tie)
    return top, (np.exp(gap / 2 - top) - np.exp(-gap / 2 - top)) / 2.0, np.exp(log_tie - top)


def _gap(estimates: Floats, size: int, side: bool) -> Floats:
    return estimates[:size, None] - estimates[None, :size] + (float(estimates[size]) if side else 0.0)


def _likelihood(counts: Counts, estimates: Floats, side: bool) -> tuple[float, Floats, Floats]:
    """Return the log-likelihood, its gradient and its information, made regular by holding the mean strength at zero."""
    size, ties = len(counts.arms), len(estimates) > len(counts.arms) + side
    log_tie = float(estimates[-1]) if ties else -math.inf
    gap, total = _gap(estimates, size, side), counts.total
    top, mean, tie = _chances(gap, log_tie)
    value = float(np.sum((counts.won - counts.lost) * gap / 2) - np.sum(total * top))
    slope = (counts.won - counts.lost) / 2 - total * mean
    bend = total * ((1.0 - tie) / 4 - mean**2)
    gradient = np.zeros(len(estimates))
    information = np.zeros((len(estimates), len(estimates)))
    gradient[:size] = slope.sum(1) - slope.sum(0)
    both = bend + bend.T
    information[:size, :size] = np.diag(both.sum(1)) - both + both.mean()
    if side:
        gradient[size] = slope.sum()
        information[size, :size] = information[:size, size] = bend.sum(1) - bend.sum(0)
        information[size, size] = bend.sum()
    if ties:
        value += float(counts.tied.sum()) * log_tie
        gradient[-1] = counts.tied.sum() - np.sum(total * tie)
        mixed = -total * mean * tie
        information[-1, :size] = information[:size, -1] = mixed.sum(1) - mixed.sum(0)
        if side:
            information[-1, size] = information[size, -1] = mixed.sum()
        information[-1, -1] = np.sum(total * tie * (1.0 - tie))
    return value, gradient, information


def _newton(counts: Counts, start: Floats, side: bool, free: Codes) -> Floats:
    """Return the maximum over the `free` parameters; the likelihood is concave, so any start will do."""
    estimates = start.copy()
    if not len(free):
        return estimates
    value, gradient, information = _likelihood(counts, estimates, side)
    for _ in range(60):
        inner = information[np.ix_(free, free)]
        if np.linalg.cond(inner) > 1e12:
            break
        step = np.linalg.solve(inner, gradient[free])
        decrement, length = float(gradient[free] @ step), 1.0
        while True:
            tried = estimates.copy()
            tried[free] += length * step
            proposal = _likelihood(counts, tried, side)
            if proposal[0] >= value or decrement < 1e-6:
                break
            length /= 2.0
        estimates, (value, gradient, information) = tried, proposal
        if np.max(np.abs(estimates)) > INFINITE:
            break
        if decrement < 1e-12:
            return estimates
    cause = "the side an arm was shown on decides the votes, or was never swapped" if side else "one arm wins almost every vote"
    raise UserError(f"strengths: no finite estimate was found; {cause}")


def _centred(covariance: Floats, size: int) -> Floats:
    centre = np.eye(len(covariance))
    centre[:size, :size] -= 1.0 / size
    return np.asarray(centre @ covariance @ centre.T, np.float64)


def _residuals(fit: Strengths, votes: Comparisons) -> tuple[Floats, Floats]:
    """Return each vote's residual half-difference and tie, whose sums are zero at the maximum."""
    log_tie = fit.log_tie[0] if fit.with_ties else -math.inf
    _, mean, tie = _chances(_gap(fit.estimates, len(fit.arms), fit.with_side)[votes.left, votes.right], log_tie)
    return votes.choice - 0.5 - mean, (votes.choice == 0.5) - tie


def cluster_strengths(fit: Strengths, votes: Comparisons, clusters: Mapping[str, Codes]) -> Strengths:
    """Return `fit` with the sandwich covariance for votes that depend on each other within one or two sets of clusters.

    One code per vote under each name. Two sets are combined as by Cameron, Gelbach and Miller (2011), each term times
    G / (G - 1); negative eigenvalues, which that sum may have, become zero.
    """
    if not 1 <= len(clusters) <= 2:
        raise UserError(f"strengths: one or two sets of clusters are possible, not {len(clusters)}; see `contrasts` for more")
    size = len(fit.arms)
    half, tie = _residuals(fit, votes)
    codes = [np.unique(code, return_inverse=True)[1].astype(np.int64) for code in clusters.values()]
    terms = [(1.0, code) for code in codes]
    if len(codes) == 2:
        both = np.unique(codes[0] * (codes[1].max() + 1) + codes[1], return_inverse=True)[1]
        terms.append((-1.0, both.astype(np.int64)))
    meat = np.zeros_like(fit.covariance)
    for sign, code in terms:
        groups = int(code.max()) + 1
        if groups < 2:
            raise UserError(f"strengths: the votes of {' and '.join(clusters)} form one cluster; at least two are needed")
        columns = [
            np.bincount(code * size + votes.left, half, groups * size)
            - np.bincount(code * size + votes.right, half, groups * size)
        ]
        scores = np.concatenate([columns[0].reshape(groups, size), np.zeros((groups, len(meat) - size))], axis=1)
        if fit.with_side:
            scores[:, size] = np.bincount(code, half, groups)
        if fit.with_ties:
            scores[:, -1] = np.bincount(code, tie, groups)
        for row, column in np.ndindex(meat.shape):
            meat[row, column] += sign * correct(float(scores[:, row] @ scores[:, column]), groups)
    values, vectors = np.linalg.eigh(fit.covariance @ meat @ fit.covariance)
    covariance = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return replace(fit, covariance=covariance, errors=" and ".join(clusters))


def contrasts(
    fit: Strengths, votes: Comparisons, comparison: Codes, sets: ConceptSets, participant: Codes | None = None
) -> tuple[Contrast, ...]:
    """Return every difference of two strengths with the project's default errors, the dyadic + participant max-rule.

    A difference moves with each vote by the vote's influence on it (score times inverse information), so it is treated as
    the mean of one number per vote (`analysis.inference.mean_contrast`). `fit` must hold the covariance it was fitted with.
    """
    if fit.errors != "votes":
        raise UserError(
            f"strengths: contrasts need the fit without clusters, not one clustered by {fit.errors}; fit again without clusters"
        )
    half, tie = _residuals(fit, votes)
    differences = []
    for one, other in combinations(range(len(fit.arms)), 2):
        weight = fit.covariance[one] - fit.covariance[other]
        influence = half * (weight[votes.left] - weight[votes.right])
        if fit.with_side:
            influence += half * weight[len(fit.arms)]
        if fit.with_ties:
            influence += tie * weight[-1]
        first, second = fit.arms[one], fit.arms[other]
        values = fit.difference(first, second)[0] + len(half) * influence
        differences.append(
            contrast_of_mean(
                values, comparison, sets, participant, first=first, second=second, measure="votes", scale=SCALE, null=0.0
            )
        )
    return tuple(differences)
