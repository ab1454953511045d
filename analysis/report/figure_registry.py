"""Registry of the report's figures, in the order of the page."""

from collections.abc import Iterable

from analysis.findings import Findings
from analysis.report.calibration_figure import calibration_figure
from analysis.report.figure_spec import FigureSpec
from analysis.report.figure_style import ReportFigure
from analysis.report.gallery_figure import gallery_figure
from analysis.report.metric_figures import differences_figure, metrics_figure
from analysis.report.precision_figure import precision_figure
from analysis.report.rank_figures import profiles_figure, ranks_figure
from analysis.report.vote_figures import outcomes_figure, preference_figure, strengths_figure

FIGURES: tuple[FigureSpec, ...] = (
    preference_figure, outcomes_figure, strengths_figure, metrics_figure, differences_figure, ranks_figure, profiles_figure,
    calibration_figure, precision_figure, gallery_figure,
)  # fmt: skip


def figures_of(findings: Findings, specs: Iterable[FigureSpec] | None = None) -> tuple[ReportFigure, ...]:
    """Return every figure that the findings have data for, by default all of the registry."""
    made = (spec(findings) for spec in (FIGURES if specs is None else specs))
    return tuple(figure for figure in made if figure is not None)
