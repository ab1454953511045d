"""The default test's error rate, coverage and power in every design of docs/statistics.md: the full table is a benchmark's, and
here each cell has few studies, bounds that a right test passes in all but one run of thousands, and a seed of its own."""

import numpy as np
import pytest

from benchmarks.false_positives import PAPER, SMALL, oracle_power, rates

STUDIES = 60


@pytest.fixture(scope="module")
def cells():
    return [rates(design, spread, STUDIES, 12, seed) for seed, (design, spread) in enumerate((*PAPER, *SMALL))]


def test_no_cell_is_wrong_far_too_often(cells):
    # 14 of 60 where 8 % is right has a chance of 1 in 8,000
    assert max(each.default for each in cells) < 14 / STUDIES
    assert min(each.coverage for each in cells) > 1 - 14 / STUDIES


@pytest.mark.parametrize("part", [slice(0, len(PAPER)), slice(len(PAPER), None)])
def test_together_the_cells_are_wrong_at_about_the_nominal_rate(cells, part):
    wrong = float(np.mean([each.default for each in cells[part]]))
    assert 0.02 <= wrong <= 0.08
    assert 0.92 <= np.mean([each.coverage for each in cells[part]]) <= 0.98


def test_the_naive_test_is_not(cells):
    assert np.mean([each.naive for each in cells[2 : len(PAPER)]]) > 0.3


def test_what_an_oracle_finds_the_default_finds(cells):
    sure = [
        found.power
        for found, (design, spread) in zip(cells, (*PAPER, *SMALL), strict=True)
        if oracle_power(design, spread) > 0.999
    ]
    assert len(sure) >= 6
    assert np.mean(sure) >= 0.95


def test_the_oracle_of_a_large_concept_effect_and_of_five_people_stays_below_the_bar():
    out_of_reach = [(design.participants, spread.concept) for design, spread in PAPER if oracle_power(design, spread) < 0.95]
    assert out_of_reach == [(60, 0.5), (5, 0.0), (5, 0.3)]
