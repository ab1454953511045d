"""Figures of whole arms by metric: performance profiles, and the critical difference diagram."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.metrics.arm_profiles import Profile
from analysis.metrics.arm_ranks import ArmRanks
from analysis.report.figure_style import BLUE, CYCLE, DASHES, GREY, SETTINGS, WIDTH, legend_below, lines


def profile_plot(found: Sequence[Sequence[Profile]]) -> Figure:
    """Return the share of scores above each threshold, one line per arm with its 95 % band; one panel per metric."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.6 + 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        for number, (axes, profiles) in enumerate(zip(panels.flat, found, strict=False)):
            for place, profile in enumerate(profiles):
                color = CYCLE[place % len(CYCLE)]
                levels = [point.threshold for point in profile.points]
                shares = [100 * point.share for point in profile.points]
                dashes = DASHES[place % len(DASHES)]
                axes.plot(levels, shares, color=color, ls=dashes, lw=1.4, label=profile.arm if not number else None)
                known = [point.interval for point in profile.points if point.interval is not None]
                if len(known) == len(levels):
                    ends = [[100 * interval[side] for interval in known] for side in (0, 1)]
                    axes.fill_between(levels, *ends, color=color, alpha=0.15, lw=0)
            axes.set_title(profiles[0].metric, loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(4))
        figure.supylabel("images with a score above, %", fontsize=9)
        legend_below(figure)
        return figure


def critical_difference_diagram(found: Sequence[ArmRanks]) -> Figure:
    """Return the mean rank of every arm, best on top; a bar at the right joins arms that Nemenyi's test does not separate."""
    arms = max(len(each.arms) for each in found)
    columns = 1 if len(found) == 1 else 2
    rows = -(-len(found) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, rows * (0.75 + 0.26 * arms)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        for axes, each in zip(panels.flat, found, strict=False):
            order = [arm for _, arm in sorted(zip(each.mean_ranks, each.arms, strict=True))]
            lines(axes, len(order))
            for row, arm in enumerate(order):
                rank = each.mean_ranks[each.arms.index(arm)]
                axes.plot([1, rank], [row, row], color=GREY, lw=0.8)
                axes.plot([rank], [row], marker="o", ms=5, color=BLUE, ls="none")
            for number, group in enumerate(each.groups()):
                ends = [order.index(group[0]) - 0.15, order.index(group[-1]) + 0.15]
                x = len(order) + 0.15 + 0.12 * number
                axes.plot([x, x], ends, color="black", lw=3.0, solid_capstyle="butt", clip_on=False)
            axes.set_yticks(range(len(order)), order)
            axes.set_xlim(1, len(order) + 0.15 + 0.12 * max(1, len(each.groups())))
            axes.set_xticks(range(1, len(order) + 1))
            axes.set_title(f"{each.metric} (critical difference {each.critical_difference:.2f})", loc="left", fontsize=8)
        figure.supxlabel("mean rank, 1 is best", fontsize=9)
        return figure
