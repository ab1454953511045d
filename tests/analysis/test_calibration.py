"""The default verdict's error rate, coverage and power in every design of docs/statistics.md: the full table is a benchmark's,
and here each cell has few studies and bounds that a right test passes in all but one run of thousands."""

import numpy as np
import pytest

from benchmarks.false_positives import CELLS, PAPER, SMALL, oracle_power, rates

STUDIES = 60
CHECKED = [cell for cell in CELLS if not cell.reported]


@pytest.fixture(scope="module")
def found():
    return {cell: rates(cell, STUDIES) for cell in CELLS}


def test_no_cell_is_wrong_far_too_often(found):
    # 15 of 60 where 8 % is right has a chance of 1 in 10,000
    assert max(found[cell].wrong for cell in CHECKED) < 15 / STUDIES
    assert min(found[cell].coverage for cell in CHECKED if found[cell].coverage is not None) > 1 - 15 / STUDIES


def test_skewed_metrics_are_pointed_at(found):
    reported = [found[cell].warned for cell in CELLS if cell.reported]
    normal = [found[cell].warned for cell in CELLS if cell.kind == "metric" and cell.truth.distribution == "normal"]
    assert np.mean(reported) >= 0.9
    assert np.mean(normal) <= 0.1


def test_every_kind_of_design_is_covered():
    names = " ".join(cell.name for cell in CELLS)
    for kind in (
        "half of the votes", "Zipf", "3 of", "4 of", "5 of", "these 2 cases", "these 4 cases", "these 2 participants", "hub",
        "ring", "subjects x", "ties", "t3", "metric", "choice of one", "lognormal",
    ):  # fmt: skip
        assert kind in names


def test_together_the_cells_are_wrong_at_about_the_nominal_rate(found):
    cells = [found[cell] for cell in CHECKED if not cell.lower]
    assert 0.03 <= np.mean([each.wrong for each in cells]) <= 0.06
    assert 0.94 <= np.mean([each.coverage for each in cells if each.coverage is not None]) <= 0.98


def test_the_naive_test_is_not(found):
    assert np.mean([found[cell].naive for cell in PAPER[2:]]) > 0.3


def test_what_an_oracle_finds_the_default_finds(found):
    sure = [found[cell].power for cell in (*PAPER, *SMALL) if oracle_power(cell) > 0.999]
    assert len(sure) >= 6
    assert np.mean(sure) >= 0.95


def test_the_oracle_of_a_large_concept_effect_and_of_five_people_stays_below_the_bar():
    out_of_reach = [(cell.plan.participants, cell.truth.spread.concept) for cell in PAPER if oracle_power(cell) < 0.95]
    assert out_of_reach == [(60, 0.5), (5, 0.0), (5, 0.3)]
