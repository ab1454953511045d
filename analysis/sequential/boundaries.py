"""Stopping boundaries: the nominal p-value that each look of a study must fall below.

Two families are recommended: Haybittle-Peto, which needs no assumption about how looks are related, and O'Brien-Fleming type
spending (Lan and DeMets 1983) on the share of planned judgments or participants. The time of a look is never an estimated
standard error: a small estimate would both raise the statistic and spend more error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from scipy import optimize, stats

from analysis.sequential.recursion import START, Walk, advance, crossing_probability, exit_probabilities
from analysis.sequential.spending import HAYBITTLE_PETO_SHARE, SPENDING, Bound


@dataclass(frozen=True, slots=True)
class Boundary:
    """The bounds of a series of looks, two-sided.

    `times` are shares of the planned total, ascending in (0, 1]. A look rejects if its own two-sided p-value is below `p`,
    which holds for t-tests too; `z` are the same bounds on the normal scale. `spent` is the cumulative error under independent
    increments.
    """

    family: Bound
    alpha: float
    times: tuple[float, ...]
    z: tuple[float, ...]
    p: tuple[float, ...]
    spent: tuple[float, ...]


def boundary(family: Bound, times: Sequence[float], alpha: float = 0.05, *, final: bool = True) -> Boundary:
    """Return the bounds of looks at `times` with a total two-sided error of `alpha`.

    Args:
        family: Haybittle-Peto, O'Brien-Fleming type or Pocock type.
        times: shares of the planned judgments or participants, strictly ascending in (0, 1].
        alpha: total two-sided error rate in (0, 1).
        final: whether the last of `times` is the study's last look. It then spends all that is left, whatever its time.

    Raises:
        ValueError: a time or `alpha` is outside its range, or the times do not ascend.
    """
    checked = check_times(times)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; an error rate is above 0 and below 1")
    return _boundary(family, checked, alpha, final)


@lru_cache(maxsize=4096)
def _boundary(family: Bound, checked: tuple[float, ...], alpha: float, final: bool) -> Boundary:
    if family is Bound.HAYBITTLE_PETO:
        z = _haybittle_peto(checked, alpha, final)
    else:
        targets = [SPENDING[family](time, alpha) for time in checked]
        if final:
            targets[-1] = alpha
        z = spending_bounds(checked, targets)
    spent = tuple(crossing_probability(checked[: look + 1], z[: look + 1]) for look in range(len(z)))
    p = [nominal_p(bound) for bound in z]
    if final and len(z) == 1:
        p[0] = alpha  # the fixed design, to the last digit
    return Boundary(family, alpha, checked, z, tuple(p), spent)


def check_times(times: Sequence[float]) -> tuple[float, ...]:
    """Return the times of looks as a tuple.

    Raises:
        ValueError: there is none, one is outside (0, 1], or they do not ascend.
    """
    checked = tuple(float(time) for time in times)
    if not checked:
        raise ValueError("no looks are given; give at least the final one, 1.0")
    for time in checked:
        if not 0 < time <= 1:
            raise ValueError(f"look at {time:g}; a look is at a share of the planned total above 0 and at most 1")
    for earlier, later in pairwise(checked):
        if later <= earlier:
            raise ValueError(f"look at {later:g} follows {earlier:g}; looks must ascend")
    return checked


def nominal_p(z: float) -> float:
    """Return the two-sided p-value of a bound on the normal scale."""
    return float(2 * stats.norm.sf(z))


def spending_bounds(information: Sequence[float], spent: Sequence[float]) -> tuple[float, ...]:
    """Return the bounds on the Z scale whose cumulative crossing probabilities are `spent`, under independent increments."""
    bounds: list[float] = []
    walk, before = START, 0.0
    for value, target in zip(information, spent, strict=True):
        bound = _solve(walk, value, target - before)
        bounds.append(bound)
        walk, before = advance(walk, value, bound), target
    return tuple(bounds)


def _solve(walk: Walk, information: float, increment: float) -> float:
    if increment <= 0:
        return math.inf
    if walk is START:
        return float(stats.norm.isf(increment / 2))

    def excess(bound: float) -> float:
        return math.log(max(sum(exit_probabilities(walk, information, bound)), 1e-320)) - math.log(increment)

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, 38.0, xtol=1e-10, rtol=1e-13))


def _haybittle_peto(times: tuple[float, ...], alpha: float, final: bool) -> tuple[float, ...]:
    interim = float(stats.norm.isf(HAYBITTLE_PETO_SHARE * alpha / 2))
    if not final:
        return (interim,) * len(times)
    walk, spent = START, 0.0
    for time in times[:-1]:
        spent += sum(exit_probabilities(walk, time, interim))
        walk = advance(walk, time, interim)
    return (*(interim for _ in times[:-1]), _solve(walk, times[-1], alpha - spent))
