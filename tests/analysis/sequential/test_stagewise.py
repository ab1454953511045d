"""Estimates after stopping: gold values, and what the interval must agree with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.sequential.boundaries import boundary
from analysis.sequential.spending import Bound
from analysis.sequential.stagewise import stagewise_tail, stopped_estimate

INFORMATION = (100.0, 200.0, 300.0, 400.0, 500.0)
BOUNDS = boundary(Bound.OBRIEN_FLEMING, (0.2, 0.4, 0.6, 0.8, 1.0)).z


def test_a_stop_at_the_third_look():
    result = stopped_estimate(INFORMATION[:3], BOUNDS[:2], 2.9)
    assert result.naive == pytest.approx(0.1674316, abs=1e-7)
    assert result.estimate == pytest.approx(0.1667460, abs=1e-6)
    assert result.interval == pytest.approx((0.0530710, 0.2801252), abs=1e-6)
    assert stagewise_tail(INFORMATION[:3], BOUNDS[:2], 2.9, 0.0) == pytest.approx(0.0020507, abs=1e-7)


def test_rpact_gives_the_same():
    # getAnalysisResults(normalApproximation = TRUE), which pools the standard deviation over stages
    information = tuple(value / 0.9974846**2 for value in INFORMATION[:3])
    result = stopped_estimate(information, BOUNDS[:2], 2.9073130)
    assert result.p / 2 == pytest.approx(0.002009526, abs=2e-8)
    assert result.estimate == pytest.approx(0.16673038, abs=2e-7)
    assert result.interval == pytest.approx((0.05332666, 0.27983028), abs=2e-7)


def test_a_first_look_is_the_fixed_estimate():
    result = stopped_estimate([50.0], [], 1.5)
    assert result.estimate == pytest.approx(result.naive, abs=1e-9)
    assert result.interval == pytest.approx((result.naive - 1.959964 / 50**0.5, result.naive + 1.959964 / 50**0.5), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), st.floats(-6, 6).filter(lambda z: abs(z) > 1e-3))
def test_the_interval_excludes_no_effect_exactly_if_the_boundary_was_crossed(look: int, z: float):
    if look < 4 and abs(z) < BOUNDS[look]:
        z = float(np.sign(z)) * (BOUNDS[look] + 0.01)  # the study would not have stopped there
    result = stopped_estimate(INFORMATION[: look + 1], BOUNDS[:look], z)
    crossed = abs(z) >= BOUNDS[look]
    excluded = result.interval[0] > 0 or result.interval[1] < 0
    if abs(abs(z) - BOUNDS[look]) > 1e-3:
        assert crossed == excluded
    mirrored = stopped_estimate(INFORMATION[: look + 1], BOUNDS[:look], -z)
    assert mirrored.estimate == -result.estimate
    assert result.interval[0] < result.estimate < result.interval[1]
    # an early stop overstates; at the last look the correction can go a little in the other direction
    assert abs(result.estimate) <= abs(result.naive) + 0.02


def test_wrong_information_is_refused():
    with pytest.raises(ValueError, match="ascend"):
        stopped_estimate([100.0, 90.0], [4.0], 2.0)
    with pytest.raises(ValueError, match="bounds are given"):
        stopped_estimate([100.0], [4.0], 2.0)
