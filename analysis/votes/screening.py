"""Who may not have looked: agreement with others, reliability, sides; and the result without them.

Reliability is that of the one-coin model (Dawid and Skene 1979, one accuracy per participant). With a preference a true winner
is a model and not a fact, so it excludes no one: the result without the flagged participants shows their influence.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.contrast import Contrast
from analysis.inference.concept_sets import Codes, Floats
from analysis.results import Result
from analysis.votes.metric_votes import some_votes
from analysis.votes.preference import CANNOT_TELL, FIRST, Votes, clustered_preference

STEPS = 500
# Fewer votes than this do not suffice to screen a participant.
LEAST_VOTES = 10
# A participant who takes one side this often, or a reliability below chance, is pointed at.
ONE_SIDED, CHANCE = 0.9, 0.5


@dataclass(frozen=True, slots=True)
class Screened(Result):
    """One participant; numbers that their votes do not allow are None."""

    participant: int
    """Their code in the votes."""
    votes: int
    reliability: float | None
    """Chance of choosing the likely winner, by the one-coin model; one vote right and one wrong are added for each person."""
    agreement: float | None
    """Share of their votes that equal the majority of the other votes on the comparison, even splits counting half."""
    left: float | None
    """Share of their votes for the image on the left."""
    pointed_at: bool


@dataclass(frozen=True, slots=True)
class Screening(Result):
    """All participants of one pair of arms, and the preference with and without those pointed at."""

    first: str
    second: str
    participants: tuple[Screened, ...]
    everybody: Contrast
    without: Contrast

    def records(self) -> list[dict[str, object]]:
        """Return one row per participant."""
        return [
            {"first": self.first, "second": self.second} | record
            for participant in self.participants
            for record in participant.records()
        ]


def screen(votes: Votes) -> Screening:
    """Return screening statistics of every participant, and the default test without the flagged ones."""
    mask = votes.choice != CANNOT_TELL
    decided = some_votes(votes, mask)
    reliable, _ = one_coin(decided.choice, decided.comparison, decided.participant)
    unit = np.unique(decided.comparison, return_inverse=True)[1]
    lean = decided.choice - 0.5
    others = np.bincount(unit, lean)[unit] - lean if len(unit) else lean
    shared = np.bincount(unit)[unit] > 1 if len(unit) else np.zeros(0, bool)
    agrees = 0.5 + 0.5 * np.sign(others * lean)
    on_left = None if decided.first_left is None else np.where(decided.first_left, decided.choice, 1.0 - decided.choice)
    people = []
    for who in np.unique(votes.participant).tolist():
        own = decided.participant == who
        enough = int(own.sum()) >= LEAST_VOTES
        reliability = reliable.get(who) if enough else None
        left = float(on_left[own].mean()) if enough and on_left is not None else None
        one_sided = left is not None and not 1 - ONE_SIDED < left < ONE_SIDED
        agreement = float(agrees[own & shared].mean()) if (own & shared).any() else None
        unreliable = reliability is not None and reliability < CHANCE
        people.append(
            Screened(who, int(np.sum(votes.participant == who)), reliability, agreement, left, one_sided or unreliable)
        )
    out = [person.participant for person in people if person.pointed_at]
    without = some_votes(votes, ~np.isin(votes.participant, out))
    return Screening(votes.first, votes.second, tuple(people), clustered_preference(votes), clustered_preference(without))


def one_coin(choice: Floats, comparison: Codes, participant: Codes) -> tuple[dict[int, float], Floats]:
    """Return every participant's reliability and, for each comparison in the order of codes, the chance that the first arm won.

    By expectation and maximisation from the shares of votes, with a prior of one vote right and one wrong for each participant
    (Beta(2, 2)), so that no reliability is 0 or 1; the first arm's share of wins is free.
    """
    if not len(choice):
        return {}, np.zeros(0)
    unit = np.unique(comparison, return_inverse=True)[1]
    names, who = np.unique(participant, return_inverse=True)
    sign, votes = 2.0 * (choice == FIRST) - 1.0, np.bincount(who)
    winner = np.bincount(unit, (sign + 1) / 2) / np.bincount(unit)
    reliable = np.full(len(names), CHANCE)
    for _ in range(STEPS):
        right = np.where(sign > 0, winner[unit], 1.0 - winner[unit])
        before, reliable = reliable, (np.bincount(who, right) + 1.0) / (votes + 2.0)
        prior = float(np.clip(winner.mean(), 1e-9, 1 - 1e-9))
        winner = special.expit(special.logit(prior) + np.bincount(unit, sign * special.logit(reliable)[who]))
        if np.max(np.abs(reliable - before)) < 1e-10:
            break
    return dict(zip(names.tolist(), reliable.tolist(), strict=True)), np.asarray(winner, np.float64)
