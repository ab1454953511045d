"""Calibration figure: the share of votes against the lead of each metric."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.findings import Findings
from analysis.metrics.calibration import Calibration, calibration
from analysis.metrics.human_agreement import Judged
from analysis.report.figure_spec import FigureContent, report_figure
from analysis.report.figure_style import BLUE, SETTINGS, WIDTH, mark


def calibration_plot(calibrations: Sequence[Calibration], simulated: bool = False) -> Figure:
    """Return the share of votes for the first arm against each metric's lead, with 95 % intervals; one panel per metric."""
    columns = min(3, len(calibrations))
    rows = -(-len(calibrations) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.4 + 2.0 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(calibrations) :]:
            axes.set_visible(False)
        for axes, curve in zip(panels.flat, calibrations, strict=False):
            axes.axhline(50, color="black", lw=0.8)
            axes.axvline(0, color="black", lw=0.8)
            leads = [point.lead for point in curve.points]
            axes.plot(leads, [100 * (point.share.estimate or 0.0) for point in curve.points], color=BLUE, marker="o", ms=4)
            for point in curve.points:
                if point.share.interval is not None:
                    ends = [100 * end for end in point.share.interval]
                    axes.plot([point.lead, point.lead], ends, color=BLUE, lw=1.2)
            axes.set_ylim(0, 100)
            axes.set_title(curve.metric, loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(4))
        figure.supxlabel("lead of the first arm's image, better to the right", fontsize=9)
        figure.supylabel("votes for it, %", fontsize=9)
        mark(figure, simulated)
        return figure


@report_figure("calibration")
def calibration_figure(findings: Findings) -> FigureContent | None:
    """Return how votes follow metrics, over all arms if several pairs were judged."""
    # all arms together come after their pairs, and replace them
    of_metric: dict[str, Judged] = {judged.metric: judged for judged in findings.judged}
    if not of_metric:
        return None
    caption = (
        "Share of votes for the first arm's image against the metric's lead, comparisons in groups of equal size. A metric "
        "that predicts people rises from below to above 50 %. Intervals allow for shared concepts and participants."
    )
    figure = calibration_plot([calibration(judged) for judged in of_metric.values()], findings.simulated)
    return FigureContent(caption, figure, findings.simulated)
