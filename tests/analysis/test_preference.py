"""Preference: the papers' numbers, degenerate studies, laws, and error rates under a known truth."""

import math
from dataclasses import fields, replace
from itertools import combinations

import numpy as np
import pytest

from analysis.contrast import Contrast, Verdict, holm
from analysis.inference.concept_sets import ConceptSets
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.votes.preference import Votes, clustered_preference, naive_preference, outcomes, preference, preferences
from evalkit.errors import UserError


def votes_of(choices, comparisons=None, participants=None, concepts=None, first="direct", second="dropout"):
    """Return votes from plain lists: by default one vote per comparison, one pair of concepts each."""
    n = len(choices)
    comparison = np.array(range(n) if comparisons is None else comparisons, dtype=np.int64)
    who = np.array([0] * n if participants is None else participants, dtype=np.int64)
    rows = [(f"c{i}", f"d{i}") for i in range(n)] if concepts is None else concepts
    return Votes(first, second, np.array(choices, dtype=float), comparison, who, ConceptSets.of(rows))


def study(concepts=8, seeds=1, participants=12, shift=0.0, sigma=(0.3, 0.3, 0.5, 0.3), rng=None):
    """Return a drawn study; `sigma` is concept, pair, comparison, participant on the logit scale."""
    rng = np.random.default_rng(1) if rng is None else rng
    pairs = list(combinations(range(concepts), 2))
    comparison = np.repeat(np.arange(len(pairs) * seeds), 5)
    pair = comparison // seeds
    who = np.argsort(rng.random((len(pairs) * seeds, participants)), axis=1)[:, :5].ravel()
    of_concept = rng.normal(0, sigma[0], concepts)
    of_pair = np.array([of_concept[i] + of_concept[j] for i, j in pairs]) + rng.normal(0, sigma[1], len(pairs))
    eta = of_pair[pair] + rng.normal(0, sigma[2], len(pairs) * seeds)[comparison] + rng.normal(0, sigma[3], participants)[who]
    choice = (rng.random(len(comparison)) < 1 / (1 + np.exp(-eta - shift))).astype(float)
    return Votes("a", "b", choice, comparison, who, ConceptSets(pair, tuple(frozenset(p) for p in pairs)))


def assert_no_nan(contrast: Contrast) -> None:
    for field in fields(contrast):
        value = getattr(contrast, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            assert not (isinstance(number, float) and math.isnan(number)), field.name


def omcd(margin):
    return naive_preference(votes_of([1.0] * 823 + [0.0] * 917), margin)


def test_the_papers_47_percent_is_significant_and_equivalent_at_once(gold):
    found = omcd(0.05)
    gold("omcd_p", found.p)
    gold("omcd_low", found.interval[0])
    gold("omcd_high", found.interval[1])
    gold("omcd_tost_05", found.p_equivalence)
    gold("omcd_tost_03", omcd(0.03).p_equivalence)
    assert found.verdict == Verdict.DIFFERENT_WITHIN
    assert omcd(0.03).verdict == Verdict.DIFFERENT


def test_holm_over_the_papers_three_comparisons():
    three = [naive_preference(votes_of([1.0] * wins + [0.0] * (1740 - wins))) for wins in (1462, 1415, 823)]
    assert holm(three)[2].p_adjusted == pytest.approx(0.0258, abs=5e-5)


def test_the_equivalence_test_is_the_90_percent_interval_within_the_margin():
    from scipy import stats

    for seed in range(30):
        found = clustered_preference(study(concepts=20, rng=np.random.default_rng(seed)), margin=0.06)
        low, high = found.narrow_interval
        assert (found.p_equivalence < 0.05) == (low > 0.44 and high < 0.56)
        # Wilson's interval with the effective number of votes and a t quantile
        square = stats.t.ppf(0.95, found.df) ** 2 / found.effective_votes
        middle = (found.estimate + square / 2) / (1 + square)
        assert (low + high) / 2 == pytest.approx(middle)


def test_an_even_split_is_a_tie_and_cannot_tell_sides_with_nobody():
    choice = np.array([1, 0, 0.5, 1, 1, 0, 0.5, 0.5])
    assert outcomes(choice, np.array([0, 0, 1, 2, 2, 2, 3, 3])).tolist() == [0.5, 0.5, 1.0, 0.5]
    found = preference(votes_of([1, 0, 0.5, 1, 1, 0, 0.5, 0.5], [0, 0, 1, 2, 2, 2, 3, 3], [0, 1, 0, 0, 1, 2, 0, 1]))
    assert (found.first_wins, found.second_wins, found.ties) == (1, 0, 3)
    assert (found.votes, found.cannot_tell, found.comparisons) == (8, 3, 4)


PAIRS = [("a", "b"), ("c", "d"), ("e", "f"), ("a", "c"), ("b", "d"), ("e", "a")]
DEGENERATE = {
    "empty": (votes_of([]), "There are no judgments."),
    "one vote": (votes_of([1.0]), "A single row has no standard error"),
    "one participant": (votes_of([1.0, 0, 1, 1, 0, 1], concepts=PAIRS), "One participant judged"),
    "one pair": (votes_of([1.0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [("a", "b")] * 4), "same concepts"),
    "unanimous": (votes_of([1.0] * 6, participants=[0, 1, 2] * 2, concepts=PAIRS), "All 6 rows agree"),
    "all ties": (votes_of([0.5] * 6, participants=[0, 1, 2] * 2, concepts=PAIRS), "No one could tell"),
    "single concepts": (votes_of([1.0, 0, 1], participants=[0, 1, 2], concepts=[("a",), ("b",), ("c",)]), "too few"),
    "three concepts": (votes_of([1.0, 0], participants=[0, 1], concepts=[("a", "b", "c"), ("b", "c", "d")]), "too few"),
    "even votes everywhere": (votes_of([1.0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 1, 0], [("a",)] * 2 + [("b",)] * 2), "too few"),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_studies_get_a_statement_and_never_a_nan(name):
    votes, says = DEGENERATE[name]
    found = preferences([votes], margin=0.05)[0]
    assert_no_nan(found.naive)
    assert_no_nan(found.clustered)
    assert says in " ".join(found.clustered.notes)


def study_of_five(dissent=0, undecided=False):
    """Return 28 pairs of 8 concepts, twice, judged by five people who all prefer the first arm (or all cannot tell)."""
    pairs = list(combinations(range(8), 2))
    pair = np.repeat(np.arange(28), 10)
    choice = np.full(280, 0.5 if undecided else 1.0)
    choice[:dissent] = 0.0
    sets = ConceptSets(pair, tuple(frozenset(held) for held in pairs))
    return Votes("a", "b", choice, np.repeat(np.arange(56), 5), np.tile(np.arange(5), 56), sets)


def test_unanimity_is_never_weaker_than_near_unanimity_nor_narrower_than_for_independent_votes(gold):
    near, all_agree = clustered_preference(study_of_five(1)), clustered_preference(study_of_five())
    assert near.verdict == all_agree.verdict == Verdict.DIFFERENT
    assert all_agree.p < near.p < 0.001
    assert near.interval[0] < all_agree.interval[0]
    assert all_agree.effective_votes == 280
    # Wilson's interval for 279 and 280 of 280 independent votes
    assert near.interval[0] <= 0.98005072
    assert all_agree.interval[0] <= 0.98646618
    assert "All 280 rows agree" in all_agree.notes[-1]


def test_nobody_deciding_is_never_weaker_than_nearly_nobody_and_shows_equivalence():
    near, nobody = (clustered_preference(study_of_five(dissent, True), 0.05) for dissent in (1, 0))
    assert near.verdict == nobody.verdict == Verdict.EQUIVALENT
    assert nobody.p_equivalence <= near.p_equivalence
    assert nobody.interval[0] < 0.5 < nobody.interval[1]


def test_few_ties_show_no_equivalence():
    found = preference(DEGENERATE["all ties"][0], margin=0.05)
    assert (found.first_wins, found.second_wins, found.ties) == (0, 0, 6)
    assert found.naive.p is None
    assert found.clustered.verdict == Verdict.INCONCLUSIVE


def four_cases(share, seeds=6, people=20, seed=4):
    rng = np.random.default_rng(seed)
    comparison = np.repeat(np.arange(4 * seeds), 5)
    who = np.argsort(rng.random((4 * seeds, people)), axis=1)[:, :5].ravel() if people >= 5 else np.arange(120) % people
    sets = ConceptSets(comparison // seeds, tuple(frozenset([2 * i, 2 * i + 1]) for i in range(4)))
    return Votes(
        "a", "b", (rng.random(len(comparison)) < np.asarray(share)[comparison // seeds]).astype(float), comparison, who, sets
    )


def test_few_cases_are_fixed_and_other_concepts_get_a_verdict_of_their_own():
    found = clustered_preference(four_cases([0.95, 0.5, 0.9, 0.6]))
    assert found.scope == ("seeds", "participants")
    assert found.verdict == Verdict.DIFFERENT
    wide = found.scopes[-1]
    assert wide.scope == ("seeds", "pairs", "concepts", "participants")
    assert wide.verdict == Verdict.INCONCLUSIVE
    assert wide.df < 4
    assert "holds for these cases alone" in " ".join(found.notes)


def test_two_participants_are_fixed_and_other_people_get_a_verdict_of_their_own():
    found = clustered_preference(four_cases([0.9] * 4, people=2))
    assert found.scope == ("seeds",)
    assert found.verdict == Verdict.DIFFERENT
    wide = next(each for each in found.scopes if each.scope == ("seeds", "participants"))
    assert wide.interval[0] < found.interval[0]
    assert wide.df == 1


def test_a_second_case_does_not_turn_a_clear_result():
    one = four_cases([0.9, 0.9, 0.9, 0.9])
    first = one.comparison < 6
    alone = replace(
        one,
        choice=one.choice[first],
        comparison=one.comparison[first],
        participant=one.participant[first],
        sets=one.sets.take(first),
    )
    two = one.comparison < 12
    both = replace(
        one, choice=one.choice[two], comparison=one.comparison[two], participant=one.participant[two], sets=one.sets.take(two)
    )
    assert clustered_preference(alone).verdict == clustered_preference(both).verdict == Verdict.DIFFERENT


def test_a_person_with_half_of_the_votes_widens_the_interval_and_is_named():
    rng = np.random.default_rng(3)
    votes = study(concepts=12, participants=20, rng=rng)
    taken = rng.permutation(len(votes.choice))[: len(votes.choice) // 2]
    who = votes.participant.copy()
    who[taken] = 0
    equal, unequal = clustered_preference(votes), clustered_preference(replace(votes, participant=who))
    assert unequal.effective_participants < 5 < 15 < equal.effective_participants
    assert "unequal" in " ".join(unequal.notes)
    assert "unequal" not in " ".join(equal.notes)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(UserError, match="finite"):
        clustered_preference(votes_of([1.0, value, 0.0]))


def test_swapping_the_arms_mirrors_everything():
    votes = study()
    mirrored = Votes("b", "a", 1 - votes.choice, votes.comparison, votes.participant, votes.sets)
    one, other = preference(votes, 0.05), preference(mirrored, 0.05)
    assert (one.first_wins, one.second_wins) == (other.second_wins, other.first_wins)
    for left, right in ((one.naive, other.naive), (one.clustered, other.clustered)):
        assert left.estimate == pytest.approx(1 - right.estimate)
        assert left.p == pytest.approx(right.p)
        assert left.interval == pytest.approx((1 - right.interval[1], 1 - right.interval[0]))
    assert one.clustered.p_equivalence == pytest.approx(other.clustered.p_equivalence)


def test_a_margin_holds_on_its_own_scale_alone():
    on_votes, on_outcomes = preference(study(), 0.05, "votes"), preference(study(), 0.05, "outcomes")
    assert on_votes.naive.p_equivalence is None
    assert on_votes.clustered.p_equivalence is not None
    assert on_outcomes.naive.p_equivalence is not None
    assert on_outcomes.clustered.p_equivalence is None


@pytest.mark.parametrize(("margin", "scale"), [(0.0, "votes"), (5.0, "votes"), (0.05, "logit"), (math.nan, "votes")])
def test_a_margin_that_means_nothing_is_refused(margin, scale):
    with pytest.raises(UserError, match="margin"):
        preference(study(), margin, scale)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [(0.0, 0.5, 1.0, 0.5), (0.4, 0.3, 1.0, 0.5)], ids=["no concept effects", "concept effects"])
def test_the_default_rejects_a_true_null_at_about_its_nominal_rate(sigma):
    rng = np.random.default_rng(30)
    found = [clustered_preference(study(concepts=30, participants=60, sigma=sigma, rng=rng)) for _ in range(400)]
    assert 0.01 <= np.mean([each.p < 0.05 for each in found]) <= 0.09
    assert 0.91 <= np.mean([each.interval[0] <= 0.5 <= each.interval[1] for each in found]) <= 0.99


def test_the_naive_test_rejects_a_true_null_far_too_often():
    rng = np.random.default_rng(21)
    found = [naive_preference(study(concepts=20, seeds=2, sigma=(0.4, 0.3, 1.0, 0.5), rng=rng)) for _ in range(100)]
    assert np.mean([each.p < 0.05 for each in found]) > 0.25


def test_a_clear_preference_is_found():
    rng = np.random.default_rng(22)
    found = [
        clustered_preference(study(concepts=20, participants=40, shift=0.6, sigma=(0.2, 0.3, 1, 0.4), rng=rng))
        for _ in range(50)
    ]
    assert np.mean([each.verdict == Verdict.DIFFERENT for each in found]) > 0.9


def test_constant_differences_without_bounds_get_no_invented_error():
    found = contrast_of_mean(
        np.full(4, 2.5), np.arange(4), ConceptSets.of([("a", "b")] * 4), first="a", second="b", measure="m", scale="s", null=0.0
    )
    assert found.estimate == 2.5
    assert found.interval is None
    assert "same value" in " ".join(found.notes)
