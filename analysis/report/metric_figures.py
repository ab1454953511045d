"""Figures of metrics: paired differences in one unit, and how they scatter."""

from collections.abc import Sequence
from itertools import combinations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.inference.concept_sets import Floats
from analysis.metrics.paired import Measured, MetricResult
from analysis.report.figure_spec import FigureContent, report_figure
from analysis.report.figure_style import BLUE, GREY, SETTINGS, WIDTH, canvas, lines
from analysis.report.metric_tables import heading
from analysis.report.vote_figures import bar

# More points add no information and make a large file.
MOST_POINTS = 200


def clear_contrasts(metrics: Sequence[MetricResult]) -> list[tuple[MetricResult, Contrast]]:
    """Return the paired contrasts that have a unit (d_z) and a preferred direction."""
    return [
        (metric, contrast)
        for metric in metrics
        if metric.direction != "none"
        for contrast in metric.contrasts
        if contrast.effect_size is not None and contrast.estimate and contrast.interval is not None
    ]


def metric_forest(metrics: Sequence[MetricResult]) -> Figure:
    """Return every metric's paired differences in units of their standard deviation, good to the right."""
    shown = clear_contrasts(metrics)
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(0.24 * len(shown), len(shown), "paired difference in its standard deviations (d_z)")
        axes.axvline(0, color="black", lw=0.8)
        for row, (metric, contrast) in enumerate(shown):
            factor = (contrast.effect_size or 0.0) / (contrast.estimate or 1.0) * (-1.0 if metric.direction == "lower" else 1.0)
            clear = contrast.verdict.startswith("different")
            bar(axes, row, contrast, factor, BLUE if clear else GREY, "o" if clear else "D", 2.2 if clear else 1.4, None)
        names = [f"{heading(metric)}: {contrast.first} vs {contrast.second}" for metric, contrast in shown]
        axes.set_yticks(range(len(shown)), names)
        return figure


def raincloud(measured: Sequence[Measured]) -> Figure:
    """Return the paired differences of every metric and pair of arms: density above, box and points below.

    One panel per metric, in its own unit. Of more than 200 points every n-th by rank is drawn; density and box use all.
    """
    columns = 1 if len(measured) == 1 else 2
    pairs = max(len(list(combinations(metric.arms, 2))) for metric in measured)
    rows = -(-len(measured) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, rows * (0.75 + 0.55 * pairs)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(measured) :]:
            axes.set_visible(False)
        for axes, metric in zip(panels.flat, measured, strict=False):
            _panel(axes, metric)
        for axes in panels[:, 1:].flat:
            axes.set_yticklabels([])
        return figure


def _panel(axes: Axes, measured: Measured) -> None:
    pairs = list(combinations(measured.arms, 2))
    lines(axes, len(pairs))
    axes.axvline(0, color="black", lw=0.8)
    for row, (first, second) in enumerate(pairs):
        column_of = measured.arms.index
        _cloud(axes, row, measured.values[:, column_of(first)] - measured.values[:, column_of(second)])
    axes.set_yticks(range(len(pairs)), [f"{first}\n− {second}" for first, second in pairs])
    axes.set_title(measured.metric, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _cloud(axes: Axes, row: int, differences: Floats) -> None:
    if np.ptp(differences) > 0:
        grid = np.linspace(differences.min(), differences.max(), 120)
        density = stats.gaussian_kde(differences)(grid)
        axes.fill_between(grid, row - 0.06, row - 0.06 - 0.36 * density / density.max(), color=BLUE, alpha=0.55, lw=0)
    low, middle, high = np.quantile(differences, [0.25, 0.5, 0.75])
    axes.plot([low, high], [row + 0.04, row + 0.04], color="black", lw=2.0, solid_capstyle="butt")
    axes.plot([middle], [row + 0.04], marker="o", ms=4, mfc="white", mec="black", ls="none")
    ordered = np.sort(differences)
    step = max(1, -(-len(ordered) // MOST_POINTS))
    points = ordered[step // 2 :: step]
    # a low-discrepancy sequence keeps neighbours apart, the same on every run
    jitter = (np.arange(len(points)) * 0.618034) % 1.0
    axes.plot(points, row + 0.16 + 0.2 * jitter, marker="o", ms=1.6, color=BLUE, alpha=0.45, ls="none", mew=0)


@report_figure("metrics")
def metrics_figure(findings: Findings) -> FigureContent | None:
    """Return the forest plot of the metrics, if any has a paired difference in its own unit."""
    if not clear_contrasts(findings.metrics):
        return None
    caption = (
        "Right of 0: the first arm is better. Blue circles: separated after Holm; grey diamonds: not. "
        "Intervals at 95 %, allowing for shared concepts."
    )
    return FigureContent(caption, metric_forest(findings.metrics))


@report_figure("differences")
def differences_figure(findings: Findings) -> FigureContent | None:
    """Return how paired differences scatter, if any metric was measured on two arms."""
    paired = paired_metrics(findings)
    if not paired:
        return None
    caption = (
        "Paired differences by case and seed, in each metric's unit: density, quartiles with median, and points "
        f"(every n-th by rank beyond {MOST_POINTS}). The scatter of single images, not the error of the mean."
    )
    return FigureContent(caption, raincloud(paired))


def paired_metrics(findings: Findings) -> list[Measured]:
    """Return the metrics that were measured on two arms or more."""
    return [metric for metric in findings.measured if len(metric.arms) > 1 and len(metric.values)]
