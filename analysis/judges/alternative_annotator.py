"""The alternative annotator test: may a judge replace one of the people? (Calderon, Reichart, Dror 2025, arXiv 2501.10970)

Each person in turn is left out. Judge and person are both scored against the answers of the others, item by item. The judge
wins if it is not worse than the person by more than `epsilon`, the price of a person's work. A coin passes too if people
disagree, so the pass rate of a coin at the study's own agreement is reported next to the result.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

FALSE_DISCOVERY_RATE = 0.05
# Of the people the judge must win against.
LEAST_WINNING_RATE = 0.5
# The authors: below this a Wilcoxon test; fewer items do not suffice for one person.
LEAST_ITEMS = 30


@dataclass(frozen=True, slots=True)
class PersonComparison:
    """Judge against one person, each scored on the other people's answers."""

    person: int
    items: int
    judge_advantage: float
    """Share of items at which the judge scores at least as well as the person."""
    person_advantage: float
    p: float
    """One-sided, of the judge being worse by `epsilon` or more."""
    rejected: bool


@dataclass(frozen=True, slots=True)
class AlternativeAnnotatorTest:
    """The result over all people."""

    epsilon: float
    people: tuple[PersonComparison, ...]

    @property
    def winning_rate(self) -> float:
        """Return the share of people the judge wins against (omega)."""
        return sum(person.rejected for person in self.people) / len(self.people)

    @property
    def passed(self) -> bool:
        """Return whether the judge wins against at least half of the people."""
        return self.winning_rate >= LEAST_WINNING_RATE

    @property
    def advantage_probability(self) -> float:
        """Return the mean probability that the judge is at least as good as a person (rho), by which judges compare."""
        return float(np.mean([person.judge_advantage for person in self.people]))


def alignment(answers: Floats, others: Floats) -> Floats:
    """Return the share of the others that gave the same answer, shape (items,).

    Args:
        answers: one answer per item, shape (items,).
        others: the other people's answers, NaN if missing, shape (items, people).
    """
    present = ~np.isnan(others)
    same = (others == answers[:, None]) & present
    return np.asarray(same.sum(1) / present.sum(1), np.float64)


def alternative_annotator_test(human: Floats, judge: Floats, epsilon: float) -> AlternativeAnnotatorTest:
    """Return the test of a judge against every person.

    Args:
        human: categorical answers as numbers, NaN if a person did not answer, shape (items, people).
        judge: the judge's answers, NaN for an abstention, which is left out, shape (items,).
        epsilon: how much worse a judge may be for its lower price: .2 for experts, .15 for skilled people, .1 for a crowd.

    Raises:
        ValueError: shapes differ, fewer than two people, or a person shares no item with the judge and another person.
    """
    if human.ndim != 2 or len(human) != len(judge):
        raise ValueError(f"people's answers have shape {human.shape}, the judge's {judge.shape}; both need one row per item")
    if human.shape[1] < 2:
        raise ValueError("the test leaves one person out and needs at least one other; give two people or more")
    rows = [_against(human, judge, person, epsilon) for person in range(human.shape[1])]
    adjusted = stats.false_discovery_control([p for *_, p in rows], method="by")
    people = tuple(
        PersonComparison(person, items, judge_wins, person_wins, p, bool(corrected <= FALSE_DISCOVERY_RATE))
        for person, ((items, judge_wins, person_wins, p), corrected) in enumerate(zip(rows, adjusted, strict=True))
    )
    return AlternativeAnnotatorTest(epsilon, people)


def advantages(human: Floats, judge: Floats, person: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return, per usable item, whether the judge and whether the person scores at least as well, and which items are usable."""
    others = np.delete(human, person, axis=1)
    usable = ~np.isnan(human[:, person]) & ~np.isnan(judge) & (~np.isnan(others)).any(axis=1)
    score_judge = alignment(judge[usable], others[usable])
    score_person = alignment(human[usable, person], others[usable])
    return (score_judge >= score_person).astype(np.float64), (score_person >= score_judge).astype(np.float64), usable


def _against(human: Floats, judge: Floats, person: int, epsilon: float) -> tuple[int, float, float, float]:
    judge_wins, person_wins, usable = advantages(human, judge, person)
    items = int(usable.sum())
    if not items:
        raise ValueError(f"person {person} shares no item with the judge and another person; leave that person out")
    return items, float(judge_wins.mean()), float(person_wins.mean()), _p(person_wins - judge_wins, epsilon)


def _p(differences: Floats, epsilon: float) -> float:
    """Return the one-sided p-value of a mean difference of `epsilon` or more."""
    if float(np.ptp(differences)) == 0.0:
        # a constant has no error; the smallest p that so many items can give by a sign test, or 1
        return float(0.5 ** len(differences)) if differences[0] < epsilon else 1.0
    if len(differences) < LEAST_ITEMS:
        return float(stats.wilcoxon(differences - epsilon, alternative="less").pvalue)
    return float(stats.ttest_1samp(differences, epsilon, alternative="less").pvalue)


def coin_pass_rate(human: Floats, epsilon: float, draws: int, rng: np.random.Generator) -> float:
    """Return how often a judge that answers at random, uniformly over the answers people gave, passes the test.

    Args:
        human: as in `alternative_annotator_test`.
        epsilon: likewise.
        draws: how many coins.
        rng: source of the coins.
    """
    values = np.unique(human[~np.isnan(human)])
    coins = rng.choice(values, size=(draws, len(human)))
    return float(np.mean([alternative_annotator_test(human, coin, epsilon).passed for coin in coins]))
