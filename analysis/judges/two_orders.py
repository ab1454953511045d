"""One comparison asked in both orders: verdict or abstention, and the pull of the first place.

A judge that names a different image when the two are swapped has not chosen one. Such a flip counts as an abstention and as
position bias; asking in one order only would shift shares by tens of points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.plural import plural

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OrderEffect:
    """What both orders of a comparison say, in logits, if the first place adds the same pull in each."""

    preference: float
    """Logit preference for arm A, free of position."""
    position: float
    """Logit pull of the first place."""

    @property
    def share(self) -> float:
        """Return the probability of choosing A, free of position."""
        return 1 / (1 + math.exp(-self.preference))


def order_effect(a_first: float, b_first: float) -> OrderEffect:
    """Return preference and position pull from the probability that the first image wins, with A first and with B first.

    Raises:
        ValueError: a probability is not strictly between 0 and 1, so it has no logit.
    """
    for value in (a_first, b_first):
        if not 0 < value < 1:
            raise ValueError(f"probability {value:g} has no logit; it must be above 0 and below 1")
    first, second = (math.log(value / (1 - value)) for value in (a_first, b_first))
    return OrderEffect((first - second) / 2, (first + second) / 2)


@dataclass(frozen=True, slots=True)
class OrderedAnswers:
    """Answers to comparisons that were asked in both orders.

    Each array has one entry per comparison: 1 if arm A was chosen, 0 if arm B was, 0.5 for "cannot tell", NaN for no answer.
    """

    a_first: Floats
    b_first: Floats

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Return which comparisons have an answer in both orders."""
        return ~(np.isnan(self.a_first) | np.isnan(self.b_first))

    def verdicts(self) -> Floats:
        """Return 1, 0 or 0.5 (abstention) per comparison: a verdict needs the same arm twice. NaN: an answer is missing."""
        agreed = np.where(self.a_first == self.b_first, self.a_first, 0.5)
        return np.where(self.answered, agreed, np.nan)

    @property
    def flips(self) -> NDArray[np.bool_]:
        """Return which answered comparisons chose a different arm when the images were swapped."""
        decided = (self.a_first != 0.5) & (self.b_first != 0.5)
        return np.asarray(self.answered & decided & (self.a_first != self.b_first), np.bool_)

    def first_place_share(self) -> float | None:
        """Return the share of decided answers that chose the first image: 0.5 without position bias."""
        first = np.concatenate([self.a_first, 1 - self.b_first])
        decided = first[~np.isnan(first) & (first != 0.5)]
        return float(decided.mean()) if len(decided) else None


def answers(a_first: Sequence[float | None], b_first: Sequence[float | None]) -> OrderedAnswers:
    """Return the answers of comparisons, None for a missing one.

    Raises:
        ValueError: the orders have different lengths, or an answer is not 0, 0.5, 1 or None.
    """
    if len(a_first) != len(b_first):
        raise ValueError(
            f"{plural(len(a_first), 'answer')} with A first, {len(b_first)} with B first; each comparison needs both entries"
        )
    arrays = [np.array([np.nan if value is None else value for value in order], np.float64) for order in (a_first, b_first)]
    for array in arrays:
        wrong = ~(np.isnan(array) | np.isin(array, (0.0, 0.5, 1.0)))
        if wrong.any():
            raise ValueError(f"answer {array[wrong][0]:g}; an answer is 1 (A), 0 (B), 0.5 (cannot tell) or missing")
    return OrderedAnswers(*arrays)
