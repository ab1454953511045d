"""The alternative annotator test: an example by hand, its correction, and the coin that passes."""

import numpy as np
import pytest

from analysis.judges.alternative_annotator import advantages, alternative_annotator_test, coin_pass_rate

HUMAN = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1]], float)
JUDGE = np.array([1, 1, 0, 1, 1, 0], float)


def people_who_agree(agreement: float, items: int, people: int, rng: np.random.Generator) -> np.ndarray:
    """Return binary answers in which two people agree with the given probability."""
    lean = np.sqrt(2 * agreement - 1) / 2
    probability = 0.5 + lean * rng.choice([-1, 1], items)
    return (rng.random((items, people)) < probability[:, None]).astype(float)


def test_the_example_by_hand():
    result = alternative_annotator_test(HUMAN, JUDGE, 0.1)
    assert [person.judge_advantage for person in result.people] == pytest.approx([0.8333] * 3, abs=1e-4)
    assert [person.person_advantage for person in result.people] == pytest.approx([1, 0.8333, 0.8333], abs=1e-4)
    judge_wins, person_wins, _ = advantages(HUMAN, JUDGE, 0)
    assert (person_wins - judge_wins).tolist() == [0, 0, 0, 0, 0, 1]
    assert result.advantage_probability == pytest.approx(0.8333, abs=1e-4)


def test_a_perfect_judge_passes_and_an_inverted_one_does_not():
    rng = np.random.default_rng(4)
    human = people_who_agree(0.8, 120, 3, rng)
    majority = (human.mean(axis=1) > 0.5).astype(float)
    assert alternative_annotator_test(human, majority, 0.1).winning_rate == 1
    assert alternative_annotator_test(human, 1 - majority, 0.1).winning_rate == 0


def test_a_missing_answer_is_left_out():
    human, judge = HUMAN.copy(), JUDGE.copy()
    human[0, 0] = np.nan
    judge[1] = np.nan
    result = alternative_annotator_test(human, judge, 0.1)
    assert [person.items for person in result.people] == [4, 5, 5]


@pytest.mark.parametrize(
    ("agreement", "epsilon", "items", "low", "high"),
    [(0.58, 0.2, 300, 0.90, 1.0), (0.58, 0.1, 100, 0.0, 0.06), (0.70, 0.2, 100, 0.0, 0.04)],
)
def test_a_coin_passes_when_people_disagree(agreement: float, epsilon: float, items: int, low: float, high: float):
    rng = np.random.default_rng(9)
    rates = [coin_pass_rate(people_who_agree(agreement, items, 3, rng), epsilon, 20, rng) for _ in range(8)]
    assert low <= np.mean(rates) <= high


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="one row per item"):
        alternative_annotator_test(HUMAN, JUDGE[:3], 0.1)
    with pytest.raises(ValueError, match="two people"):
        alternative_annotator_test(HUMAN[:, :1], JUDGE, 0.1)
    alone = HUMAN.copy()
    alone[:, 0] = np.nan
    with pytest.raises(ValueError, match="person 0 shares no item"):
        alternative_annotator_test(alone, JUDGE, 0.1)
