"""A stopping study, look by look: what closes a contrast, what does not, and what a replay must repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from analysis.sequential.boundaries import boundary
from analysis.sequential.look_decisions import Decision, LookStatistic, decide
from analysis.sequential.spending import Bound
from analysis.sequential.stopping_rule import StoppingRule

TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)
FINAL_ERROR = 0.04


def looks(z_values: list[float], margin: float | None = None) -> list[LookStatistic]:
    """Return looks whose statistic is exactly normal."""
    result = []
    for time, z in zip(TIMES, z_values, strict=False):
        error = FINAL_ERROR / time**0.5
        equivalence = None
        if margin is not None:
            equivalence = float(max(stats.norm.sf((margin - z * error) / error), stats.norm.sf((margin + z * error) / error)))
        result.append(LookStatistic(time, z * error, error, float(2 * stats.norm.sf(abs(z))), equivalence))
    return result


def test_a_contrast_stays_open_until_it_crosses():
    rule = StoppingRule(bound=Bound.OBRIEN_FLEMING)
    assert decide(rule, {"a-b": looks([2.5, 3.0])})["a-b"].decision is Decision.OPEN
    result = decide(rule, {"a-b": looks([2.5, 3.4])})["a-b"]
    assert (result.decision, result.look) == (Decision.DIFFERENT, 1)
    assert result.corrected is not None
    assert result.corrected.interval[0] > 0
    assert result.corrected.estimate < result.corrected.naive


def test_what_comes_after_the_decision_is_ignored():
    rule = StoppingRule(bound=Bound.OBRIEN_FLEMING)
    stopped = decide(rule, {"a-b": looks([2.5, 3.4])})
    assert decide(rule, {"a-b": looks([2.5, 3.4, 0.1])}) == stopped


def test_the_last_look_closes_what_is_open():
    rule = StoppingRule()
    assert decide(rule, {"a-b": looks([0.1, 0.2, 0.1, 1.0, 1.2])})["a-b"].decision is Decision.INCONCLUSIVE
    assert decide(rule, {"a-b": looks([0.1, 0.2])}, ended=True)["a-b"].decision is Decision.INCONCLUSIVE
    assert decide(rule, {"a-b": looks([0.1, 0.2])})["a-b"].decision is Decision.OPEN


@pytest.mark.parametrize("bound", list(Bound))
def test_one_look_at_the_end_is_the_fixed_test(bound: Bound):
    rule = StoppingRule(looks=(1.0,), bound=bound)
    for p in (0.0499999999, 0.05, 0.0500000001):
        z = float(stats.norm.isf(p / 2))
        result = decide(rule, {"a-b": [LookStatistic(1.0, z * FINAL_ERROR, FINAL_ERROR, p)]})["a-b"]
        assert (result.decision is Decision.DIFFERENT) == (p < 0.05)
        assert result.bound == 0.05
        assert result.corrected is not None
        assert result.corrected.estimate == pytest.approx(z * FINAL_ERROR, abs=1e-9)


def test_holm_passes_the_share_of_a_closed_contrast_on():
    history = {"a-b": looks([0, 0, 0, 0, 4.5]), "a-c": looks([0, 0, 0, 0, 2.2]), "b-c": looks([0, 0, 0, 0, 0.3])}
    holm = decide(StoppingRule(), history)
    assert [result.decision for result in holm.values()] == [Decision.DIFFERENT, Decision.INCONCLUSIVE, Decision.INCONCLUSIVE]
    history["a-c"] = looks([0, 0, 0, 0, 2.26])  # p .024, between .05 / 3 and .05 / 2
    assert decide(StoppingRule(), history)["a-c"].decision is Decision.DIFFERENT
    assert decide(StoppingRule(correction="bonferroni"), history)["a-c"].decision is Decision.INCONCLUSIVE


def test_equivalence_and_futility_close_only_if_the_rule_says_so():
    flat = {"a-b": looks([0.0, 0.0, 0.0, 0.0], margin=0.15)}
    assert decide(StoppingRule(bound=Bound.OBRIEN_FLEMING), flat)["a-b"].decision is Decision.OPEN
    assert decide(StoppingRule(bound=Bound.OBRIEN_FLEMING, margin=0.15), flat)["a-b"].decision is Decision.EQUIVALENT
    futile = decide(StoppingRule(futility_effect=0.08), {"a-b": looks([0.0, 0.0, 0.0])})["a-b"]
    assert futile.decision is Decision.FUTILE
    # non-binding: the bounds are those without it
    assert futile.bounds == decide(StoppingRule(), {"a-b": looks([0.0, 0.0, 0.0])})["a-b"].bounds[: len(futile.bounds)]


def test_a_look_that_is_too_early_spends_nothing():
    early = [LookStatistic(0.2, 0.4, 0.01, 1e-9, too_early=True), *looks([0, 1.0, 1.0, 1.0, 2.0])[1:]]
    result = decide(StoppingRule(bound=Bound.OBRIEN_FLEMING), {"a-b": early})["a-b"]
    assert result.bounds == boundary(Bound.OBRIEN_FLEMING, TIMES[1:]).p


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=5, max_size=5), st.sampled_from(list(Bound)))
def test_swapping_labels_mirrors_everything(z_values: list[float], bound: Bound):
    if any(abs(z) < 1e-3 for z in z_values):
        return
    rule = StoppingRule(bound=bound)
    one = decide(rule, {"a-b": looks(z_values)})["a-b"]
    other = decide(rule, {"a-b": looks([-z for z in z_values])})["a-b"]
    assert (one.decision, one.look, one.bounds) == (other.decision, other.look, other.bounds)
    assert one.corrected is not None
    assert other.corrected is not None
    assert other.corrected.estimate == -one.corrected.estimate
    # the interval excludes no difference exactly if the contrast was closed as different
    excludes = one.corrected.interval[0] > 0 or one.corrected.interval[1] < 0
    assert excludes == (one.decision is Decision.DIFFERENT)


def test_three_true_nulls_are_rejected_as_often_as_planned():
    rng = np.random.default_rng(8)
    rejected = 0
    for _ in range(400):
        walks = (rng.normal(size=(3, 5)) * 0.2**0.5).cumsum(axis=1) / np.sqrt(TIMES)
        history = {str(number): looks(list(walk)) for number, walk in enumerate(walks)}
        results = decide(StoppingRule(), history, estimates=False).values()
        rejected += any(result.decision is Decision.DIFFERENT for result in results)
    assert 0.02 <= rejected / 400 <= 0.08


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"looks": [0.5, 0.4, 1.0]}, "must ascend"),
        ({"looks": [0.0, 1.0]}, "above 0"),
        ({"looks": [0.5, 1.2]}, "at most 1"),
        ({"looks": [0.5]}, "end with 1"),
        ({"bound": "peeking"}, "haybittle_peto"),
        ({"clock": "standard_errors"}, "judgments"),
        ({"pairs": [["a", "a"]]}, "with itself"),
        ({"pairs": [["a", "b"], ["b", "a"]]}, "occur twice"),
        ({"alpha": 0}, "greater than 0"),
        ({"look": [1.0]}, "not permitted"),
    ],
)
def test_a_wrong_rule_is_refused(table: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        StoppingRule.model_validate(table)


def test_uneven_histories_are_refused():
    with pytest.raises(ValueError, match="every look covers all contrasts"):
        decide(StoppingRule(), {"a-b": looks([1.0]), "a-c": looks([1.0, 1.0])})
