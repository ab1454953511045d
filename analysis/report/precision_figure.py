"""The precision floor: why more seeds and votes stop helping."""

from dataclasses import replace

import matplotlib as mpl
from matplotlib.figure import Figure
from scipy import stats

from analysis.contrast import ALPHA
from analysis.planning.precision import Spread, StudyDesign, outlook
from analysis.report.figure_style import CYCLE, DASHES, GREY, MARKERS, SETTINGS, WIDTH, legend_below, mark

SEEDS = (1, 2, 3, 5, 8, 12, 20, 35, 60)


def precision_floor(design: StudyDesign, spread: Spread, simulated: bool = False) -> Figure:
    """Return the half width of the 95 % interval against the judgments that more seeds bring, for a design and its variations.

    Lines: half, as many and twice as many participants. Dashed: what concepts alone leave, whatever else is spent.
    """
    least = max(2, design.votes)
    crowds = sorted({max(least, round(design.participants * factor)) for factor in (0.5, 1, 2)})
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for place, people in enumerate(crowds):
            varied = [replace(design, participants=people, seeds=seeds) for seeds in SEEDS]
            widths = [100 * outlook(each, spread, effect=0.0).half_width for each in varied]
            dashes, marker = DASHES[place], MARKERS[place]
            counts = [each.judgments for each in varied]
            axes.plot(counts, widths, color=CYCLE[place], ls=dashes, marker=marker, ms=4, label=f"{people:,} participants")
        floor = outlook(design, spread, effect=0.0).concept_floor
        height = 100 * floor * float(stats.t.isf(ALPHA / 2, design.df))
        axes.axhline(height, color=GREY, ls="--", lw=1.0, label=f"floor of {design.concepts} concepts")
        axes.spines["left"].set_visible(True)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("judgments on one pair of arms (more seeds to the right)")
        axes.set_ylabel("half width of the 95 % interval, points")
        legend_below(figure, columns=2)
        mark(figure, simulated)
        return figure
