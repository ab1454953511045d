"""Shares among several arms: Goodman's intervals, what clusters do to them, and votes that allow none."""

import numpy as np
import pytest
from statsmodels.stats.proportion import multinomial_proportions_confint

from analysis.inference.concept_sets import ConceptSets
from analysis.inference.shares import Choices, conditional_sign_test, goodman_interval, share_differences, shares
from evalkit.errors import UserError


def independent(counts: list[int]) -> Choices:
    """Return votes that share nothing: a comparison and a pair of concepts of its own for each."""
    rows = np.arange(sum(counts))
    sets = ConceptSets.of([(f"a{row}", f"b{row}") for row in rows])
    return Choices(tuple("ABCDEFG"[: len(counts)]), np.repeat(np.arange(len(counts)), counts), rows, sets)


@pytest.mark.parametrize("counts", [(56, 72, 73, 59, 62, 87, 58), (34, 4, 78, 84), (3, 0, 9)])
def test_the_naive_intervals_are_those_of_statsmodels(counts: tuple[int, ...]):
    peer = multinomial_proportions_confint(counts, method="goodman")
    own = [share.naive for share in shares(independent(list(counts)))]
    np.testing.assert_allclose(own, peer, atol=1e-12)


def test_gold_intervals():
    # statsmodels 0.15.0, tests of multinomial_proportions_confint: Goodman, first of seven
    assert shares(independent([56, 72, 73, 59, 62, 87, 58]))[0].naive == pytest.approx((0.0852, 0.1663), abs=5e-5)
    # BlockLoRA Table 2 at 200 votes: 17, 2, 39 and 42 % (statsmodels 0.15.0)
    found = shares(independent([34, 4, 78, 84]))
    assert found[3].naive == pytest.approx((0.337, 0.508), abs=5e-4)
    assert found[2].naive == pytest.approx((0.308, 0.478), abs=5e-4)
    assert conditional_sign_test(84, 78) == pytest.approx(0.69, abs=0.005)


def test_independent_votes_are_worth_what_they_are():
    for share in shares(independent([34, 4, 78, 84])):
        assert share.worth == pytest.approx(share.total, rel=0.01)
        assert share.clustered == pytest.approx(share.naive, abs=0.01)


def recurring(rng: np.random.Generator, rows: int = 1200, spread: float = 1.5) -> Choices:
    """Return votes among three arms by 12 people with tastes of their own, on pairs of 15 concepts."""
    participant, comparison = rng.integers(0, 12, rows), np.arange(rows) // 6
    first = rng.integers(0, 15, comparison.max() + 1)
    second = (first + rng.integers(1, 15, comparison.max() + 1)) % 15
    sets = ConceptSets.of([(int(first[code]), int(second[code])) for code in comparison])
    taste = np.exp(spread * rng.normal(size=(12, 3)))[participant]
    chosen = (rng.random((rows, 1)) > np.cumsum(taste / taste.sum(1, keepdims=True), 1)).sum(1)
    return Choices(("A", "B", "C"), chosen, comparison.astype(np.int64), sets, participant)


def test_people_who_recur_make_votes_worth_less():
    for share in shares(recurring(np.random.default_rng(0))):
        assert share.worth < share.total / 5
        assert share.clustered[0] < share.naive[0] < share.share < share.naive[1] < share.clustered[1]
        assert "participants" in share.scope
        assert "concepts" in share.scope


def test_voting_twice_adds_nothing():
    once = recurring(np.random.default_rng(1))
    rows = np.tile(np.arange(len(once.chosen)), 2)
    twice = Choices(once.arms, once.chosen[rows], once.comparison[rows], once.sets.take(rows), once.participant[rows])
    for one, other in zip(shares(once), shares(twice), strict=True):
        assert other.worth <= one.worth * (1 + 1e-9)


def test_other_names_change_nothing_but_the_order():
    votes = recurring(np.random.default_rng(2))
    turned = Choices(votes.arms[::-1], 2 - votes.chosen, votes.comparison, votes.sets, votes.participant)
    assert shares(turned) == shares(votes)[::-1]


def test_differences_are_of_every_pair_and_swap_their_sign():
    votes = recurring(np.random.default_rng(3))
    found, said = share_differences(votes), shares(votes)
    assert [(each.first, each.second) for each in found] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert found[0].estimate == pytest.approx(said[0].share - said[1].share)
    turned = share_differences(Choices(("C", "B", "A"), 2 - votes.chosen, votes.comparison, votes.sets, votes.participant))
    assert turned[2].estimate == pytest.approx(-found[0].estimate)
    assert turned[2].standard_error == pytest.approx(found[0].standard_error)


def test_the_clustered_interval_covers_the_truth():
    rng, covered = np.random.default_rng(4), 0
    for _ in range(100):  # tastes are alike for every arm, so each is chosen by a third of all people
        covered += all(share.clustered[0] <= 1 / 3 <= share.clustered[1] for share in shares(recurring(rng, 600, 0.7)))
    assert covered >= 90


def test_unanimous_votes_are_never_weaker_than_nearly_unanimous_ones_nor_narrower_than_independent_ones():
    votes = recurring(np.random.default_rng(5))
    everyone = Choices(votes.arms, np.zeros_like(votes.chosen), votes.comparison, votes.sets, votes.participant)
    nearly = np.zeros_like(votes.chosen)
    nearly[0] = 1
    first, second, third = shares(everyone)
    near = shares(Choices(votes.arms, nearly, votes.comparison, votes.sets, votes.participant))[0]
    assert (first.votes, second.votes) == (1200, 0)
    assert first.worth == second.worth == 1200
    assert near.clustered[0] < first.clustered[0] < first.naive[0]
    assert first.clustered[1] == 1.0
    assert second.clustered == third.clustered
    assert second.clustered[0] == 0.0


def test_one_vote_has_no_clustered_interval():
    found = shares(independent([1, 0]))
    assert found[0].clustered is None
    assert "no clustered interval" in found[0].notes[0]


@pytest.mark.parametrize(
    ("votes", "says"),
    [
        (independent([0, 0]), "there are no votes"),
        (independent([3]), "at least two arms"),
        (Choices(("A", "B"), np.array([0, 2]), np.arange(2), ConceptSets.of([("a",), ("b",)])), "outside 0 to 1"),
        (Choices(("A", "B"), np.array([0, 1]), np.arange(3), ConceptSets.of([("a",), ("b",)])), "2 votes, but"),
    ],
)
def test_votes_without_shares_say_why(votes: Choices, says: str):
    with pytest.raises(UserError, match=says):
        shares(votes)


def test_a_sign_test_of_nothing_says_so():
    with pytest.raises(UserError, match="at least one vote for either arm is needed"):
        conditional_sign_test(0, 0)


def test_a_share_of_zero_still_has_an_upper_end():
    assert goodman_interval(0.0, 20.0, 3) == (0.0, pytest.approx(0.223, abs=0.001))
