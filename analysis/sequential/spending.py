"""Alpha spending functions (Lan and DeMets 1983, Biometrika 70:659-663)."""

import math
from collections.abc import Callable
from enum import StrEnum

from scipy import stats

Spending = Callable[[float, float], float]


class Bound(StrEnum):
    """A family of stopping boundaries."""

    HAYBITTLE_PETO = "haybittle_peto"
    OBRIEN_FLEMING = "obrien_fleming"
    POCOCK = "pocock"


# Haybittle-Peto: an interim look rejects at this share of the error rate: p < .001 for .05 (Peto 1976, Br J Cancer 34:585-612).
HAYBITTLE_PETO_SHARE = 0.02


def obrien_fleming_spending(time: float, alpha: float) -> float:
    """Return the two-sided error spent by `time` in (0, 1]: O'Brien-Fleming type, each tail spending its own `alpha / 2`.

    4 (1 - Phi(z / sqrt(time))) with z the upper `alpha / 4` quantile. The other form in use, 2 (1 - Phi(z' / sqrt(time))) with
    the upper `alpha / 2` quantile, spends the same total and differs at every earlier look.
    """
    if time <= 0:
        return 0.0
    if time >= 1:
        return alpha
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(time)))


def pocock_spending(time: float, alpha: float) -> float:
    """Return the two-sided error spent by `time` in (0, 1]: Pocock type, alpha ln(1 + (e - 1) time)."""
    if time <= 0:
        return 0.0
    if time >= 1:
        return alpha
    return alpha * math.log1p((math.e - 1) * time)


SPENDING: dict[Bound, Spending] = {Bound.OBRIEN_FLEMING: obrien_fleming_spending, Bound.POCOCK: pocock_spending}
