"""Metrics across arms: the truth is found, laws hold, and best means separated."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from analysis.inference.concept_sets import ConceptSets
from analysis.metrics.paired import Measured, measure, paired_contrast


def measured(shift=0.0, concepts=10, seeds=3, sigma=0.5, seed=0, direction="higher", arms=("a", "b", "c")):
    """Return scores of all pairs of concepts; every later arm is `shift` higher, concepts move arms apart."""
    rng = np.random.default_rng(seed)
    pairs = list(combinations(range(concepts), 2))
    cell = np.repeat(np.arange(len(pairs)), seeds)
    effect = rng.normal(0, sigma, (concepts, len(arms)))
    by_pair = np.array([effect[i] + effect[j] for i, j in pairs])
    values = 60 + by_pair[cell] + shift * np.arange(len(arms)) + rng.normal(0, 1, (len(cell), len(arms)))
    return Measured("musiq", "musiq|1", direction, arms, values, ConceptSets.of([pairs[code] for code in cell]))


def test_the_interval_covers_the_truth_at_about_its_nominal_rate():
    inside = []
    for seed in range(200):
        found = paired_contrast(measured(1.0, concepts=20, seeds=1, seed=seed), "b", "a")
        inside.append(found.interval[0] <= 1.0 <= found.interval[1])
        assert "concepts" in found.scope
    assert 0.90 <= np.mean(inside) <= 0.99


def test_swapping_arms_negates_and_a_constant_changes_nothing():
    data = measured(0.5)
    one, other = paired_contrast(data, "a", "b"), paired_contrast(data, "b", "a")
    assert one.estimate == pytest.approx(-other.estimate)
    assert one.effect_size == pytest.approx(-other.effect_size)
    assert one.p == pytest.approx(other.p)
    moved = paired_contrast(replace(data, values=data.values + 7), "a", "b")
    assert moved.p == pytest.approx(one.p)


def test_best_is_named_only_where_it_is_separated_from_all():
    assert measure(measured(3.0)).best() == "c"
    assert measure(measured(3.0, direction="lower")).best() == "a"
    assert measure(measured(0.0)).best() is None
    assert measure(measured(3.0, direction="none")).best() is None


def test_holm_covers_all_pairs_of_arms():
    found = measure(measured(0.4))
    assert len(found.contrasts) == 3
    assert all(each.p_adjusted >= each.p for each in found.contrasts)
    assert [mean.p for mean in found.means] == [None, None, None]


@pytest.mark.parametrize("arms", [("a",), ("a", "b")])
def test_few_arms_and_one_case_are_said_and_never_nan(arms):
    data = measured(arms=arms, concepts=2, seeds=1)
    found = measure(data)
    assert found.best() is None
    for contrast in (*found.means, *found.contrasts):
        assert contrast.interval is None
        assert contrast.notes


def test_equal_images_give_a_difference_of_zero_without_an_invented_error():
    data = measured()
    same = replace(data, values=np.repeat(data.values[:, :1], 3, axis=1))
    found = paired_contrast(same, "a", "b")
    assert found.estimate == 0.0
    assert found.p is None
    assert found.effect_size is None
