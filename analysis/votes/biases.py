"""What should not move votes but may: the side, the order of comparisons, the time taken; and arms that are the same.

Sides are randomised for every vote, so a bias to one side does not favour an arm; it only makes votes worth less.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.contrast import Contrast, holm
from analysis.database_rows import RunData
from analysis.grouping import votes_of
from analysis.inference.concept_sets import Floats
from analysis.results import Result
from analysis.votes.metric_votes import some_votes, vote_contrast
from analysis.votes.preference import Votes, clustered_preference

SIDE = "share of votes for the image on the left"
ORDER = "change of the share from a participant's first vote to the last"
TIME = "change of the share with each doubling of the time taken"


@dataclass(frozen=True, slots=True)
class Bias(Result):
    """One influence that should be none, on the votes of one pair of arms; the contrast's null value means no influence."""

    influence: str
    contrast: Contrast


def biases(data: RunData) -> tuple[Bias, ...]:
    """Return side, order and time effects of every pair of arms; p-values of one influence are corrected over the pairs.

    An order or time effect means that the preference moved, not that participants became slower.
    """
    contrasts: dict[str, list[Contrast]] = {"side": [], "order": [], "time": []}
    position = data.judgments.groupby("participant").cumcount()
    last = data.judgments.groupby("participant")["choice"].transform("size") - 1
    order = (position / last.where(last > 0)).to_numpy(np.float64)
    taken = pd.to_numeric(data.judgments["reaction_ms"]).to_numpy(np.float64)
    time = np.log2(np.where(taken > 0, taken, np.nan))
    for votes in votes_of(data):
        rows = ((data.judgments["first"] == votes.first) & (data.judgments["second"] == votes.second)).to_numpy(bool)
        contrasts["side"].append(side_bias(votes))
        contrasts["order"].append(share_slope(votes, order[rows], ORDER))
        contrasts["time"].append(share_slope(votes, time[rows], TIME))
    return tuple(Bias(name, contrast) for name, family in contrasts.items() for contrast in holm(family))


def side_bias(votes: Votes) -> Contrast:
    """Return the share of votes for the left image; `cannot tell` is half a vote for each."""
    if votes.first_left is None:
        return _absent(votes, SIDE, 0.5, "Which image was on the left is unknown.")
    values = np.where(votes.first_left, votes.choice, 1.0 - votes.choice)
    return vote_contrast(values, votes, SIDE, 0.5, (0.0, 1.0))


def share_slope(votes: Votes, along: Floats, scale: str) -> Contrast:
    """Return how the share for the first arm moves per unit of `along` within participants, by least squares.

    Votes without a value of `along` are left out. The error is the default one, from each vote's influence.
    """
    known = np.isfinite(along)
    some, x = some_votes(votes, known), along[known]
    if not known.any():
        return _absent(votes, scale, 0.0, "It is unknown for every vote.")
    count = np.bincount(some.participant)
    means = np.bincount(some.participant, x) / np.maximum(count, 1)
    shares = np.bincount(some.participant, some.choice) / np.maximum(count, 1)
    x, y = x - means[some.participant], some.choice - shares[some.participant]
    total = float(x @ x)
    if total <= 1e-12:
        return _absent(some, scale, 0.0, "It differs within no participant.")
    slope = float(x @ y) / total
    return vote_contrast(slope + len(x) * x * (y - slope * x) / total, some, scale, 0.0)


def null_pairs(data: RunData) -> tuple[Bias, ...]:
    """Return the share of votes between arms that are the same method with the same parameters: it should be one half.

    Empty if no two arms are the same; such a pair in a study shows what the instrument measures without a difference.
    """
    same = {
        (one.label, other.label)
        for one, other in combinations(data.arms, 2)
        if (one.method, one.parameters) == (other.method, other.parameters)
    }
    return tuple(
        Bias("same arms", clustered_preference(votes)) for votes in votes_of(data) if (votes.first, votes.second) in same
    )


def _absent(votes: Votes, scale: str, null: float, why: str) -> Contrast:
    contrast = Contrast(votes.first, votes.second, "votes", scale, None, null, None, None, len(votes.choice), (), "none", ())
    return replace(contrast, notes=(why,))
