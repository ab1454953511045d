"""Stopping boundaries from the joint covariance of the looks.

Independent increments hold if a later look weighs all clusters of a level equally. A participant who arrives late with half
of all votes breaks that: the correlation between looks is then lower than the share of votes implies, and bounds must come from
the correlation itself. Probabilities are quasi-Monte Carlo: Sobol normals and their negatives from a fixed seed, so the same
looks always give the same bounds.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from scipy.stats import qmc

from analysis.sequential.boundaries import spending_bounds
from analysis.sequential.stagewise import StoppedEstimate, invert

Floats = NDArray[np.float64]

DRAWS = 2**16
# with the negatives
TOTAL = 2 * DRAWS
SEED = 2026
# Correlations this close to those of independent increments take the recursion, which is exact.
CLOSE = 1e-9


def valid_correlation(correlation: Floats) -> Floats:
    """Return the nearest usable correlation matrix: entries clipped to [0, .9999], eigenvalues at least 1e-6."""
    clipped = np.clip((correlation + correlation.T) / 2, 0.0, 0.9999)
    np.fill_diagonal(clipped, 1.0)
    values, vectors = np.linalg.eigh(clipped)
    if values.min() < 1e-6:
        clipped = (vectors * np.maximum(values, 1e-6)) @ vectors.T
        scale = np.sqrt(np.diag(clipped))
        clipped = clipped / np.outer(scale, scale)
    return np.asarray(clipped, np.float64)


def joint_bounds(correlation: Floats, spent: Sequence[float]) -> tuple[float, ...]:
    """Return the bounds on the Z scale whose cumulative crossing probabilities are `spent`.

    Args:
        correlation: correlation of the looks' statistics, shape (looks, looks).
        spent: cumulative two-sided error at every look, ascending.
    """
    information = _information(correlation)
    if information is not None:
        return spending_bounds(information, spent)
    paths = _Paths(correlation)
    bounds: list[float] = []
    before = 0.0
    for target in spent:
        bounds.append(_solve(paths, target - before))
        paths.keep_within(bounds[-1])
        before = target
    return tuple(bounds)


def joint_crossing_probability(correlation: Floats, bounds: Sequence[float]) -> float:
    """Return the probability that |Z| reaches its bound at any look."""
    paths, total = _Paths(correlation), 0.0
    for bound in bounds:
        total += sum(paths.exits(bound))
        paths.keep_within(bound)
    return total


def joint_stopped_estimate(
    correlation: Floats, errors: Sequence[float], bounds: Sequence[float], z: float, alpha: float = 0.05
) -> StoppedEstimate:
    """Return the median-unbiased estimate and interval of a study that ended at the last of its looks.

    Args:
        correlation: correlation of the looks so far, shape (looks, looks).
        errors: standard error of the estimate at every look.
        bounds: bounds on the Z scale of the looks before the last one.
        z: the statistic at the last look, on the normal scale.
        alpha: one minus the level of the interval.
    """
    naive = z * errors[-1]
    if z < 0:
        mirror = joint_stopped_estimate(correlation, errors, bounds, -z, alpha)
        return StoppedEstimate(naive, -mirror.estimate, (-mirror.interval[1], -mirror.interval[0]), mirror.p)
    shifts = 1 / np.asarray(errors)

    def tail(effect: float) -> float:
        # only crossings of the upper bound are more extreme than a stop above
        paths, total = _Paths(correlation, effect * shifts), 0.0
        for bound in bounds:
            total += paths.exits(bound)[1]
            paths.keep_within(bound)
        return total + paths.exits(z)[1]

    low, middle, high = (invert(tail, target, naive, errors[-1]) for target in (alpha / 2, 0.5, 1 - alpha / 2))
    return StoppedEstimate(naive, middle, (low, high), min(1.0, 2 * tail(0.0)))


def _information(correlation: Floats) -> tuple[float, ...] | None:
    """Return the information of each look relative to the last if increments are independent, else None."""
    values = correlation[:, -1] ** 2
    if (np.diff(values) <= 0).any():
        return None
    expected = np.sqrt(np.minimum.outer(values, values) / np.maximum.outer(values, values))
    return tuple(values.tolist()) if np.abs(expected - correlation).max() < CLOSE else None


class _Paths:
    """Simulated statistics look by look, in which the look at hand is integrated exactly given the ones before.

    With Z = shift + L n, L the Cholesky factor, the next Z is normal given the earlier draws: its exit probability is a mean of
    normal tails, smooth in the bound, which a count of paths would not be.
    """

    def __init__(self, correlation: Floats, shifts: Floats | None = None) -> None:
        looks = len(correlation)
        self._factor = np.linalg.cholesky(correlation)
        self._shifts = np.zeros(looks) if shifts is None else shifts
        self._normals = _normals(looks)
        self._look = 0

    def _given(self) -> tuple[Floats, float]:
        look = self._look
        return self._shifts[look] + self._normals[:, :look] @ self._factor[look, :look], float(self._factor[look, look])

    def exits(self, bound: float) -> tuple[float, float]:
        """Return the probabilities of leaving through the lower and the upper bound at this look."""
        centre, scale = self._given()
        lower, upper = special.ndtr((-bound - centre) / scale), special.ndtr((centre - bound) / scale)
        return float(lower.sum()) / TOTAL, float(upper.sum()) / TOTAL

    def keep_within(self, bound: float) -> None:
        """Drop the paths that leave at this look and go to the next one."""
        centre, scale = self._given()
        alive = np.abs(centre + scale * self._normals[:, self._look]) < bound
        self._normals = self._normals[alive]
        self._look += 1


def _solve(paths: _Paths, increment: float) -> float:
    if increment <= 0:
        return math.inf

    def excess(bound: float) -> float:
        return math.log(max(sum(paths.exits(bound)), 1e-320)) - math.log(increment)

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, 38.0, xtol=1e-10, rtol=1e-13))


@lru_cache(maxsize=4)
def _normals(looks: int) -> Floats:
    points = qmc.Sobol(looks, scramble=True, rng=np.random.default_rng(SEED)).random(DRAWS)
    normals = special.ndtri(np.clip(points, 1e-12, 1 - 1e-12))
    both = np.concatenate([normals, -normals])
    both.setflags(write=False)
    return both
