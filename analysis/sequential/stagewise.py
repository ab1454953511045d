"""Estimates after a sequential test stopped: stage-wise ordering of the sample space.

An early stop overstates the effect. The median-unbiased estimate and its interval invert the stage-wise p-value (Armitage 1957;
Tsiatis, Rosner and Mehta 1984, Biometrics 40:797-803): an earlier crossing is more extreme than a later one, and at one look a
larger statistic is more extreme. The interval excludes 0 exactly if the boundary was crossed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from scipy import optimize, special

from analysis.sequential.recursion import START, advance, exit_probabilities


@dataclass(frozen=True, slots=True)
class StoppedEstimate:
    """An estimate corrected for the looks before it, in the unit of `naive`."""

    naive: float
    estimate: float
    """Median-unbiased."""
    interval: tuple[float, float]
    """Two-sided, at `1 - alpha`."""
    p: float
    """Two-sided, at most 1."""


def stagewise_tail(information: Sequence[float], bounds: Sequence[float], z: float, drift: float) -> float:
    """Return the probability, for effect `drift`, of a result at least as far up as a stop at the last look with statistic `z`.

    `bounds` are those of the looks before the last one; `information` is 1 / variance of the estimate at every look.
    """
    walk, total = START, 0.0
    for value, bound in zip(information[:-1], bounds, strict=True):
        total += exit_probabilities(walk, value, bound, drift)[1]
        walk = advance(walk, value, bound, drift)
    last = information[-1]
    step = last - walk.information
    centre = walk.nodes + drift * step
    return total + float(walk.mass @ special.ndtr((centre - z * last**0.5) / step**0.5))


def stopped_estimate(information: Sequence[float], bounds: Sequence[float], z: float, alpha: float = 0.05) -> StoppedEstimate:
    """Return the median-unbiased estimate and interval of a study that ended at the last of its looks.

    Args:
        information: 1 / variance of the estimate at every look so far, ascending.
        bounds: bounds on the Z scale of the looks before the last one.
        z: the statistic at the last look; the naive estimate is `z / sqrt(information[-1])`.
        alpha: one minus the level of the interval.

    Raises:
        ValueError: the information does not ascend, or `bounds` has another length than the earlier looks.
    """
    if len(bounds) != len(information) - 1:
        raise ValueError(f"{len(bounds)} bounds are given for {len(information) - 1} earlier looks")
    if any(later <= earlier for earlier, later in zip([0.0, *information], information, strict=False)):
        raise ValueError("the information of the looks does not ascend")
    naive = z / information[-1] ** 0.5
    if z < 0:  # mirrored, so that the estimate is antisymmetric to the last digit
        mirror = stopped_estimate(information, bounds, -z, alpha)
        return StoppedEstimate(naive, -mirror.estimate, (-mirror.interval[1], -mirror.interval[0]), mirror.p)
    tail = partial(stagewise_tail, information, bounds, z)
    low, middle, high = (invert(tail, target, naive, information[0] ** -0.5) for target in (alpha / 2, 0.5, 1 - alpha / 2))
    return StoppedEstimate(naive, middle, (low, high), min(1.0, 2 * tail(0.0)))


def invert(tail: Callable[[float], float], target: float, start: float, width: float) -> float:
    """Return the effect at which the increasing function `tail` equals `target`, searched outward from `start`."""
    low, high = start - width, start + width
    while tail(low) > target:
        low -= width
    while tail(high) < target:
        high += width
    return float(optimize.brentq(lambda drift: tail(drift) - target, low, high, xtol=1e-12, rtol=1e-12))
