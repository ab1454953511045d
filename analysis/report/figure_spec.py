"""Specification of a report figure: its name and the function that makes it."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis.findings import Findings
from analysis.report.figure_style import ReportFigure


@dataclass(frozen=True, slots=True)
class FigureContent:
    """A figure with its caption; `simulated` marks judgments of simulated participants."""

    caption: str
    figure: Figure
    simulated: bool = False


Make = Callable[[Findings], FigureContent | None]


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """One figure of the report. Calling it with findings returns the figure, or None if the findings have no data for it."""

    name: str
    """Name of the figure's files."""
    make: Make
    on_page: bool = True
    """Whether the page shows the figure; if not, it is a file next to the page."""

    def __call__(self, findings: Findings) -> ReportFigure | None:
        """Return the figure of a run's findings."""
        content = self.make(findings)
        if content is None:
            return None
        caption = f"[simulated judgments] {content.caption}" if content.simulated else content.caption
        return ReportFigure(self.name, caption, content.figure)


def report_figure(name: str, on_page: bool = True) -> Callable[[Make], FigureSpec]:
    """Return a decorator that turns a function from findings to content into a figure's specification."""
    return lambda make: FigureSpec(name, make, on_page)
