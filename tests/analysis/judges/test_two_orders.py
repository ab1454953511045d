"""Both orders of a comparison: gold values, and what abstentions do to shares."""

import numpy as np
import pytest

from analysis.judges.two_orders import answers, order_effect


def test_preference_and_position_from_two_orders():
    effect = order_effect(0.80, 0.55)
    assert effect.preference == pytest.approx(0.5928, abs=1e-4)
    assert effect.position == pytest.approx(0.7935, abs=1e-4)
    assert effect.share == pytest.approx(0.6440, abs=1e-4)


def test_a_certain_answer_has_no_logit():
    with pytest.raises(ValueError, match="no logit"):
        order_effect(1.0, 0.5)


def test_a_flip_is_an_abstention_and_no_answer_is_neither():
    both = answers([1, 1, 0, 0.5, None], [1, 0, 0, 1, 1])
    assert both.verdicts()[:4].tolist() == [1, 0.5, 0, 0.5]
    assert np.isnan(both.verdicts()[4])
    assert both.flips.tolist() == [False, True, False, False, False]
    # first place: 1 1 0 with A first, 0 1 1 0 0 with B first (1 - answer)
    assert both.first_place_share() == pytest.approx(4 / 8)


def test_wrong_answers_are_refused():
    with pytest.raises(ValueError, match=r"answer 0\.7"):
        answers([0.7], [1])
    with pytest.raises(ValueError, match="each comparison needs both"):
        answers([1, 0], [1])
    assert answers([], []).first_place_share() is None


@pytest.mark.parametrize(
    ("pull", "first_wins", "flips", "one_order", "dropped", "halved"),
    [
        (0.0, 0.500, 0.000, 0.637, 0.637, 0.637),
        (0.5, 0.681, 0.362, 0.803, 0.691, 0.622),
        (1.0, 0.827, 0.653, 0.912, 0.745, 0.585),
        (2.0, 0.971, 0.941, 0.991, 0.841, 0.520),
    ],
)
def test_what_position_bias_does_to_shares(
    pull: float, first_wins: float, flips: float, one_order: float, dropped: float, halved: float
):
    latent = np.random.default_rng(3).normal(0.35, 1, 200_000)
    a_first, b_first = (latent + pull > 0).astype(float), (latent - pull > 0).astype(float)
    both = answers(a_first.tolist(), b_first.tolist())
    verdicts = both.verdicts()
    assert both.first_place_share() == pytest.approx(first_wins, abs=0.005)
    assert both.flips.mean() == pytest.approx(flips, abs=0.005)
    assert a_first.mean() == pytest.approx(one_order, abs=0.005)
    assert verdicts[~both.flips].mean() == pytest.approx(dropped, abs=0.008)
    assert verdicts.mean() == pytest.approx(halved, abs=0.005)
