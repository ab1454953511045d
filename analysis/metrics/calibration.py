"""How a metric's lead and people's votes go together: the share of votes at small, middle and large leads."""

from dataclasses import dataclass

import numpy as np

from analysis.contrast import Contrast
from analysis.metrics.human_agreement import Judged
from analysis.results import Result
from analysis.votes.metric_votes import some_votes, vote_contrast
from analysis.votes.preference import SCALES

GROUPS = 8
# A group of fewer comparisons is too noisy to report.
LEAST_COMPARISONS = 5


@dataclass(frozen=True, slots=True)
class CalibrationPoint(Result):
    """The votes on comparisons of similar leads: their mean lead, and the share of votes for the first arm."""

    lead: float
    share: Contrast


@dataclass(frozen=True, slots=True)
class Calibration(Result):
    """The share of votes for the first arm against the metric's lead, in groups of equally many comparisons."""

    metric: str
    signature: str
    first: str
    second: str
    points: tuple[CalibrationPoint, ...]


def calibration(judged: Judged, groups: int = GROUPS) -> Calibration:
    """Return the share of votes by the size of the lead, each with the project's default error.

    Leads are better where positive, whatever the metric's direction. Comparisons, not votes, are cut into equal groups.
    """
    comparison, first_row = np.unique(judged.votes.comparison, return_index=True)
    leads = judged.gap[first_row]
    count = max(1, min(groups, len(comparison) // LEAST_COMPARISONS))
    edges = np.unique(np.quantile(leads, np.linspace(0, 1, count + 1)[1:-1]))
    group = np.searchsorted(edges, judged.gap, side="right")
    points = []
    for number in np.unique(group).tolist():
        members = group == number
        votes = some_votes(judged.votes, members)
        share = vote_contrast(votes.choice, votes, SCALES["votes"], 0.5, (0.0, 1.0))
        points.append(CalibrationPoint(float(judged.gap[members].mean()), share))
    return Calibration(judged.metric, judged.signature, judged.votes.first, judged.votes.second, tuple(points))
