"""Sequential p-values, and corrections over several contrasts that may stop one by one.

A Bonferroni split gives each contrast its own share of the error rate and holds under any dependence. Holm on sequential
p-values (Liu and Anderson 2008, J R Stat Soc B 70:1025-1043) and its graphical form (Maurer and Bretz 2013) reject at least as
much: the share of a rejected contrast passes to those that are open.
"""

from collections.abc import Callable, Mapping, Sequence

from scipy import optimize

from analysis.sequential.boundaries import boundary
from analysis.sequential.spending import Bound

SMALLEST = 1e-12


def sequential_p(family: Bound, times: Sequence[float], p_values: Sequence[float], *, final: bool) -> float:
    """Return the smallest total error rate at which a look so far would have rejected.

    Args:
        family: of the bounds.
        times: shares of the planned total of the looks so far, ascending.
        p_values: two-sided p-value of the fixed test at each of them.
        final: whether the last of `times` is the study's last look.

    Raises:
        ValueError: there are not as many p-values as looks, or one is outside [0, 1].
    """
    if len(p_values) != len(times):
        raise ValueError(f"{len(p_values)} p-values are given for {len(times)} looks")
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError("a p-value is outside 0 to 1")
    looks = tuple(times)

    def slack(alpha: float) -> float:
        bounds = boundary(family, looks, alpha, final=final).p
        return max(bound - p for bound, p in zip(bounds, p_values, strict=True))

    if slack(SMALLEST) >= 0:
        return SMALLEST
    if slack(1 - 1e-9) < 0:
        return 1.0
    return float(optimize.brentq(slack, SMALLEST, 1 - 1e-9, xtol=1e-12, rtol=1e-9))


def graphical_rejections(
    shares: Mapping[str, float], rejects: Callable[[str, float], bool], alpha: float = 0.05
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return the contrasts that are rejected, in order, and the error rate each contrast was last tested at.

    The share of a rejected contrast is passed to the open ones in proportion to their own shares: Holm, if shares are equal.

    Args:
        shares: share of `alpha` of every contrast; they add up to at most 1.
        rejects: whether a contrast crosses a bound, at a look so far, if tested at a given error rate.
        alpha: familywise error rate.

    Raises:
        ValueError: a share is not positive, or they add up to more than 1.
    """
    if any(share <= 0 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise ValueError("shares of the error rate must be positive and add up to at most 1")
    total = sum(shares.values())
    rejected: list[str] = []
    levels = {name: alpha * share for name, share in shares.items()}
    while True:
        crossing = [name for name in shares if name not in rejected and rejects(name, levels[name])]
        if not crossing:
            return tuple(rejected), levels
        rejected.append(crossing[0])
        still_open = [name for name in shares if name not in rejected]
        weight = sum(shares[name] for name in still_open)
        for name in still_open:
            levels[name] = alpha * total * shares[name] / weight
