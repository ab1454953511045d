"""Bounds from the correlation of the looks: gold values, and the recursion as the special case."""

import numpy as np
import pytest

from analysis.sequential.boundaries import boundary
from analysis.sequential.joint_boundaries import (
    joint_bounds,
    joint_crossing_probability,
    joint_stopped_estimate,
    valid_correlation,
)
from analysis.sequential.recursion import crossing_probability
from analysis.sequential.spending import Bound, obrien_fleming_spending
from analysis.sequential.stagewise import stopped_estimate

TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)


def independent(times: tuple[float, ...]) -> np.ndarray:
    values = np.array(times)
    return np.sqrt(np.minimum.outer(values, values) / np.maximum.outer(values, values))


def spent(times: tuple[float, ...]) -> list[float]:
    return [obrien_fleming_spending(time, 0.05) for time in times]


def test_three_looks_with_a_known_correlation():
    # mvtnorm's pmvnorm, algorithm Miwa(4096)
    correlation = np.array([[1, 0.6, 0.5], [0.6, 1, 0.85], [0.5, 0.85, 1]])
    bounds = joint_bounds(correlation, spent((1 / 3, 2 / 3, 1.0)))
    assert bounds == pytest.approx((3.71030, 2.51277, 1.98545), abs=2e-3)
    assert joint_crossing_probability(correlation, bounds) == pytest.approx(0.05, abs=2e-4)


def test_a_floor_of_the_variance_makes_bounds_from_votes_conservative():
    # variances that level off: shared concepts; mvtnorm spends .0425 of .05 with bounds from votes
    information = 1 / np.array([3.0, 2.4, 2.2, 2.1, 2.05])
    correlation = np.sqrt(np.minimum.outer(information, information) / np.maximum.outer(information, information))
    votes = boundary(Bound.OBRIEN_FLEMING, TIMES).z
    assert joint_crossing_probability(correlation, votes) == pytest.approx(0.0425, abs=6e-4)
    assert crossing_probability(information, votes) == pytest.approx(0.0425, abs=1e-4)
    assert joint_bounds(correlation, spent(TIMES)) == pytest.approx((4.87688, 3.35687, 2.66895, 2.25167, 1.96140), abs=1e-4)


def test_independent_increments_agree_with_the_recursion():
    correlation = independent(TIMES)
    correlation[0, 1] = correlation[1, 0] = correlation[0, 1] - 1e-6  # just enough to take the other way
    exact = boundary(Bound.OBRIEN_FLEMING, TIMES).z
    assert joint_bounds(correlation, spent(TIMES)) == pytest.approx(exact, abs=3e-3)
    assert joint_bounds(independent(TIMES), spent(TIMES)) == pytest.approx(exact, abs=1e-9)


def test_the_estimate_agrees_with_the_recursion():
    information = np.array([100.0, 200.0, 300.0])
    bounds = boundary(Bound.OBRIEN_FLEMING, TIMES).z[:2]
    exact = stopped_estimate(information.tolist(), bounds, 2.9)
    joint = joint_stopped_estimate(independent((0.2, 0.4, 0.6)), (information**-0.5).tolist(), bounds, 2.9)
    assert joint.estimate == pytest.approx(exact.estimate, abs=5e-4)
    assert joint.interval == pytest.approx(exact.interval, abs=5e-4)
    mirrored = joint_stopped_estimate(independent((0.2, 0.4, 0.6)), (information**-0.5).tolist(), bounds, -2.9)
    assert mirrored.estimate == -joint.estimate


def test_an_impossible_correlation_is_repaired():
    repaired = valid_correlation(np.array([[1.0, 1.3, 0.1], [1.3, 1.0, 0.9], [0.1, 0.9, 1.0]]))
    assert np.diag(repaired) == pytest.approx(1.0)
    assert np.linalg.eigvalsh(repaired).min() > 0
    np.linalg.cholesky(repaired)
