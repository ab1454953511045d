"""A metric's lead of one image over another against votes: accuracy with ties, AUC, rank correlation, logistic slope.

Each is written as the mean of one number per vote (its influence, or whether it was predicted), which brings the project's
default error for shared concepts and participants to it. Rank correlation counts comparisons and is treated apart.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.contrast import Contrast
from analysis.inference.concept_sets import Codes, Floats
from analysis.inference.mean_contrast import contrast_of_mean, t_contrast
from analysis.inference.scoped_variance import DependentRows
from analysis.votes.preference import CANNOT_TELL, FIRST, SECOND, Votes

# Beyond this many logits a slope only grows because the metric decides every vote.
SEPARATED = 15.0
CONSTANT = "The metric gives both images the same value everywhere."
ONE_SIDED = "All votes are the same, so there is nothing to predict."


def vote_contrast(
    values: Floats, votes: Votes, scale: str, null: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Contrast:
    """Return the contrast of the mean of one number per vote."""
    return contrast_of_mean(
        values, votes.comparison, votes.sets, votes.participant,
        first=votes.first, second=votes.second, measure="votes", scale=scale, null=null, bounds=bounds,
    )  # fmt: skip


def some_votes(votes: Votes, mask: NDArray[np.bool_]) -> Votes:
    """Return the votes that `mask` selects."""
    return replace(
        votes,
        choice=votes.choice[mask],
        comparison=votes.comparison[mask],
        participant=votes.participant[mask],
        sets=votes.sets.take(mask),
        first_left=None if votes.first_left is None else votes.first_left[mask],
    )


def tie_width(gap: Floats, choice: Floats, weight: Floats | None = None) -> tuple[float, float]:
    """Return the width below which leads are best taken for ties, and the weighted share of answers predicted with it.

    `gap` is the metric's lead, `choice` 1, 0 or .5 for a tie. Widths tried are 0 and every lead; of equally good ones the
    smallest. Source: Deutsch, Foster and Freitag 2023, arXiv 2305.14324, section 4.
    """
    weights = np.ones(len(gap)) if weight is None else weight
    order = np.argsort(np.abs(gap), kind="stable")
    size, answers, counted = np.abs(gap)[order], choice[order], weights[order]
    by_sign = counted * ((answers - CANNOT_TELL) * gap[order] > 0)
    gain = np.cumsum(counted * (answers == CANNOT_TELL) - by_sign)
    last = np.flatnonzero(np.append(size[1:] > size[:-1], True))
    widths, gains = np.append(0.0, size[last]), np.append(0.0, gain[last])
    if size[0] == 0.0:
        gains[0] = gains[1]
    best = int(np.argmax(gains))
    return float(widths[best]), float((by_sign.sum() + gains[best]) / weights.sum())


def predicted(gap: Floats, votes: Votes) -> tuple[Floats, float]:
    """Return whether each vote was predicted, 1 or 0, and the median tie width.

    The width for a vote comes from the votes on cases that share no concept with its own; if there are none, it is 0.
    """
    tied = votes.choice == CANNOT_TELL
    sets, codes = votes.sets.members, votes.sets.codes
    widths = np.zeros(len(sets))
    if tied.any():
        order = np.argsort(np.abs(gap), kind="stable")
        sorted_gap, sorted_choice, sorted_codes = gap[order], votes.choice[order], codes[order]
        for row, held in enumerate(sets):
            apart = np.array([held.isdisjoint(other) for other in sets])[sorted_codes]
            if apart.any():
                widths[row] = tie_width(sorted_gap, sorted_choice, apart.astype(np.float64))[0]
    width = widths[codes]
    right = np.where(np.abs(gap) <= width, tied, (votes.choice - CANNOT_TELL) * gap > 0)
    return right.astype(np.float64), float(np.median(width))


def area_under_curve(gap: Floats, votes: Votes) -> Contrast:
    """Return how often the lead is larger in a vote for the first arm than in one for the second; equal leads count half.

    `cannot tell` is left out. The influence of a vote is its placement among the votes of the other kind (DeLong, DeLong and
    Clarke-Pearson 1988; clustered: Obuchowski 1997).
    """
    scale, decided = "area under the curve", votes.choice != CANNOT_TELL
    lead, answers = gap[decided], votes.choice[decided]
    first, second = np.sort(lead[answers == FIRST]), np.sort(lead[answers == SECOND])
    if not len(first) or not len(second):
        return _absent(votes, scale, 0.5, ONE_SIDED)
    if float(np.ptp(lead)) == 0.0:
        return _absent(votes, scale, 0.5, CONSTANT)
    over_second, over_first = _placement(lead, second), 1.0 - _placement(lead, first)
    area, count = float(over_second[answers == FIRST].mean()), len(lead)
    own, size = np.where(answers == FIRST, over_second, over_first), np.where(answers == FIRST, len(first), len(second))
    return vote_contrast(area + (own - area) * count / size, some_votes(votes, decided), scale, 0.5, (0.0, 1.0))


def _placement(values: Floats, among: Floats) -> Floats:
    """Return the share of `among` (sorted) that is below each value, equal ones counting half."""
    below, upto = np.searchsorted(among, values, "left"), np.searchsorted(among, values, "right")
    return np.asarray((below + upto) / (2.0 * len(among)), np.float64)


def logistic_slope(gap: Floats, pair: Codes, votes: Votes) -> Contrast:
    """Return the slope of the votes on the lead in logits per standard deviation of the leads, an intercept per pair of arms.

    The slope is that of the population's votes, not of one participant's (`analysis.inference.glmm` fits the latter);
    `cannot tell` is half a vote for each. The error is a sandwich from each vote's influence.
    """
    scale, spread = "logits per standard deviation of the metric's lead", float(np.std(gap))
    if spread <= 1e-12 * max(1.0, float(np.abs(gap).max())):
        return _absent(votes, scale, 0.0, CONSTANT)
    if float(np.ptp(votes.choice)) == 0.0:
        return _absent(votes, scale, 0.0, ONE_SIDED)
    held = np.unique(pair)
    x = np.column_stack([gap / spread, pair[:, None] == held])
    estimates = np.zeros(x.shape[1])
    for _ in range(50):
        chance = special.expit(x @ estimates)
        information = (x * (chance * (1.0 - chance))[:, None]).T @ x
        if np.linalg.cond(information) > 1e10:
            break
        step = np.linalg.solve(information, x.T @ (votes.choice - chance))
        estimates = estimates + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            influence = (votes.choice - chance)[:, None] * x @ np.linalg.inv(information)[:, 0]
            return vote_contrast(float(estimates[0]) + len(gap) * influence, votes, scale, 0.0)
        if np.abs(estimates).max() > SEPARATED:
            break
    return _absent(votes, scale, 0.0, "The metric, or the pair of arms, decides every vote, so the slope is not finite.")


def rank_correlation(gap: Floats, votes: Votes) -> Contrast:
    """Return Kendall's tau_b between the lead and the share of votes for the first arm, one row per comparison.

    Its variance is the sum of two: that by shared concepts of the comparisons' influences, and the jackknife's over
    participants. What both hold is counted twice, so the interval is mildly too wide.
    """
    scale = "Kendall's tau_b of lead and share of votes"
    comparison = np.unique(votes.comparison, return_inverse=True)[1]
    first = np.unique(comparison, return_index=True)[1]
    lead, sets = gap[first], votes.sets.take(first)
    count = np.bincount(comparison).astype(np.float64)
    total = np.bincount(comparison, votes.choice).astype(np.float64)
    share = total / count
    if float(np.ptp(lead)) == 0.0:
        return _absent(votes, scale, 0.0, CONSTANT)
    if float(np.ptp(share)) == 0.0:
        return _absent(votes, scale, 0.0, "Every comparison has the same share of votes, so they have no order.")
    tau, values = _tau(lead, share)
    contrast = contrast_of_mean(
        values, np.arange(len(lead)), sets, first=votes.first, second=votes.second, measure="votes", scale=scale, null=0.0
    )
    rows = DependentRows(np.arange(len(lead)), sets)
    if contrast.standard_error is None or rows.primary is None:
        return replace(contrast, estimate=tau)
    robust, scope, clusters = rows.variance(values[:, None], rows.primary), contrast.scope, contrast.clusters
    variance, df = float(robust.variance[0]), float(robust.df[0])
    people = np.unique(votes.participant)
    if len(people) > 1:
        left = [_tau_without(lead, total, count, comparison.astype(np.int64), votes, who) for who in people]
        known = np.array([value for value in left if value is not None])
        if len(known) > 1:
            variance += (len(known) - 1) * float(np.var(known))
            df, scope = min(df, len(known) - 1.0), (*scope, "participants")
            clusters = (*clusters, ("participants", len(people)))
    contrast = replace(contrast, estimate=tau, scope=scope, clusters=clusters)
    way = "dyadic" if "concepts" in scope else "clustered"
    return t_contrast(contrast, float(np.sqrt(variance)), df, f"t, {way} + participant jackknife", (-1.0, 1.0))


def _tau(lead: Floats, share: Floats) -> tuple[float, Floats]:
    """Return tau_b and, for each row, tau_b plus its influence; their mean is tau_b."""
    n, ordered = len(lead), np.sort(lead)
    agrees = np.zeros(n)
    for level in np.unique(share):
        inside = np.sort(lead[share == level])
        above = np.searchsorted(inside, lead, "left") + np.searchsorted(inside, lead, "right") - len(inside)
        agrees += np.sign(share - level) * above
    _, where, size = np.unique(share, return_inverse=True, return_counts=True)
    own_lead = n - (np.searchsorted(ordered, lead, "right") - np.searchsorted(ordered, lead, "left"))
    own_share = n - size[where]
    agree, lead_moves, share_moves = agrees.mean() / n, own_lead.mean() / n, own_share.mean() / n
    root = float(np.sqrt(lead_moves * share_moves))
    tau = float(agree) / root
    spread = (own_lead / n - lead_moves) / lead_moves + (own_share / n - share_moves) / share_moves
    return tau, tau + 2.0 * ((agrees / n - agree) / root - tau / 2.0 * spread)


def _tau_without(lead: Floats, total: Floats, count: Floats, comparison: Codes, votes: Votes, who: int) -> float | None:
    """Return tau_b without one participant's votes; None if no order is left."""
    theirs = votes.participant == who
    left = count - np.bincount(comparison[theirs], minlength=len(count))
    voted = left > 0
    share = (total - np.bincount(comparison[theirs], votes.choice[theirs], len(count)))[voted] / left[voted]
    if not voted.any() or float(np.ptp(share)) == 0.0 or float(np.ptp(lead[voted])) == 0.0:
        return None
    return float(stats.kendalltau(lead[voted], share).statistic)


def _absent(votes: Votes, scale: str, null: float, why: str) -> Contrast:
    return Contrast(
        votes.first, votes.second, "votes", scale, None, null, None, None, len(votes.choice), (), "none", (), notes=(why,)
    )
