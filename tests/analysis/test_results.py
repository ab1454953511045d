"""Every result becomes rows, a frame and Markdown, with the numbers it holds."""

import re
import subprocess
import sys

import numpy as np
import pytest

from analysis.contrast import Contrast
from analysis.inference.bradley_terry import fit_strengths
from analysis.inference.concept_sets import ConceptSets
from analysis.inference.glmm import fit_mixed
from analysis.inference.paired_comparisons import Comparisons
from analysis.inference.plackett_luce import Rankings, fit_rankings
from analysis.inference.quasi_standard_errors import quasi_errors
from analysis.inference.random_effects import RandomTerm
from analysis.inference.shares import Choices, shares
from analysis.metrics.paired import Measured, measure
from analysis.report.result_markdown import markdown_of
from analysis.results import frame_of
from analysis.votes.agreement import agreement
from analysis.votes.preference import Votes, preference

RNG = np.random.default_rng(3)
ROWS = np.arange(240)
WHO, ITEM = ROWS % 12, ROWS // 4
CHOICE = (RNG.random(240) < 0.6).astype(float)
SETS = ConceptSets.of([(f"c{item % 6}", f"c{(item + 1 + item // 6) % 6}") for item in ITEM])
THREE = ("direct", "dropout", "ties")


def strengths():
    left, right = ROWS % 3, (ROWS + 1) % 3
    return fit_strengths(Comparisons(THREE, left, right, np.where(ROWS % 9 == 0, 0.5, CHOICE)).counts(), side=True)


RESULTS = {
    "contrast": lambda: preference(Votes("a", "b", CHOICE, ITEM, WHO, SETS), 0.05).clustered,
    "preference": lambda: preference(Votes("a", "b", CHOICE, ITEM, WHO, SETS), 0.05),
    "agreement": lambda: agreement(np.array([[3, 2], [5, 0], [1, 4]])),
    "metric": lambda: measure(Measured("dino", "dino|1", "higher", THREE, RNG.random((240, 3)), SETS)),
    "mixed model": lambda: fit_mixed(CHOICE, [RandomTerm("participant", WHO), RandomTerm("comparison", ITEM)]),
    "strengths": strengths,
    "quasi errors": lambda: quasi_errors(strengths()),
    "worths": lambda: fit_rankings(Rankings(THREE, (ROWS % 3)[:, None], np.ones((240, 3), bool))),
    "share": lambda: shares(Choices(THREE, ROWS % 3, ITEM, SETS, WHO))[0],
}


@pytest.mark.parametrize("name", RESULTS)
def test_rows_frame_and_markdown_say_the_same(name):
    result = RESULTS[name]()
    records, frame, text = result.records(), result.to_frame(), markdown_of(result)
    assert len(frame) == len(records) > 0
    assert text.startswith("**")
    assert not re.search(r"\b(nan|inf|None)\b", text)
    for record in records:
        for value in record.values():
            if isinstance(value, float):
                assert np.isfinite(value)
                assert f"{value:.4g}".replace("-", "−") in text


def test_an_interval_is_two_columns_of_a_frame_and_stays_exact():
    said = RESULTS["contrast"]()
    row = said.to_frame().iloc[0]
    assert (row["interval_low"], row["interval_high"]) == said.interval
    assert row["verdict"] == str(said.verdict)


def test_a_result_of_results_repeats_what_the_whole_says():
    frame = RESULTS["preference"]().to_frame()
    assert list(frame["test"]) == ["exact binomial", frame["test"][1]]
    assert set(frame["votes"]) == {240}


def test_several_results_stand_below_each_other():
    parts = [RESULTS["contrast"](), RESULTS["preference"]().naive]
    assert len(frame_of(parts)) == 2
    assert markdown_of(parts).count("\n| a | b |") == 2
    assert markdown_of([]) == ""


def test_what_was_never_tested_has_no_verdict_and_no_interval():
    empty = Contrast("a", "b", "votes", "share", None, 0.5, None, None, 0, (), "none", ())
    assert empty.records()[0]["verdict"] is None
    assert empty.to_frame()["interval_low"].isna().all()
    assert "inconclusive" not in markdown_of(empty)


def test_markdown_and_rows_need_no_pandas():
    code = "import sys, analysis.contrast, analysis.report.result_markdown; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
