"""Sequential p-values, corrections over contrasts, and futility."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.sequential.boundaries import boundary, nominal_p
from analysis.sequential.futility import conditional_power, two_sided_conditional_power
from analysis.sequential.sequential_p import graphical_rejections, sequential_p
from analysis.sequential.spending import Bound

TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(("look", "z", "one_sided"), [(2, 2.0, 0.15103), (3, 2.9, 0.016229)])
def test_published_sequential_p_values(look: int, z: float, one_sided: float):
    # one-sided OBF type, five looks; two-sided bounds at twice the rate are the same to the share of paths that cross both
    p = sequential_p(Bound.OBRIEN_FLEMING, TIMES[:look], [1.0] * (look - 1) + [nominal_p(z)], final=False)
    assert p / 2 == pytest.approx(one_sided, rel=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(Bound)), st.integers(1, 5), st.floats(0.0005, 0.2))
def test_a_sequential_p_is_below_alpha_exactly_if_a_bound_was_crossed(family: Bound, looks: int, p: float):
    bounds = boundary(family, TIMES[:looks], final=looks == 5).p
    if abs(p - bounds[-1]) < 1e-6:
        return
    value = sequential_p(family, TIMES[:looks], [1.0] * (looks - 1) + [p], final=looks == 5)
    assert (value < 0.05) == (p < bounds[-1])


def test_one_look_leaves_the_p_value_as_it_is():
    for family in Bound:
        assert sequential_p(family, [1.0], [0.03], final=True) == pytest.approx(0.03, rel=1e-6)


def test_equal_shares_are_holm():
    p_values = {"a": 0.012, "b": 0.02, "c": 0.04}
    rejected, levels = graphical_rejections(dict.fromkeys(p_values, 1 / 3), lambda name, alpha: p_values[name] < alpha)
    assert rejected == ("a", "b", "c")
    assert levels == pytest.approx({"a": 0.05 / 3, "b": 0.025, "c": 0.05})
    p_values["b"] = 0.03
    assert graphical_rejections(dict.fromkeys(p_values, 1 / 3), lambda name, alpha: p_values[name] < alpha)[0] == ("a",)


def test_wrong_shares_are_refused():
    with pytest.raises(ValueError, match="add up"):
        graphical_rejections({"a": 0.7, "b": 0.7}, lambda *_: False)
    with pytest.raises(ValueError, match="p-values are given"):
        sequential_p(Bound.POCOCK, [0.5, 1.0], [0.1], final=True)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        sequential_p(Bound.POCOCK, [1.0], [float("nan")], final=True)


def test_conditional_power_of_a_dead_heat_falls_with_time():
    powers = [conditional_power(0.0, share * 400, 400.0, 0.1, 1.96) for share in (0.2, 0.5, 0.8)]
    assert powers == sorted(powers, reverse=True)
    # without data it is the power of the whole study
    assert conditional_power(0.0, 1e-9, 400.0, 0.1, 1.96) == pytest.approx(0.516, abs=1e-3)
    assert two_sided_conditional_power(-2.5, 200.0, 400.0, 0.1, 1.96) == conditional_power(2.5, 200.0, 400.0, 0.1, 1.96)
    with pytest.raises(ValueError, match="nothing left"):
        conditional_power(1.0, 400.0, 400.0, 0.1, 1.96)
