"""The number in each method's statement of how it differs from its authors' code."""

import re

import pytest

from benchmarks.method_differences import DISTANCES, chosen, merged, over_the_model
from benchmarks.method_variants import distance, random_loras
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS


def test_every_method_states_a_difference_that_is_measured() -> None:
    assert set(DISTANCES) == set(MERGE_METHODS)


@pytest.mark.parametrize("method", MERGE_METHODS)
def test_the_stated_difference_is_the_measured_one(method: str) -> None:
    stated = [float(number) for number in re.findall(r"\b\d\.\d\d\b", MERGE_METHODS[method].difference)]
    measured = DISTANCES[method]()
    assert any(abs(number - measured) < 0.011 for number in stated), f"{method}: measured {measured:.3f}, stated {stated}"


@pytest.mark.parametrize("method", ["ties", "knots"])
def test_trimming_over_the_model_is_the_authors_result(method: str) -> None:
    assert over_the_model(method, rotate=method == "knots", trim="model") < 0.005


def test_k_lora_in_the_authors_pattern_decides_as_their_default() -> None:
    assert chosen(pattern="authors") == chosen(pattern="authors", beta=1.275) < 0.02


def test_knots_weighs_loras_after_trimming_over_the_model() -> None:
    """The bound belongs to LoRAs without weights, so a common weight scales the merge, and weights are not trimmed away."""
    loras = random_loras(width=40, layers=3)
    once, twice = (merged("knots", loras, (w, w), trim="model", density=0.3) for w in (1.0, 2.0))
    assert distance([change / 2 for change in twice], once) < 1e-5
    alone = merged("knots", loras[:1], (0.5,), trim="model", density=1.0)
    assert distance(alone, [0.5 * loras[0].part(name).dense() for name in loras[0].factors]) < 1e-4


def test_knots_computes_the_bounds_of_a_model_once() -> None:
    loras, shared = random_loras(width=40, layers=2), {}
    for name in loras[0].factors:
        parts = [lora.part(name) for lora in loras]
        layer = Layer(name, 0, (1.0, 1.0), (0, 1), dict(enumerate(loras)), shared=shared)
        MERGE_METHODS["knots"].function(parts, layer, trim="model", density=0.3)
    assert len(shared) == 2


def test_knots_trims_random_entries_nowhere() -> None:
    card = MERGE_METHODS["knots"]
    assert card.check is not None
    with pytest.raises(ValueError, match=r'trim = "model" compares the largest entries; it needs operator = "ties"'):
        card.check(2, card.settings({"trim": "model", "operator": "dare_ties"}))
