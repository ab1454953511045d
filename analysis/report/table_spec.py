"""Specification of a report table: its name, its section on the page, its title, and the function that makes it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from analysis.findings import Findings
from analysis.report.table import Column, ReportTable, TableCell


class Section(Enum):
    """A group of tables on the report's page, in the order of the page. All but the first are folded."""

    RESULTS = "Results"
    VERDICTS = "How the verdicts come about: difference and equivalence"
    ANALYSES = "The same votes under every analysis, from the papers' test to models"
    STRENGTHS = "Strength of every arm"
    SEVERAL = "Several arms at once: differences of shares, and strengths"
    AGREEMENT = "Agreement of participants"
    VARIANCE = "What makes votes differ: mixed model"
    METRICS = "Metrics: paired differences and effect sizes"
    PEOPLE_AND_METRICS = "Metrics against people"
    JUDGES = "Machine judges, apart from people"
    SIMILARITY = "Similarity of the arms' images"
    ROBUSTNESS = "Robustness: side, order and time, ties, participants, extreme scores"
    SIGNATURES = "Signatures: the recipe of every metric"

    @property
    def folded(self) -> bool:
        """Return whether the page shows the section's title alone until a reader opens it."""
        return self is not Section.RESULTS


@dataclass(frozen=True, slots=True)
class TableContent:
    """Columns, rows and footnotes of a table; `simulated` marks judgments of simulated participants."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    notes: tuple[str, ...] = ()
    simulated: bool = False
    recipes: tuple[tuple[str, str], ...] = ()
    """Name and signature of every metric in the table."""


Make = Callable[[Findings], TableContent | None]


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table of the report. Calling it with findings returns the table, or None if the findings have no rows for it."""

    name: str
    """Name of the table's files, and its anchor on the page."""
    section: Section
    title: str
    make: Make

    def __call__(self, findings: Findings) -> ReportTable | None:
        """Return the table of a run's findings."""
        content = self.make(findings)
        if content is None:
            return None
        return ReportTable(
            self.name, self.title, content.columns, content.rows, content.notes, content.simulated, content.recipes,
            findings.titles,
        )  # fmt: skip


def report_table(name: str, section: Section, title: str) -> Callable[[Make], TableSpec]:
    """Return a decorator that turns a function from findings to content into a table's specification."""
    return lambda make: TableSpec(name, section, title, make)
