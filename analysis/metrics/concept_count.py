"""A metric against the number of concepts merged: how fast does identity go?"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.contrast import Contrast
from analysis.figure_style import CYCLE, DASHES, MARKERS, SETTINGS, WIDTH, legend_below
from analysis.metrics.paired import Measured, mean_of
from analysis.number_format import count, decimals_for, error_words, mean_cell, plain_cell
from analysis.results import Result
from analysis.tables import Column, Table


@dataclass(frozen=True, slots=True)
class ByConcepts(Result):
    """The mean of one metric for every arm, over the cases of so many concepts."""

    metric: str
    concepts: int
    images: int
    means: tuple[Contrast, ...]


def by_concepts(measured: Measured, concepts_of: dict[str, tuple[str, ...]]) -> tuple[ByConcepts, ...]:
    """Return the means by number of concepts, ascending; cases without concepts have no identity and are left out."""
    sizes = np.array([len(concepts_of[case]) for case, _ in measured.cells], dtype=np.int64)
    found = []
    for size in np.unique(sizes[sizes > 0]).tolist():
        rows = sizes == size
        means = [
            mean_of(measured.values[rows, place], measured.sets.take(rows), measured.metric, arm)
            for place, arm in enumerate(measured.arms)
        ]
        found.append(ByConcepts(measured.metric, size, int(rows.sum()), tuple(means)))
    return tuple(found)


def by_concepts_table(name: str, caption: str, found: Sequence[ByConcepts], signature: str) -> Table | None:
    """Return one row per number of concepts, one column per arm."""
    if not found:
        return None
    rows = tuple(
        (
            plain_cell(each.concepts, count(each.concepts)),
            plain_cell(each.images, count(each.images)),
            *(mean_cell(mean, max(decimals_for(other) for other in each.means)) for mean in each.means),
        )
        for each in found
    )
    arms = [mean.first for mean in found[0].means]
    columns = (Column("concepts"), Column("images per method"), *(Column(f"{arm} [95 % CI]") for arm in arms))
    said = dict.fromkeys(note for each in found for mean in each.means for note in mean.notes)
    words = error_words(mean for each in found for mean in each.means)
    notes = tuple(note for note in (f"{found[0].metric}: {signature}.", words, *said) if note)
    return Table(name, caption, columns, rows, notes)


def by_concepts_plot(found: Sequence[ByConcepts]) -> Figure:
    """Return one line per arm with 95 % intervals, against the number of concepts."""
    sizes = [each.concepts for each in found]
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.add_subplot()
        arms = [mean.first for mean in found[0].means]
        for place, arm in enumerate(arms):
            means = [each.means[place] for each in found]
            # neighbours stand apart, so that their intervals can be told
            shifted = [size + 0.06 * (place - (len(arms) - 1) / 2) for size in sizes]
            color = CYCLE[place % len(CYCLE)]
            heights = np.array([mean.estimate for mean in means], np.float64)
            dashes, marker = DASHES[place % len(DASHES)], MARKERS[place % len(MARKERS)]
            axes.plot(shifted, heights, color=color, ls=dashes, marker=marker, ms=4, label=arm)
            for x, mean in zip(shifted, means, strict=True):
                if mean.interval is not None:
                    axes.plot([x, x], mean.interval, color=color, lw=1.0)
        axes.spines["left"].set_visible(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("merged concepts")
        axes.set_ylabel(f"{found[0].metric}, mean")
        legend_below(figure)
        return figure
