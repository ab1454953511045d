"""Futility: conditional power, and the non-binding advice to stop for it."""

import math

from scipy import stats

# Below this chance of a rejection at the end, under the effect the plan hopes for, a contrast may be closed.
LEAST_CONDITIONAL_POWER = 0.10


def conditional_power(z: float, information: float, final_information: float, effect: float, final_bound: float) -> float:
    """Return the probability that the last look rejects upward, given the statistic so far (Lan and Wittes 1988).

    Futility is non-binding: the bounds are computed as if it did not exist, so ignoring the advice costs no error.

    Args:
        z: the statistic now, positive in the direction of `effect`.
        information: 1 / variance of the estimate now.
        final_information: the same at the end, as planned.
        effect: the true difference assumed for the rest, in the unit of the estimate.
        final_bound: bound on the Z scale at the last look.

    Raises:
        ValueError: no information is left to come.
    """
    left = final_information - information
    if left <= 0:
        raise ValueError("the look has all the planned information; there is nothing left to predict")
    expected = z * math.sqrt(information) + effect * left
    return float(stats.norm.cdf((expected - final_bound * math.sqrt(final_information)) / math.sqrt(left)))


def two_sided_conditional_power(
    z: float, information: float, final_information: float, effect: float, final_bound: float
) -> float:
    """Return the larger of the conditional powers upward and downward under an effect of size |`effect`|."""
    size = abs(effect)
    return max(conditional_power(sign * z, information, final_information, size, final_bound) for sign in (1, -1))
