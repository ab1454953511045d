"""Laws of the verdict on random designs: what must never weaken it, what must mirror it, what must never be narrower."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.contrast import Contrast, ScopedResult, Verdict
from analysis.inference.concept_sets import ConceptSets
from analysis.planning.precision import Spread, StudyDesign, draw_study
from analysis.votes.preference import Votes, clustered_preference

DIFFERENT = {Verdict.DIFFERENT, Verdict.DIFFERENT_WITHIN}
EQUIVALENT = {Verdict.EQUIVALENT, Verdict.DIFFERENT_WITHIN}
SETTINGS = settings(max_examples=25, deadline=None)


def weaker(after: Contrast | ScopedResult, before: Contrast | ScopedResult) -> bool:
    """Return whether `after` no longer shows what `before` shows."""
    lost = before.verdict in DIFFERENT and after.verdict not in DIFFERENT
    return lost or (before.verdict in EQUIVALENT and after.verdict not in EQUIVALENT)


def by_scope(contrast: Contrast) -> dict[tuple[str, ...], Contrast | ScopedResult]:
    return {contrast.scope: contrast, **{each.scope: each for each in contrast.scopes}}


@st.composite
def designs(draw, least_concepts=2):
    """Draw the rows of a study: cases of one to three concepts, seeds, participants with equal or unequal parts."""
    concepts = draw(st.integers(least_concepts, 10))
    together = draw(st.integers(1, min(3, concepts)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cases = draw(st.integers(2, 12))
    sets = [tuple(sorted(rng.permutation(concepts)[:together].tolist())) for _ in range(cases)]
    comparisons = cases * draw(st.integers(1, 4))
    people = draw(st.integers(1, 12))
    votes = draw(st.integers(1, min(5, people)))
    share = rng.dirichlet(np.full(people, draw(st.sampled_from([0.3, 2.0, 100.0]))))
    who = np.concatenate([rng.choice(people, votes, replace=False, p=0.9 * share + 0.1 / people) for _ in range(comparisons)])
    comparison = np.repeat(np.arange(comparisons), votes)
    return Votes(
        "a", "b", np.zeros(len(who)), comparison, np.unique(who, return_inverse=True)[1],
        ConceptSets.of([sets[code % cases] for code in comparison]),
    ), rng  # fmt: skip


def some_choices(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return votes with some ties, from one-sided to even."""
    share, ties = rng.choice([0.5, 0.7, 0.9, 0.98]), rng.choice([0.0, 0.3, 0.9])
    return np.where(rng.random(rows) < ties, 0.5, (rng.random(rows) < share).astype(float))


def check_dissent(votes, rng):
    """Check, in every scope, that turning the last dissenting votes one by one never weakens the verdict."""
    rows = len(votes.choice)
    order = rng.permutation(rows)[: max(1, rows // 20)]
    choice = np.ones(rows)
    choice[order] = rng.choice([0.0, 0.5], len(order), p=[0.8, 0.2])
    before = by_scope(clustered_preference(replace(votes, choice=choice), 0.2))
    for place in order:
        choice = choice.copy()
        choice[place] = 1.0
        after = by_scope(clustered_preference(replace(votes, choice=choice), 0.2))
        assert not any(weaker(after[scope], before[scope]) for scope in before)
        before = after


def check_ties(votes, rng):
    """Check, in every scope, that nobody deciding shows no less than a few votes that decide."""
    rows = len(votes.choice)
    choice = np.full(rows, 0.5)
    nobody = by_scope(clustered_preference(replace(votes, choice=choice), 0.1))
    choice[rng.permutation(rows)[: max(1, rows // 20)]] = rng.choice([0.0, 1.0])
    few = by_scope(clustered_preference(replace(votes, choice=choice), 0.1))
    assert all(nobody[scope].verdict in EQUIVALENT for scope in few if few[scope].verdict in EQUIVALENT)


@SETTINGS
@given(designs())
def test_turning_the_last_dissenting_votes_never_weakens_a_verdict_in_any_scope(design):
    check_dissent(*design)


@SETTINGS
@given(designs())
def test_nobody_deciding_is_never_weaker_than_a_few_votes_that_decide_in_any_scope(design):
    check_ties(*design)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(designs())
def test_unanimity_is_never_weaker_than_near_unanimity_on_many_designs(design):
    check_dissent(*design)
    check_ties(*design)


def repeated(votes: Votes, what: str) -> Votes:
    """Return the same votes twice: the second time of other participants, other seeds, or other cases with other concepts."""
    twice = {name: np.tile(getattr(votes, name), 2) for name in ("choice", "comparison", "participant")}
    second = np.arange(2 * len(votes.choice)) >= len(votes.choice)
    held = [tuple(votes.sets.members[code]) for code in votes.sets.codes]
    others = held
    if what == "participants":
        twice["participant"] = twice["participant"] + second * (int(votes.participant.max()) + 1)
    else:
        twice["comparison"] = twice["comparison"] + second * (int(votes.comparison.max()) + 1)
    if what == "cases":
        others = [tuple(f"other {concept}" for concept in row) for row in held]
    return Votes(votes.first, votes.second, **twice, sets=ConceptSets.of(held + others))


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.sampled_from(["participants", "seeds", "cases"]), st.sampled_from([8, 12]))
def test_repeating_a_pattern_never_widens_the_error_of_its_scope(seed, what, concepts):
    rng = np.random.default_rng(seed)
    design = StudyDesign(concepts, 2, 12)
    votes = draw_study(design, Spread(0.3, 0.3, 0.5, 0.3), 0.1, rng)
    before, after = clustered_preference(votes), clustered_preference(repeated(votes, what))
    assert after.scope == before.scope
    assert after.estimate == pytest.approx(before.estimate)
    # (two per cent: the part of single votes in the variance between participants is itself an estimate)
    assert after.standard_error <= before.standard_error * 1.02


def weakened(studies: int) -> float:
    """Return the share of verdicts that get weaker if a study's votes come twice, over designs of 5 to 12 concepts and 5 to 19
    participants: other participants, seeds or cases with the same votes."""
    count = 0
    for study in range(studies):
        rng = np.random.default_rng([7, study])
        people = int(rng.integers(5, 20))
        design = StudyDesign(int(rng.integers(5, 13)), int(rng.integers(1, 4)), people, int(rng.integers(1, 6)))
        spread = Spread(*(float(rng.choice([0.0, 0.2, 0.5])) for _ in range(4)))
        votes = draw_study(design, spread, float(rng.choice([0.0, 0.1, 0.2, 0.4])), rng)
        before = clustered_preference(votes, 0.2)
        for what in ("participants", "seeds", "cases"):
            after = clustered_preference(repeated(votes, what), 0.2)
            assert after.scope == before.scope
            count += weaker(after, before)
    return count / (3 * studies)


def test_repeating_a_study_weakens_no_verdict():
    assert weakened(10) == 0.0


@pytest.mark.slow
def test_repeating_a_study_weakens_hardly_any_verdict_of_many():
    # (the same people giving the same votes again is evidence that people differ: 1 of 900 borderline verdicts turns)
    assert weakened(300) <= 0.005


@SETTINGS
@given(designs())
def test_a_wider_scope_never_has_a_smaller_error_or_a_stronger_verdict(design):
    votes, rng = design
    found = by_scope(clustered_preference(replace(votes, choice=some_choices(len(votes.choice), rng)), 0.2))
    for narrow, one in found.items():
        for wide, other in found.items():
            if set(narrow) < set(wide):
                assert other.standard_error >= one.standard_error * (1 - 1e-9)
                assert not weaker(one, other)
                low, high = other.interval
                assert low <= one.interval[0] + 1e-12
                assert high >= one.interval[1] - 1e-12


@SETTINGS
@given(designs())
def test_swapping_the_arms_mirrors_every_scope(design):
    votes, rng = design
    votes = replace(votes, choice=some_choices(len(votes.choice), rng))
    one, other = (clustered_preference(each, 0.05) for each in (votes, replace(votes, choice=1.0 - votes.choice)))
    mirrored = by_scope(other)
    for scope, found in by_scope(one).items():
        if found.interval is not None:
            assert np.allclose(found.interval, [1 - end for end in mirrored[scope].interval[::-1]])
            assert np.isclose(found.p, mirrored[scope].p)
            assert np.isclose(found.p_equivalence, mirrored[scope].p_equivalence)


@SETTINGS
@given(designs())
def test_a_clustered_interval_is_never_narrower_than_that_of_independent_votes(design):
    votes, rng = design
    choice = (rng.random(len(votes.choice)) < rng.choice([0.5, 0.8, 0.99, 1.0])).astype(float)
    independent = stats.binomtest(int(choice.sum()), len(choice)).proportion_ci(0.95, "wilson")
    for found in by_scope(clustered_preference(replace(votes, choice=choice))).values():
        if found.interval is not None:
            assert found.interval[1] - found.interval[0] >= independent.high - independent.low - 1e-9
