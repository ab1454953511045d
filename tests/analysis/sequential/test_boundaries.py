"""Stopping boundaries against published tables, and the laws they obey."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.sequential.boundaries import boundary, nominal_p, spending_bounds
from analysis.sequential.recursion import crossing_probability
from analysis.sequential.spending import SPENDING, Bound

# rpact 3.3.4, two-sided alpha = .05, asOF and asP
OBRIEN_FLEMING = {
    (0.5, 1.0): (2.96259, 1.96860),
    (1 / 3, 2 / 3, 1.0): (3.71030, 2.51143, 1.99305),
    (0.25, 0.5, 0.75, 1.0): (4.33263, 2.96313, 2.35904, 2.01409),
    (0.2, 0.4, 0.6, 0.8, 1.0): (4.87688, 3.35701, 2.68028, 2.28982, 2.03103),
    (0.2, 0.6, 1.0): (4.87688, 2.66865, 1.98097),
    tuple(k / 10 for k in range(1, 11)): (
        6.99135, 4.87689, 3.92968, 3.36708, 2.98933, 2.71481, 2.50408, 2.33583, 2.19750, 2.08118,
    ),
}  # fmt: skip
POCOCK = {
    (0.5, 1.0): (2.15700, 2.20098),
    (1 / 3, 2 / 3, 1.0): (2.27943, 2.29491, 2.29594),
    (0.25, 0.5, 0.75, 1.0): (2.36833, 2.36752, 2.35817, 2.35004),
    (0.2, 0.4, 0.6, 0.8, 1.0): (2.43798, 2.42681, 2.41019, 2.39665, 2.38599),
    (0.2, 0.6, 1.0): (2.43798, 2.26028, 2.26348),
}
# the exact last bound after interim looks at p < .001
HAYBITTLE_PETO = {2: 1.96189, 3: 1.96437, 4: 1.96684, 5: 1.96922, 10: 1.97938}
# what peeking at 1.96 does to the error rate
PEEKING = {2: 0.08312, 3: 0.10726, 5: 0.14169, 10: 0.19336}


def equal_looks(count: int) -> tuple[float, ...]:
    return tuple((look + 1) / count for look in range(count))


@pytest.mark.parametrize(("family", "table"), [(Bound.OBRIEN_FLEMING, OBRIEN_FLEMING), (Bound.POCOCK, POCOCK)])
def test_bounds_match_the_published_tables(family: Bound, table: dict[tuple[float, ...], tuple[float, ...]]):
    for times, bounds in table.items():
        assert boundary(family, times).z == pytest.approx(bounds, abs=1e-4)


@pytest.mark.parametrize("looks", HAYBITTLE_PETO)
def test_haybittle_peto_ends_at_the_exact_bound(looks: int):
    result = boundary(Bound.HAYBITTLE_PETO, equal_looks(looks))
    assert result.p[:-1] == pytest.approx([0.001] * (looks - 1), rel=1e-9)
    assert result.z[-1] == pytest.approx(HAYBITTLE_PETO[looks], abs=1e-5)


@pytest.mark.parametrize("looks", PEEKING)
def test_peeking_at_the_fixed_bound_costs_what_it_is_known_to_cost(looks: int):
    assert crossing_probability(equal_looks(looks), [1.959964] * looks) == pytest.approx(PEEKING[looks], abs=1e-5)


def test_three_contrasts_split_the_error_rate():
    result = boundary(Bound.OBRIEN_FLEMING, equal_looks(5), 0.05 / 3)
    assert result.z == pytest.approx((5.78387, 4.01073, 3.21650, 2.75117, 2.44112), abs=1e-4)
    assert boundary(Bound.HAYBITTLE_PETO, equal_looks(5), 0.05 / 3).p[-1] == pytest.approx(0.016206, abs=1e-6)
    assert boundary(Bound.HAYBITTLE_PETO, equal_looks(5), 0.025).p[-1] == pytest.approx(0.02436, abs=1e-5)


@pytest.mark.parametrize("family", list(Bound))
def test_one_look_is_the_fixed_design(family: Bound):
    for alpha in (0.05, 0.05 / 3, 0.01):
        assert boundary(family, [1.0], alpha).p == (alpha,)
        # a study whose only look comes before the end spends everything there
        assert boundary(family, [0.4], alpha).p == (alpha,)


times_of_looks = st.lists(st.integers(1, 19), min_size=0, max_size=4, unique=True).map(
    lambda shares: (*sorted(share / 20 for share in shares), 1.0)
)


@settings(max_examples=25, deadline=None)
@given(times_of_looks, st.sampled_from(list(Bound)), st.sampled_from([0.05, 0.05 / 3, 0.1]))
def test_the_error_rate_is_spent_exactly(times: tuple[float, ...], family: Bound, alpha: float):
    result = boundary(family, times, alpha)
    assert result.spent[-1] == pytest.approx(alpha, abs=1e-6)
    assert all(later >= earlier for earlier, later in zip(result.spent, result.spent[1:], strict=False))


@settings(max_examples=25, deadline=None)
@given(times_of_looks, st.integers(1, 19), st.sampled_from(list(Bound)))
def test_adding_a_look_lowers_no_bound(times: tuple[float, ...], share: int, family: Bound):
    added = share / 20
    if added in times:
        return
    before = dict(zip(times, boundary(family, times).z, strict=True))
    longer = tuple(sorted((*times, added)))
    after = dict(zip(longer, boundary(family, longer).z, strict=True))
    assert all(after[time] >= before[time] - 1e-7 for time in times)


@pytest.mark.parametrize("family", [Bound.OBRIEN_FLEMING, Bound.POCOCK])
def test_a_later_look_does_not_change_an_earlier_bound(family: Bound):
    whole = boundary(family, equal_looks(5))
    for looks in range(1, 5):
        assert boundary(family, equal_looks(5)[:looks], final=False).z == whole.z[:looks]


def test_a_tiny_first_look_stays_finite():
    result = boundary(Bound.OBRIEN_FLEMING, (0.001, 0.01, 1.0))
    assert all(math.isfinite(bound) or bound == math.inf for bound in result.z)
    assert result.z[-1] == pytest.approx(1.959964, abs=1e-4)


def test_simulated_walks_cross_as_often_as_stated():
    rng = np.random.default_rng(5)
    times = np.array(equal_looks(4))
    steps = rng.normal(size=(200_000, 4)) * 0.5
    z = steps.cumsum(axis=1) / np.sqrt(times)
    for family in Bound:
        crossed = (np.abs(z) >= boundary(family, equal_looks(4)).z).any(axis=1).mean()
        assert crossed == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 200_000))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], "no looks"),
        ([0.0, 1.0], "above 0"),
        ([0.5, 1.1], "at most 1"),
        ([0.6, 0.5], "must ascend"),
        ([0.5, 0.5], "must ascend"),
        ([float("nan")], "above 0"),
    ],
)
def test_wrong_looks_are_refused(times: list[float], message: str):
    with pytest.raises(ValueError, match=message):
        boundary(Bound.OBRIEN_FLEMING, times)


def test_a_wrong_error_rate_is_refused():
    with pytest.raises(ValueError, match="error rate"):
        boundary(Bound.POCOCK, [1.0], 0.0)


def test_spending_nothing_never_stops():
    assert spending_bounds([0.5, 1.0], [0.0, 0.05])[0] == math.inf
    assert nominal_p(math.inf) == 0.0
    assert set(SPENDING) == {Bound.OBRIEN_FLEMING, Bound.POCOCK}
