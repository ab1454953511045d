"""Strengths of arms from rankings and from choices among several: Plackett-Luce, with errors that respect clusters.

A ranking is a row of choices: the first among all that were offered, the next among the rest, and so on (Plackett 1975); the
chance of each is its strength over the sum of those it was chosen among (Luce 1959). Of two arms it is Bradley-Terry.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special
from threadpoolctl import threadpool_limits

from analysis.contrast import Contrast
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.inference.paired_comparisons import Counts, check_connected
from analysis.results import Result
from evalkit.errors import UserError

SCALE = "difference of log strengths"


@dataclass(frozen=True)
class Rankings:
    """One row per vote.

    `order` holds the ranked arms (their places in `arms`), best first, -1 after the last, of shape (votes, ranks); a plain
    choice has one rank. `offered` marks the arms that were shown, of shape (votes, arms): those that are not ranked lost to all
    that are.
    """

    arms: tuple[str, ...]
    order: Codes
    offered: NDArray[np.bool_]


@dataclass(frozen=True)
class Worths(Result):
    """A fitted model: log strengths with mean zero, and their covariance for votes that are independent."""

    arms: tuple[str, ...]
    estimates: Floats
    covariance: Floats
    residuals: Floats
    """Each vote's score, of shape (votes, arms)."""
    log_likelihood: float

    def records(self) -> list[dict[str, object]]:
        """Return one row per arm."""
        deviations = np.sqrt(np.diag(self.covariance)).tolist()
        return [
            {"arm": arm, "estimate": estimate, "standard_error": error}
            for arm, estimate, error in zip(self.arms, self.estimates.tolist(), deviations, strict=True)
        ]

    def difference(self, first: str, second: str) -> tuple[float, float]:
        """Return how many logits `first` is above `second`, and the standard error of that."""
        one, other = self.arms.index(first), self.arms.index(second)
        spread = self.covariance[one, one] + self.covariance[other, other] - 2.0 * self.covariance[one, other]
        return float(self.estimates[one] - self.estimates[other]), math.sqrt(max(0.0, float(spread)))


def fit_rankings(rankings: Rankings) -> Worths:
    """Return the strengths of largest likelihood, by Newton.

    Raises UserError for rows that cannot be a ranking, and where no finite estimate exists: some arms were never offered with
    others, or never lost to any of them (Hunter 2004, assumption 1).
    """
    votes, chosen, among = _stages(rankings)
    size = len(rankings.arms)
    picked = np.zeros((len(chosen), size))
    picked[np.arange(len(chosen)), chosen] = 1.0
    beaten = picked.T @ (among - picked)
    nothing = np.zeros_like(beaten)
    check_connected(Counts(rankings.arms, beaten, nothing, nothing))
    estimates = np.zeros(size)
    hidden = np.where(among, 0.0, -np.inf)

    def state(point: Floats) -> tuple[float, Floats]:
        logits = point + hidden
        top = special.logsumexp(logits, axis=1, keepdims=True)
        return float(np.sum(point[chosen]) - np.sum(top)), np.exp(logits - top)

    with threadpool_limits(1):
        value, chance = state(estimates)
        for _ in range(100):
            slope = (picked - chance).sum(0)
            information = np.diag(chance.sum(0)) - chance.T @ chance
            information += np.trace(information) / size**2  # holds the mean strength at zero
            step = np.linalg.solve(information, slope)
            decrement, length = float(slope @ step), 1.0
            if decrement < 1e-16:
                break
            while True:
                proposed = state(estimates + length * step)
                if proposed[0] >= value or decrement < 1e-6:
                    break
                length /= 2.0
            estimates = estimates + length * step
            value, chance = proposed
        else:
            raise UserError("rankings: no finite strengths were found in 100 steps; one arm wins almost every vote")
        centre = np.eye(size) - 1.0 / size
        covariance = np.asarray(centre @ np.linalg.inv(information) @ centre, np.float64)
    residuals = np.zeros((len(rankings.order), size))
    np.add.at(residuals, votes, picked - chance)
    return Worths(rankings.arms, estimates - estimates.mean(), covariance, residuals, value)


def worth_contrasts(
    fit: Worths, comparison: Codes, sets: ConceptSets, participant: Codes | None = None
) -> tuple[Contrast, ...]:
    """Return every difference of two strengths with the project's default errors, as `bradley_terry.contrasts`."""
    differences = []
    for one, other in combinations(range(len(fit.arms)), 2):
        influence = fit.residuals @ (fit.covariance[one] - fit.covariance[other])
        values = float(fit.estimates[one] - fit.estimates[other]) + len(influence) * influence
        differences.append(
            contrast_of_mean(
                values, comparison, sets, participant, first=fit.arms[one], second=fit.arms[other],
                measure="votes", scale=SCALE, null=0.0,
            )
        )  # fmt: skip
    return tuple(differences)


def _stages(rankings: Rankings) -> tuple[Codes, Codes, NDArray[np.bool_]]:
    """Return every choice in the rankings: its vote, the arm chosen, and which arms were left to choose from."""
    rows, size = len(rankings.order), len(rankings.arms)
    if size < 2:
        raise UserError("rankings: fewer than two arms were ranked; at least two arms are needed")
    if not rows:
        raise UserError("rankings: there are no votes; at least one is needed")
    if rankings.order.ndim != 2 or not rankings.order.shape[1] or rankings.offered.shape != (rows, size):
        raise UserError(f"rankings: {rows} votes on {size} arms need orders of shape ({rows}, ranks), offers ({rows}, {size})")
    if rankings.order.max() >= size or rankings.order.min() < -1:
        raise UserError(f"rankings: an arm's number is outside 0 to {size - 1}; use -1 for no further rank")
    left = rankings.offered.copy()
    votes, chosen, among = [], [], []
    before = np.ones(rows, np.bool_)
    for rank in range(rankings.order.shape[1]):
        ranked = rankings.order[:, rank] >= 0
        if np.any(ranked & ~before):
            raise UserError(
                f"rankings: vote {int(np.argmax(ranked & ~before))} has a rank after an empty one; fill ranks from the first"
            )
        before = ranked
        numbers = np.flatnonzero(ranked)
        arm = rankings.order[numbers, rank]
        if not np.all(left[numbers, arm]):
            wrong = int(np.argmin(left[numbers, arm]))
            name = rankings.arms[int(arm[wrong])]
            raise UserError(
                f"rankings: vote {int(numbers[wrong])} ranks {name!r}, which was not offered or is ranked already"
                "; rank each arm that was shown once"
            )
        free = left[numbers].sum(1) > 1
        votes.append(numbers[free])
        chosen.append(arm[free])
        among.append(left[numbers[free]])
        left[numbers, arm] = False
    return np.concatenate(votes), np.concatenate(chosen), np.concatenate(among)
