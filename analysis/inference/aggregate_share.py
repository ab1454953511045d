"""A published share whose raw votes are not public: its naive test, and how little shared variance undoes it."""

from dataclasses import dataclass
from math import sqrt

from scipy import stats

from analysis.contrast import ALPHA
from analysis.results import Result
from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class AggregateShare(Result):
    """What an aggregate allows: `wins` of `n` comparisons, taken as independent, and the limits of that."""

    wins: int
    n: int
    estimate: float
    interval: tuple[float, float]
    """Wilson (1927), at 95 %, for independent comparisons."""
    p: float
    """Exact binomial test of one half, for independent comparisons."""
    design_effect_limit: float
    """The variance may be this many times the one of independent comparisons until p reaches .05; 1 or less: it has already."""
    concept_sd_limit: float
    """Standard deviation of the concepts' effects on the share at which p reaches .05; 0 if it has already."""


def aggregate_share(wins: int, n: int, concepts: int, per_case: int = 2) -> AggregateShare:
    """Return the naive test of a published share, and the shared variance at which its significance ends.

    Parameters
    ----------
    wins
        Comparisons won by the arm.
    n
        Comparisons in all.
    concepts
        Concepts in all; every comparison has `per_case` of them, and each occurs equally often.
    per_case
        Concepts per comparison.

    Concepts add independent effects u to the chance of winning, so the mean of a balanced design has the variance
    1 / (4 n) + per_case^2 Var(u) / concepts.

    >>> omcd = aggregate_share(823, 1740, concepts=30)
    >>> f"{omcd.estimate:.1%} [{omcd.interval[0]:.1%}, {omcd.interval[1]:.1%}], p = {omcd.p:.3f}"
    '47.3% [45.0%, 49.6%], p = 0.026'
    >>> f"{omcd.design_effect_limit:.2f}, {omcd.concept_sd_limit:.3f}"
    '1.32, 0.019'
    """
    if not 0 <= wins <= n or n < 1 or concepts < per_case or per_case < 1:
        raise UserError(
            f"aggregate: {wins} of {n} comparisons with {per_case} of {concepts} concepts each is impossible; "
            "give 0 <= wins <= n and at least as many concepts as a comparison has"
        )
    test = stats.binomtest(wins, n)
    interval = test.proportion_ci(method="wilson")
    share = wins / n
    critical = float(stats.norm.isf(ALPHA / 2))
    limit = ((share - 0.5) / (critical * 0.5 / sqrt(n))) ** 2
    extra = max(0.0, limit - 1.0) / (4 * n)
    spread = sqrt(extra * concepts) / per_case
    return AggregateShare(wins, n, share, (float(interval.low), float(interval.high)), float(test.pvalue), limit, spread)
