"""What becomes of ties: dropped, split in half, or modelled by Davidson, on outcomes and on votes side by side.

A tie of votes is `cannot tell`, a tie of outcomes an even split. If the three treatments disagree, the result rests on ties.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA, Contrast
from analysis.inference.bradley_terry import SCALE, contrasts, fit_strengths
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.inference.paired_comparisons import Comparisons
from analysis.results import Result, reason_of
from analysis.votes.preference import (
    CANNOT_TELL,
    FIRST,
    SCALES,
    SECOND,
    Votes,
    clustered_preference,
    naive_preference,
    outcomes,
)
from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class TieTreatment(Result):
    """One way to treat the ties of votes or of outcomes; the three counts are always there."""

    unit: str
    treatment: str
    for_first: int
    for_second: int
    ties: int
    contrast: Contrast


def tie_treatments(votes: Votes) -> tuple[TieTreatment, ...]:
    """Return the three treatments of votes, with the default error, and two of outcomes, naive.

    On outcomes Davidson's model of two arms is the log odds of the decided ones, the first treatment on another scale.
    """
    decided = votes.choice != CANNOT_TELL
    majorities = outcomes(votes.choice, votes.comparison)
    of_votes = [
        ("dropped", _dropped(votes)),
        ("split in half", clustered_preference(votes)),
        ("Davidson", _davidson(votes)),
    ]
    of_outcomes = [("dropped", naive_preference(votes)), ("split in half", _half_split(votes))]
    counts = [(int(np.sum(choices == FIRST)), int(np.sum(choices == SECOND))) for choices in (votes.choice, majorities)]
    ties = (int(np.sum(~decided)), len(majorities) - sum(counts[1]))
    return tuple(
        TieTreatment(unit, name, *counts[index], ties[index], contrast)
        for index, (unit, rows) in enumerate((("votes", of_votes), ("outcomes", of_outcomes)))
        for name, contrast in rows
    )


def _dropped(votes: Votes) -> Contrast:
    decided = votes.choice != CANNOT_TELL
    return contrast_of_mean(
        votes.choice[decided], votes.comparison[decided], votes.sets.take(decided), votes.participant[decided],
        first=votes.first, second=votes.second, measure="votes", scale="share of decided votes for the first arm",
        null=0.5, bounds=(0.0, 1.0),
    )  # fmt: skip


def _half_split(votes: Votes) -> Contrast:
    """Return the sign test with half of the ties given to each arm (an odd one left out), as Dixon and Mood (1946) did."""
    majorities = outcomes(votes.choice, votes.comparison)
    wins, losses = int(np.sum(majorities == FIRST)), int(np.sum(majorities == SECOND))
    half = (len(majorities) - wins - losses) // 2
    contrast = replace(
        naive_preference(votes), scale=f"{SCALES['outcomes']}, ties split", estimate=None, interval=None, p=None, notes=()
    )
    total = wins + losses + 2 * half
    if not total:
        return replace(contrast, test="none", scope=(), notes=("There is no outcome to split.",))
    exact = stats.binomtest(wins + half, total, 0.5)
    low, high = exact.proportion_ci(1 - ALPHA, "wilson")
    return replace(
        contrast, estimate=(wins + half) / total, interval=(float(low), float(high)), p=float(exact.pvalue), n=total,
        test="exact binomial", scope=("seeds",),
    )  # fmt: skip


def _davidson(votes: Votes) -> Contrast:
    """Return the difference of strengths in Davidson's model (1970) of the votes, with the default error."""
    contrast = Contrast(votes.first, votes.second, "votes", SCALE, None, 0.0, None, None, len(votes.choice), (), "none", ())
    left = np.zeros(len(votes.choice), np.int64)
    rows = Comparisons((votes.first, votes.second), left, left + 1, votes.choice)
    try:
        fit = fit_strengths(rows.counts())
    except UserError as error:
        return replace(contrast, notes=(reason_of(error),))
    return contrasts(fit, rows, votes.comparison, votes.sets, votes.participant)[0]
