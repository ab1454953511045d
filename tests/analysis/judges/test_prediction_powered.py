"""Prediction-powered estimates: ppi-python's numbers, and what a judge can and cannot buy."""

import numpy as np
import pytest

from analysis.inference.concept_sets import ConceptSets
from analysis.judges.prediction_powered import clustered_estimate, independent_estimate

VOTES = np.array([1, 0, 1, 1, 0, 1], float)
PREDICTIONS = np.array([0.9, 0.2, 0.6, 0.8, 0.4, 0.7])
FURTHER = np.array([0.5, 0.3, 0.8, 0.6, 0.9, 0.1, 0.7, 0.4])


def test_the_numbers_of_ppi_python():
    # ppi-python 0.2.3, ppi_mean_ci
    assert independent_estimate(VOTES, PREDICTIONS, FURTHER, 1.0).estimate == pytest.approx(0.6041667, abs=1e-7)
    tuned = independent_estimate(VOTES, PREDICTIONS, FURTHER)
    assert tuned.power_tuning == pytest.approx(0.8717519, abs=1e-7)
    assert tuned.estimate == pytest.approx(0.6121822, abs=1e-7)
    assert tuned.interval[1] - tuned.estimate == pytest.approx(0.2845543, abs=1e-6)


def simulate(rng: np.random.Generator, concepts: int, seeds: int) -> tuple[np.ndarray, np.ndarray, ConceptSets]:
    """Return votes and predictions of comparisons of one concept each: both follow the concept's own effect."""
    effect = rng.normal(0, 0.15, concepts)
    names = np.repeat(np.arange(concepts), seeds)
    shared = effect[names] + rng.normal(0, 0.1, len(names))
    votes = (rng.random(len(names)) < np.clip(0.55 + shared, 0, 1)).astype(float)
    return votes, 0.55 + shared, ConceptSets.of([(f"c{name}",) for name in names.tolist()])


def test_further_concepts_narrow_the_interval_and_it_covers():
    rng = np.random.default_rng(12)
    covered, errors, human = 0, [], []
    for _ in range(200):
        votes, predictions, sets = simulate(rng, 30, 4)
        _, further, _ = simulate(rng, 100, 4)
        further_sets = ConceptSets.of([(f"d{name}",) for name in np.repeat(np.arange(100), 4).tolist()])
        result = clustered_estimate(votes, predictions, np.arange(len(votes)), sets, None, further, further_sets)
        assert result is not None
        covered += result.interval[0] <= 0.55 <= result.interval[1]
        errors.append(result.standard_error)
        human.append(result.human_standard_error)
    assert 0.91 <= covered / 200 <= 0.985
    assert np.mean(errors) < 0.95 * np.mean(human)


def test_a_concept_may_not_be_on_both_sides():
    sets = ConceptSets.of([("a",), ("b",)])
    with pytest.raises(ValueError, match="shares a concept"):
        clustered_estimate(VOTES[:2], PREDICTIONS[:2], np.arange(2), sets, None, FURTHER[:2], ConceptSets.of([("b",), ("c",)]))
