"""Models of a run's votes: their terms follow the design, and what can't be fitted is a sentence."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from analysis.inference.concept_sets import ConceptSets
from analysis.report.result_markdown import markdown_of
from analysis.votes.arm_strengths import arm_strengths
from analysis.votes.preference import Votes
from analysis.votes.vote_models import SIDE, vote_model

RNG = np.random.default_rng(5)


def votes(concepts=6, seeds=2, people=10, left_effect=0.0, single=False):
    pairs = [(name,) for name in range(concepts)] if single else list(combinations(range(concepts), 2))
    cells = [(pair, seed) for pair in pairs for seed in range(seeds)]
    item = np.repeat(np.arange(len(cells)), people)
    who = np.tile(np.arange(people), len(cells))
    left = RNG.random(len(item)) < 0.5
    taste = RNG.normal(0, 0.8, people)
    chance = 1 / (1 + np.exp(-(0.4 + taste[who] + left_effect * (left - 0.5))))
    sets = ConceptSets.of([cells[place][0] for place in item])
    return Votes("a", "b", (RNG.random(len(item)) < chance).astype(float), item, who, sets, left)


def names(model):
    return [part.name for part in model.fit.components]


def test_every_level_that_recurs_is_a_term_and_finds_its_effect():
    model = vote_model(votes(left_effect=1.0))
    assert names(model) == ["comparison", "pair", "concept", "participant"]
    assert 0.4 < model.fit.component("participant").deviation < 1.4
    assert 0.5 < model.fit.effect(SIDE).estimate < 1.6
    assert "participant" in markdown_of(model)
    wald, careful = model.fit.effect("intercept"), model.fit.small_sample_effect("intercept")
    assert model.fit.df == 5
    assert careful.p > wald.p
    assert careful.interval[0] < wald.interval[0] < wald.estimate == careful.estimate


@pytest.mark.parametrize(
    ("design", "expected"),
    [
        ({"seeds": 1}, ["comparison", "concept", "participant"]),
        ({"concepts": 4}, ["comparison", "pair", "participant"]),
        ({"single": True}, ["comparison", "concept", "participant"]),
    ],
)
def test_what_the_design_cannot_tell_apart_is_no_term(design, expected):
    assert names(vote_model(votes(**design))) == expected


def test_a_level_without_a_term_is_named():
    given = votes(concepts=5, seeds=3)
    once = replace(given, participant=np.arange(len(given.choice)))
    model = vote_model(once, profiles=False)
    assert "participant" not in names(model)
    assert "Every participant gave one vote" in model.note
    model = vote_model(replace(given, comparison=np.arange(len(given.choice))), profiles=False)
    assert "comparison" not in names(model)
    assert "Every comparison has one vote" in model.note


def test_what_cannot_be_fitted_is_one_sentence():
    alike = votes()
    model = vote_model(Votes("a", "b", np.ones_like(alike.choice), alike.comparison, alike.participant, alike.sets))
    assert model.fit is None
    assert "All 300 votes are equal" in model.note
    nothing = vote_model(Votes("a", "b", alike.choice * 0 + 0.5, alike.comparison, alike.participant, alike.sets))
    assert nothing.fit is None
    assert nothing.cannot_tell == 300


def judgments(arms=("a", "b", "c"), strength=(1.0, 0.0, -1.0), cells=30, people=6):
    rows = []
    for case in range(cells):
        for one, other in combinations(range(len(arms)), 2):
            for person in range(people):
                choice = float(RNG.random() < 1 / (1 + np.exp(strength[other] - strength[one])))
                left = arms[one] if RNG.random() < 0.5 else arms[other]
                rows.append((f"{case} {one} {other}", f"case {case}", arms[one], arms[other], person, left, choice))
    return pd.DataFrame(rows, columns=["comparison", "case", "first", "second", "participant", "left", "choice"])


CONCEPTS = {f"case {case}": (f"c{case % 6}", f"c{(case + 1 + case // 6) % 6}") for case in range(30)}


def test_strengths_are_found_again_with_one_error_per_arm():
    found = arm_strengths(judgments(), CONCEPTS, ("a", "b", "c"))
    assert found.fit.estimates[:3] == pytest.approx([1.0, 0.0, -1.0], abs=0.35)
    for one, other, contrast in zip((0, 0, 1), (1, 2, 2), found.differences, strict=True):
        joint = np.hypot(found.quasi.errors[one], found.quasi.errors[other])
        assert joint == pytest.approx(contrast.standard_error, rel=0.02)


def test_two_arms_need_no_strengths_and_a_winner_of_everything_has_none():
    assert arm_strengths(judgments(("a", "b"), (1.0, 0.0)), CONCEPTS, ("a", "b", "c")) is None
    found = arm_strengths(judgments(strength=(50.0, 0.0, -100.0)), CONCEPTS, ("a", "b", "c"))
    assert found.fit is None
    assert "No other arm ever won" in found.note


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_arm_that_won_or_lost_everything_gets_a_bound_and_the_others_are_fitted(sign):
    rows = judgments(("a", "b", "c", "d"), (50.0 * sign, 0.5, 0.0, -0.5))
    found = arm_strengths(rows, CONCEPTS, ("a", "b", "c", "d"))
    alone = arm_strengths(rows[(rows["first"] != "a")], CONCEPTS, ("b", "c", "d"))
    assert found.fit.arms == ("b", "c", "d")
    assert found.fit.estimates == pytest.approx(alone.fit.estimates)
    (bound,) = found.bounds
    assert (bound.arm, bound.at_least, bound.votes) == ("a", sign > 0, 540)
    assert 2.0 < sign * bound.bound < 8.0
    assert "participants" in bound.scope
    fewer = arm_strengths(rows[rows["case"] < "case 2"], CONCEPTS, ("a", "b", "c", "d"))
    assert sign * fewer.bounds[0].bound < sign * bound.bound
