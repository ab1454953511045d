"""How a metric's lead and people's votes go together: the share of votes at small, middle and large leads."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.contrast import Contrast
from analysis.figure_style import BLUE, SETTINGS, WIDTH, mark
from analysis.metrics.human_agreement import Judged
from analysis.results import Result
from analysis.votes.metric_votes import some_votes, vote_contrast
from analysis.votes.preference import SCALES

GROUPS = 8
# A group of fewer comparisons says next to nothing.
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
    for place in np.unique(group).tolist():
        kept = group == place
        votes = some_votes(judged.votes, kept)
        share = vote_contrast(votes.choice, votes, SCALES["votes"], 0.5, (0.0, 1.0))
        points.append(CalibrationPoint(float(judged.gap[kept].mean()), share))
    return Calibration(judged.metric, judged.signature, judged.votes.first, judged.votes.second, tuple(points))


def calibration_plot(found: Sequence[Calibration], simulated: bool = False) -> Figure:
    """Return the share of votes for the first arm against each metric's lead, with 95 % intervals; one panel per metric."""
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.4 + 2.0 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        for axes, each in zip(panels.flat, found, strict=False):
            axes.axhline(50, color="black", lw=0.8)
            axes.axvline(0, color="black", lw=0.8)
            leads = [point.lead for point in each.points]
            axes.plot(leads, [100 * (point.share.estimate or 0.0) for point in each.points], color=BLUE, marker="o", ms=4)
            for point in each.points:
                if point.share.interval is not None:
                    ends = [100 * end for end in point.share.interval]
                    axes.plot([point.lead, point.lead], ends, color=BLUE, lw=1.2)
            axes.set_ylim(0, 100)
            axes.set_title(each.metric, loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(4))
        figure.supxlabel("lead of the first arm's image, better to the right", fontsize=9)
        figure.supylabel("votes for it, %", fontsize=9)
        mark(figure, simulated)
        return figure
