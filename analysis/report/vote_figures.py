"""Figures of votes: preference with its margin, outcomes with ties, strength of every arm."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.number_format import count
from analysis.report.figure_spec import FigureContent, report_figure
from analysis.report.figure_style import BAND, BLUE, GREY, ORANGE, SETTINGS, canvas, legend_below, mark
from analysis.votes.arm_strengths import ArmStrengths
from analysis.votes.preference import Preference

# of the normal distribution, for an interval of 95 %
QUANTILE = 1.96
TIE = "#c9ccd1"


def preference_forest(
    preferences: Sequence[Preference], margin: float | None = None, margin_scale: str = "votes", simulated: bool = False
) -> Figure:
    """Return a figure of the share of every pair of arms with its clustered and its naive interval; a band is the margin.

    Parameters
    ----------
    preferences
        One per pair of arms, in the order of the rows.
    margin
        Equivalence margin as a share, drawn as a band; None for no band.
    margin_scale
        What the margin is a share of: `votes` or `outcomes`.
    simulated
        Mark the figure as made from simulated judgments.
    """
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(0.42 * len(preferences), len(preferences), "share for the first arm, %")
        if margin is not None:
            ends = 50 - 100 * margin, 50 + 100 * margin
            axes.axvspan(*ends, color=BAND, alpha=0.25, lw=0, label=f"margin (share of {margin_scale})")
        axes.axvline(50, color="black", lw=0.8)
        for row, preference in enumerate(preferences):
            bar(axes, row - 0.13, preference.clustered, 100.0, BLUE, "o", 2.4, "votes, clustered 95 % CI" if not row else None)
            if preference.naive.estimate is not None:
                bar(axes, row + 0.17, preference.naive, 100.0, GREY, "s", 1.0, "majority, naive 95 % CI" if not row else None)
        axes.set_yticks(range(len(preferences)), [f"{preference.first}\nvs {preference.second}" for preference in preferences])
        axes.set_xlim(0, 100)
        legend_below(figure)
        mark(figure, simulated)
        return figure


def outcome_bars(preferences: Sequence[Preference], simulated: bool = False) -> Figure:
    """Return how many comparisons the first arm won, neither won, and the second arm won, as one bar per pair of arms."""
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(0.5 * len(preferences), len(preferences), "comparisons by majority of their votes, %")
        for row, preference in enumerate(preferences):
            start = 0.0
            parts = (
                (preference.first_wins, BLUE, "white"),
                (preference.ties, TIE, "black"),
                (preference.second_wins, ORANGE, "white"),
            )
            for wins, color, ink in parts:
                width = 100 * wins / preference.comparisons
                axes.barh(row, width, 0.5, left=start, color=color)
                if width >= 4:
                    axes.text(start + width / 2, row, count(wins), ha="center", va="center", color=ink, fontsize=8)
                start += width
            axes.text(0, row - 0.3, preference.first, color=BLUE, fontsize=8, va="bottom")
            axes.text(100, row - 0.3, preference.second, color=ORANGE, fontsize=8, va="bottom", ha="right")
            if preference.ties:
                middle = 100 * (preference.first_wins + preference.ties / 2) / preference.comparisons
                axes.text(middle, row + 0.28, "tied", color=GREY, fontsize=7, ha="center", va="top")
        axes.axvline(50, color="black", lw=0.8, ls=":")
        axes.set_yticks([])
        axes.set_xlim(0, 100)
        mark(figure, simulated)
        return figure


def strength_plot(strengths: ArmStrengths, simulated: bool = False) -> Figure:
    """Return the log strength of every arm, strongest on top, with the 95 % interval of its quasi standard error.

    Raises ValueError without a fit.
    """
    fit = strengths.fit
    if fit is None:
        raise ValueError(f"strengths: there is no fit to plot; {strengths.note}")
    arms = len(fit.arms)
    errors = [0.0] * arms if strengths.quasi is None else strengths.quasi.errors.tolist()
    ranked = sorted(zip(fit.estimates.tolist()[:arms], fit.arms, errors, strict=True), reverse=True)
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(0.3 * arms, arms, "log strength (logits; mean zero)")
        axes.axvline(0, color="black", lw=0.8)
        for row, (value, _, error) in enumerate(ranked):
            reach = QUANTILE * error
            axes.plot([value - reach, value + reach], [row, row], color=BLUE, lw=2.2, solid_capstyle="round")
            axes.plot([value], [row], marker="o", color=BLUE, ms=6, ls="none")
        axes.set_yticks(range(arms), [arm for _, arm, _ in ranked])
        mark(figure, simulated)
        return figure


def bar(
    axes: Axes, y: float, contrast: Contrast, factor: float, color: str, marker: str, width: float, label: str | None
) -> None:
    """Draw a contrast as a point on its interval."""
    x = factor * (contrast.estimate or 0.0)
    if contrast.interval is not None:
        axes.plot([factor * end for end in contrast.interval], [y, y], color=color, lw=width, solid_capstyle="round")
    axes.plot([x], [y], marker=marker, color=color, ms=3.5 + width, ls="none", label=label)


@report_figure("preference")
def preference_figure(findings: Findings) -> FigureContent | None:
    """Return the forest plot of the votes, if any pair of arms was judged."""
    judged = _judged(findings)
    if not judged:
        return None
    caption = "Right of 50 %: the first arm is preferred. "
    if findings.margin is not None:
        caption += f"Band: the margin on the share of {findings.margin_scale}. "
    caption += "Thick: votes, allowing for shared concepts and participants. Thin: majority outcomes taken as independent."
    figure = preference_forest(judged, findings.margin, findings.margin_scale, findings.simulated)
    return FigureContent(caption, figure, findings.simulated)


@report_figure("outcomes")
def outcomes_figure(findings: Findings) -> FigureContent | None:
    """Return the comparisons won, tied and lost, if any pair of arms was judged."""
    judged = _judged(findings)
    if not judged:
        return None
    caption = "How many comparisons each arm won by the majority of their votes; an even split is a tie."
    return FigureContent(caption, outcome_bars(judged, findings.simulated), findings.simulated)


@report_figure("strengths")
def strengths_figure(findings: Findings) -> FigureContent | None:
    """Return the strength of every arm, if all arms were compared with each other."""
    strengths = findings.strengths
    if strengths is None or strengths.fit is None:
        return None
    caption = "Strength of every arm from all votes together. Bars: 95 % by quasi standard errors, made to be compared."
    if strengths.quasi is None:
        caption = f"Strength of every arm from all votes together. {strengths.note}"
    return FigureContent(caption, strength_plot(strengths, findings.simulated), findings.simulated)


def _judged(findings: Findings) -> list[Preference]:
    return [preference for preference in findings.preferences if preference.clustered.estimate is not None]
