"""Table and figure of a metric against the number of merged concepts."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.metrics.concept_count import ByConcepts
from analysis.number_format import count, decimals_for
from analysis.report.figure_style import CYCLE, DASHES, MARKERS, SETTINGS, WIDTH, legend_below
from analysis.report.table import Column, ReportTable
from analysis.report.table_cells import error_words, mean_cell, plain_cell


def by_concepts_table(name: str, caption: str, by_number: Sequence[ByConcepts], signature: str) -> ReportTable | None:
    """Return one row per number of concepts, one column per arm."""
    if not by_number:
        return None
    rows = tuple(
        (
            plain_cell(group.concepts, count(group.concepts)),
            plain_cell(group.images, count(group.images)),
            *(mean_cell(mean, max(decimals_for(other) for other in group.means)) for mean in group.means),
        )
        for group in by_number
    )
    arms = [mean.first for mean in by_number[0].means]
    columns = (Column("concepts"), Column("images per method"), *(Column(f"{arm} [95 % CI]", arm=arm) for arm in arms))
    caveats = dict.fromkeys(note for group in by_number for mean in group.means for note in mean.notes)
    words = error_words(mean for group in by_number for mean in group.means)
    notes = tuple(note for note in (words, *caveats) if note)
    return ReportTable(name, caption, columns, rows, notes, recipes=((by_number[0].metric, signature),))


def by_concepts_plot(by_number: Sequence[ByConcepts]) -> Figure:
    """Return one line per arm with 95 % intervals, against the number of concepts."""
    sizes = [group.concepts for group in by_number]
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.add_subplot()
        arms = [mean.first for mean in by_number[0].means]
        for index, arm in enumerate(arms):
            means = [group.means[index] for group in by_number]
            # offset the arms, so that their intervals do not overlap
            shifted = [size + 0.06 * (index - (len(arms) - 1) / 2) for size in sizes]
            color = CYCLE[index % len(CYCLE)]
            heights = np.array([mean.estimate for mean in means], np.float64)
            dashes, marker = DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
            axes.plot(shifted, heights, color=color, ls=dashes, marker=marker, ms=4, label=arm)
            for x, mean in zip(shifted, means, strict=True):
                if mean.interval is not None:
                    axes.plot([x, x], mean.interval, color=color, lw=1.0)
        axes.spines["left"].set_visible(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("merged concepts")
        axes.set_ylabel(f"{by_number[0].metric}, mean")
        legend_below(figure)
        return figure
