"""Plackett-Luce: what it must equal on pairs and on plain choices, recovery, and rankings that rank nothing."""

import math
import re

import choix
import numpy as np
import pytest

from analysis.inference.bradley_terry import contrasts, fit_strengths
from analysis.inference.concept_sets import ConceptSets
from analysis.inference.paired_comparisons import Comparisons
from analysis.inference.plackett_luce import Rankings, fit_rankings, worth_contrasts
from evalkit.errors import UserError


def everything(rows: int, arms: int) -> np.ndarray:
    return np.ones((rows, arms), dtype=bool)


def dyads(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, ConceptSets, np.ndarray]:
    item = np.arange(rows) // 5
    first = rng.integers(0, 12, item.max() + 1)
    second = (first + rng.integers(1, 12, item.max() + 1)) % 12
    return item, ConceptSets.of([(int(first[code]), int(second[code])) for code in item]), rng.integers(0, 15, rows)


def test_pairs_give_bradley_terry_and_its_contrasts():
    rng = np.random.default_rng(0)
    left = rng.integers(0, 4, 500)
    right = (left + rng.integers(1, 4, 500)) % 4
    choice = (rng.random(500) < 1 / (1 + np.exp(0.4 * (right - left)))).astype(float)
    offered = np.zeros((500, 4), dtype=bool)
    offered[np.arange(500), left] = offered[np.arange(500), right] = True
    votes = Comparisons(("A", "B", "C", "D"), left, right, choice)
    pairs = fit_strengths(votes.counts())
    fit = fit_rankings(Rankings(votes.arms, np.where(choice == 1, left, right)[:, None], offered))
    np.testing.assert_allclose(fit.estimates, pairs.estimates, atol=1e-9)
    assert fit.log_likelihood == pytest.approx(pairs.log_likelihood)
    assert fit.difference("A", "C") == pytest.approx(pairs.difference("A", "C"))
    shared = dyads(rng, 500)
    for own, peer in zip(worth_contrasts(fit, *shared), contrasts(pairs, votes, *shared), strict=True):
        assert (own.first, own.second, own.test, own.scope) == (peer.first, peer.second, peer.test, peer.scope)
        assert own.estimate == pytest.approx(peer.estimate)
        assert own.standard_error == pytest.approx(peer.standard_error)


def test_plain_choices_among_all_arms_give_their_shares():
    chosen = np.repeat(np.arange(4), [34, 4, 78, 84])
    fit = fit_rankings(Rankings(("a", "b", "c", "d"), chosen[:, None], everything(200, 4)))
    worths = np.exp(fit.estimates)
    np.testing.assert_allclose(worths / worths.sum(), [0.17, 0.02, 0.39, 0.42], atol=1e-9)
    # the difference of two log shares of one multinomial: variance 1 / n_c + 1 / n_d
    assert fit.difference("d", "c") == (pytest.approx(math.log(84 / 78)), pytest.approx(math.sqrt(1 / 84 + 1 / 78)))


def test_the_strengths_are_those_of_choix():
    order = np.argsort(np.random.default_rng(5).gumbel(size=(300, 4)) - 0.4 * np.arange(4), axis=1)
    fit = fit_rankings(Rankings(("A", "B", "C", "D"), order, everything(300, 4)))
    peer = choix.ilsr_rankings(4, [tuple(row) for row in order.tolist()])
    np.testing.assert_allclose(fit.estimates, peer - peer.mean(), atol=1e-6)


def test_rankings_return_the_strengths_they_were_drawn_from():
    rng, truth = np.random.default_rng(1), np.array([-1.0, -0.2, 0.4, 0.8])
    order = np.argsort(-(truth + rng.gumbel(size=(4000, 4))), axis=1)
    fit = fit_rankings(Rankings(("A", "B", "C", "D"), order, everything(4000, 4)))
    np.testing.assert_allclose(fit.estimates, truth, atol=4 * fit.difference("A", "B")[1])
    best_two = fit_rankings(
        Rankings(("A", "B", "C", "D"), np.column_stack([order[:, :2], -np.ones((4000, 2), int)]), everything(4000, 4))
    )
    np.testing.assert_allclose(best_two.estimates, truth, atol=4 * best_two.difference("A", "B")[1])
    assert best_two.difference("A", "B")[1] > fit.difference("A", "B")[1]


def test_other_names_change_nothing_but_the_order():
    rng = np.random.default_rng(2)
    order = np.argsort(rng.random((50, 3)), axis=1)
    one = fit_rankings(Rankings(("A", "B", "C"), order, everything(50, 3)))
    other = fit_rankings(Rankings(("C", "B", "A"), 2 - order, everything(50, 3)))
    np.testing.assert_allclose(one.estimates, other.estimates[::-1], atol=1e-10)
    assert one.difference("A", "C") == pytest.approx(other.difference("A", "C"))


@pytest.mark.parametrize(
    ("order", "offered", "says"),
    [
        ([[0], [0]], [[1, 1, 1], [1, 1, 1]], "no other arm ever won or tied against A"),
        ([[0], [1]], [[1, 1, 0], [1, 1, 0]], "never compared with each other: A, B | C"),
        ([[2], [0]], [[1, 1, 0], [1, 1, 1]], "vote 0 ranks 'C', which was not offered"),
        ([[0, 0], [1, 2]], [[1, 1, 1], [1, 1, 1]], "vote 0 ranks 'A', which was not offered or is ranked already"),
        ([[-1, 0], [1, 2]], [[1, 1, 1], [1, 1, 1]], "vote 0 has a rank after an empty one"),
        ([[3], [0]], [[1, 1, 1], [1, 1, 1]], "outside 0 to 2"),
        ([[0], [1]], [[1, 1], [1, 1]], "need orders of shape (2, ranks), offers (2, 3)"),
    ],
)
def test_rankings_without_strengths_say_why(order: list, offered: list, says: str):
    with pytest.raises(UserError, match=re.escape(says)):
        fit_rankings(Rankings(("A", "B", "C"), np.array(order), np.array(offered, dtype=bool)))


def test_no_votes_and_one_arm_say_so():
    with pytest.raises(UserError, match="there are no votes"):
        fit_rankings(Rankings(("A", "B"), np.empty((0, 1), int), everything(0, 2)))
    with pytest.raises(UserError, match="at least two arms"):
        fit_rankings(Rankings(("A",), np.zeros((2, 1), int), everything(2, 1)))
