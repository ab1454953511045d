"""Which of two arms do people prefer: the papers' naive test and the one with clustered errors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.contrast import ALPHA, Contrast, holm
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.finite_values import check_finite, check_rows
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.results import Result
from evalkit.errors import UserError

# A judgment as a number: 1 for the first arm, 0 for the second, half a vote for each if a participant cannot tell.
FIRST, SECOND, CANNOT_TELL = 1.0, 0.0, 0.5

SCALES = {"votes": "share of votes for the first arm", "outcomes": "share of decided comparisons won by the first arm"}


@dataclass(frozen=True)
class Votes:
    """All judgments of one pair of arms, one row each."""

    first: str
    second: str
    choice: Floats
    comparison: Codes
    participant: Codes
    sets: ConceptSets
    first_left: NDArray[np.bool_] | None = None
    """Whether the first arm's image was on the left; None if that is unknown."""

    def __post_init__(self) -> None:
        """Refuse choices that are no vote, and rows without a label."""
        where, rows = f"votes on {self.first} and {self.second}", len(self.choice)
        check_finite(where, self.choice, "choice")
        check_rows(
            where, rows, comparison=self.comparison, participant=self.participant, sets=self.sets.codes, left=self.first_left
        )
        if rows and not 0.0 <= float(self.choice.min()) <= float(self.choice.max()) <= 1.0:
            raise UserError(f"{where}: a choice is outside 0 to 1; 1 is the first arm, 0 the second, 0.5 cannot tell")


@dataclass(frozen=True, slots=True)
class Preference(Result):
    """Votes on one pair of arms."""

    first: str
    second: str
    first_wins: int
    second_wins: int
    ties: int
    votes: int
    cannot_tell: int
    participants: int
    naive: Contrast
    clustered: Contrast

    @property
    def comparisons(self) -> int:
        """Return how many comparisons have at least one judgment."""
        return self.first_wins + self.second_wins + self.ties


def outcomes(choice: Floats, comparison: Codes) -> Floats:
    """Return the majority vote of each comparison: 1, 0, or .5 for an even split, in the order of their codes.

    `cannot tell` supports no arm, and a tie stays a tie: there is no coin toss.
    """
    lean = np.bincount(comparison, weights=choice - 0.5)[np.unique(comparison)]
    return np.where(lean > 0, FIRST, np.where(lean < 0, SECOND, CANNOT_TELL))


def naive_preference(votes: Votes, margin: float | None = None) -> Contrast:
    """Return the exact binomial test on majority outcomes, with a Wilson (1927) interval; ties are left out of its n.

    This is what the papers print. It takes the comparisons for independent, so it speaks of other seeds only: not of other
    concepts, nor of other people. The equivalence test is the exact one: two one-sided binomial tests at 0.5 - and + `margin`.
    """
    majorities = outcomes(votes.choice, votes.comparison)
    wins, losses = int(np.sum(majorities == FIRST)), int(np.sum(majorities == SECOND))
    decided = wins + losses
    result = Contrast(
        votes.first, votes.second, "outcomes", SCALES["outcomes"], None, 0.5, None, None, decided, (),
        "exact binomial", ("seeds",), margin=margin,
    )  # fmt: skip
    if not decided:
        said_so = "There are no judgments." if not len(majorities) else "Every comparison ended in a tie."
        return replace(result, test="none", scope=(), notes=(said_so,))
    exact = stats.binomtest(wins, decided, 0.5)
    low, high = exact.proportion_ci(1 - ALPHA, "wilson")
    narrow = exact.proportion_ci(1 - 2 * ALPHA, "exact")
    return replace(
        result,
        estimate=wins / decided,
        interval=(float(low), float(high)),
        narrow_interval=(float(narrow.low), float(narrow.high)),
        p=float(exact.pvalue),
        p_equivalence=None if margin is None else _exact_tost(wins, decided, margin),
    )


def _exact_tost(wins: int, decided: int, margin: float) -> float:
    below = stats.binomtest(wins, decided, 0.5 - margin, "greater").pvalue
    above = stats.binomtest(wins, decided, 0.5 + margin, "less").pvalue
    return float(max(below, above))


def clustered_preference(votes: Votes, margin: float | None = None) -> Contrast:
    """Return the share of votes for the first arm with the dyadic + participant max-rule.

    Every judgment counts as it was given; `cannot tell` is half a vote for each arm.
    """
    contrast = contrast_of_mean(
        votes.choice, votes.comparison, votes.sets, votes.participant,
        first=votes.first, second=votes.second, measure="votes", scale=SCALES["votes"],
        null=0.5, margin=margin, bounds=(0.0, 1.0), other_scopes=True,
    )  # fmt: skip
    if not len(votes.choice):
        return replace(contrast, notes=("There are no judgments.",))
    if np.all(votes.choice == CANNOT_TELL):
        return replace(contrast, notes=(*contrast.notes, "No one could tell the arms apart in any comparison."))
    return contrast


def preference(votes: Votes, margin: float | None = None, margin_scale: str = "votes") -> Preference:
    """Return both tests of one pair of arms; the margin (half width, as a share) holds on the scale it names alone.

    Near one half a majority of five stretches differences by 30/16, so a margin on votes is not one on outcomes.

    Parameters
    ----------
    votes
        All judgments of one pair of arms.
    margin
        Equivalence margin as a share, between 0 and 0.5; None for no test of equivalence.
    margin_scale
        What the margin is a share of: `votes` or `outcomes`.
    """
    check_margin(margin, margin_scale)
    majorities = outcomes(votes.choice, votes.comparison)
    return Preference(
        votes.first,
        votes.second,
        int(np.sum(majorities == FIRST)),
        int(np.sum(majorities == SECOND)),
        int(np.sum(majorities == CANNOT_TELL)),
        len(votes.choice),
        int(np.sum(votes.choice == CANNOT_TELL)),
        len(np.unique(votes.participant)),
        naive_preference(votes, margin if margin_scale == "outcomes" else None),
        clustered_preference(votes, margin if margin_scale == "votes" else None),
    )


def preferences(pairs: Sequence[Votes], margin: float | None = None, margin_scale: str = "votes") -> tuple[Preference, ...]:
    """Return both tests of every pair of arms, each family corrected by Holm (1979) over the pairs."""
    results = [preference(votes, margin, margin_scale) for votes in pairs]
    naive = holm([result.naive for result in results])
    clustered = holm([result.clustered for result in results])
    return tuple(replace(result, naive=n, clustered=c) for result, n, c in zip(results, naive, clustered, strict=True))


def margin_of(margin: float | None, scale: str | None) -> tuple[float, str]:
    """Return the margin and its scale with the defaults filled in: 0.05, a share of single votes."""
    with_defaults = (0.05 if margin is None else margin, "votes" if scale is None else scale)
    check_margin(*with_defaults)
    return with_defaults


def check_margin(margin: float | None, scale: str) -> None:
    """Raise a UserError unless the margin is a share between 0 and .5 on a scale we know."""
    if scale not in SCALES:
        raise UserError(f"margin scale {scale!r}: is unknown; use one of {', '.join(SCALES)}")
    if margin is not None and not 0 < margin < 0.5:
        raise UserError(f"margin {margin}: must be between 0 and 0.5 (a share: 0.05 is five percentage points)")
