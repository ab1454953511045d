"""The precision floor: why more seeds and votes stop helping."""

from dataclasses import replace

import matplotlib as mpl
from matplotlib.figure import Figure
from scipy import stats

from analysis.contrast import ALPHA
from analysis.findings import Findings
from analysis.planning.pilot import spread_of_models
from analysis.planning.precision import Spread, StudyDesign, outlook
from analysis.report.figure_spec import FigureContent, report_figure
from analysis.report.figure_style import CYCLE, DASHES, GREY, MARKERS, SETTINGS, WIDTH, legend_below, mark
from evalkit.errors import UserError

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
        for index, people in enumerate(crowds):
            varied = [replace(design, participants=people, seeds=seeds) for seeds in SEEDS]
            widths = [100 * outlook(variant, spread, effect=0.0).half_width for variant in varied]
            dashes, marker = DASHES[index], MARKERS[index]
            counts = [variant.judgments for variant in varied]
            axes.plot(counts, widths, color=CYCLE[index], ls=dashes, marker=marker, ms=4, label=f"{people:,} participants")
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


@report_figure("floor")
def precision_figure(findings: Findings) -> FigureContent | None:
    """Return the precision floor of the study's own design, if its votes show what varies."""
    if not any(model.fit is not None for model in findings.models):
        return None
    design = design_of_study(findings)
    if design is None:
        return None
    caption = (
        "What more seeds would bring: half width of the 95 % interval of one pair of arms, by formula, from the spread this "
        "study's own votes show. Below the dashed line one gets with more concepts only."
    )
    spread = spread_of_models(findings.models).spread
    return FigureContent(caption, precision_floor(design, spread, findings.simulated), findings.simulated)


def design_of_study(findings: Findings) -> StudyDesign | None:
    """Return the design of the study as judged, for one pair of arms; None if the formulas do not cover it."""
    data, first = findings.data, findings.preferences[0]
    held = [case.concepts for case in data.cases]
    concepts, together = len({name for names in held for name in names}), max((len(names) for names in held), default=0)
    pairs = len({frozenset(names) for names in held})
    try:
        return StudyDesign(
            concepts=concepts,
            seeds=max(1, round(first.comparisons / max(1, pairs))),
            participants=first.participants,
            votes=max(1, round(first.votes / first.comparisons)),
            together=together,
            pairs=pairs,
        )
    except UserError:
        return None
