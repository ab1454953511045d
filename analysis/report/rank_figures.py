"""Figures of whole arms by metric: performance profiles, and the critical difference diagram."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.findings import Findings
from analysis.metrics.arm_profiles import Profile, profiles
from analysis.metrics.arm_ranks import ArmRanks, arm_ranks
from analysis.metrics.paired import Measured
from analysis.report.figure_spec import FigureContent, report_figure
from analysis.report.figure_style import BLUE, CYCLE, DASHES, GREY, SETTINGS, WIDTH, legend_below, lines
from analysis.report.metric_figures import paired_metrics
from evalkit.errors import UserError


def profile_plot(metrics: Sequence[Sequence[Profile]]) -> Figure:
    """Return the share of scores above each threshold, one line per arm with its 95 % band; one panel per metric."""
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.6 + 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(metrics) :]:
            axes.set_visible(False)
        for number, (axes, of_arms) in enumerate(zip(panels.flat, metrics, strict=False)):
            for index, profile in enumerate(of_arms):
                color = CYCLE[index % len(CYCLE)]
                levels = [point.threshold for point in profile.points]
                shares = [100 * point.share for point in profile.points]
                dashes = DASHES[index % len(DASHES)]
                axes.plot(levels, shares, color=color, ls=dashes, lw=1.4, label=profile.arm if not number else None)
                known = [point.interval for point in profile.points if point.interval is not None]
                if len(known) == len(levels):
                    ends = [[100 * interval[side] for interval in known] for side in (0, 1)]
                    axes.fill_between(levels, *ends, color=color, alpha=0.15, lw=0)
            axes.set_title(of_arms[0].metric, loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(4))
        figure.supylabel("images with a score above, %", fontsize=9)
        legend_below(figure)
        return figure


def critical_difference_diagram(metrics: Sequence[ArmRanks]) -> Figure:
    """Return the mean rank of every arm, best on top; a bar at the right joins arms that Nemenyi's test does not separate."""
    arms = max(len(metric.arms) for metric in metrics)
    columns = 1 if len(metrics) == 1 else 2
    rows = -(-len(metrics) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, rows * (0.75 + 0.26 * arms)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(metrics) :]:
            axes.set_visible(False)
        for axes, metric in zip(panels.flat, metrics, strict=False):
            order = [arm for _, arm in sorted(zip(metric.mean_ranks, metric.arms, strict=True))]
            lines(axes, len(order))
            for row, arm in enumerate(order):
                rank = metric.mean_ranks[metric.arms.index(arm)]
                axes.plot([1, rank], [row, row], color=GREY, lw=0.8)
                axes.plot([rank], [row], marker="o", ms=5, color=BLUE, ls="none")
            for number, group in enumerate(metric.groups()):
                ends = [order.index(group[0]) - 0.15, order.index(group[-1]) + 0.15]
                x = len(order) + 0.15 + 0.12 * number
                axes.plot([x, x], ends, color="black", lw=3.0, solid_capstyle="butt", clip_on=False)
            axes.set_yticks(range(len(order)), order)
            axes.set_xlim(1, len(order) + 0.15 + 0.12 * max(1, len(metric.groups())))
            axes.set_xticks(range(1, len(order) + 1))
            axes.set_title(f"{metric.metric} (critical difference {metric.critical_difference:.2f})", loc="left", fontsize=8)
        figure.supxlabel("mean rank, 1 is best", fontsize=9)
        return figure


@report_figure("ranks")
def ranks_figure(findings: Findings) -> FigureContent | None:
    """Return the critical difference diagram, if three arms or more can be ranked."""
    ranked = [_ranks(metric) for metric in paired_metrics(findings) if metric.direction != "none"]
    ranks = [ranking for ranking in ranked if ranking is not None]
    if not ranks:
        return None
    caption = (
        "Mean rank of every arm over concept sets. A bar at the right joins arms that Nemenyi's test does not separate at "
        "5 %; it takes concept sets for independent, so it holds for other sets of these concepts."
    )
    return FigureContent(caption, critical_difference_diagram(ranks))


@report_figure("profiles")
def profiles_figure(findings: Findings) -> FigureContent | None:
    """Return the performance profiles, if any metric was measured on two arms."""
    paired = paired_metrics(findings)
    if not paired:
        return None
    caption = "Share of images whose score exceeds each threshold; bands: 95 %, bootstrap over concepts and seeds, pointwise."
    return FigureContent(caption, profile_plot([profiles(metric) for metric in paired]))


def _ranks(measured: Measured) -> ArmRanks | None:
    try:
        return arm_ranks(measured)
    except UserError:
        # fewer than three arms, or nothing to rank
        return None
