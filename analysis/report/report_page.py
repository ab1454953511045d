"""The report's page: one HTML file with inlined images, verdicts first."""

import base64
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.findings import Findings
from analysis.number_format import count, counted
from analysis.planning.preregistration import VOTES, planned_results
from analysis.report.checklist import checklist, exclusions
from analysis.report.figure_registry import FIGURES, figures_of
from analysis.report.figure_style import ReportFigure
from analysis.report.gallery import RULE, cells_of, gallery
from analysis.report.gallery_pages import FOLDER, page_name
from analysis.report.nway_tables import several_sentence
from analysis.report.sentences import cautions, metric_sentence, preference_sentence
from analysis.report.table import ReportTable, file_links
from analysis.report.table_registry import TABLES, tables_of
from analysis.report.table_spec import Section
from evalkit import __version__

LIBRARIES = ("numpy", "scipy", "statsmodels", "pandas", "matplotlib", "sqlalchemy")


def render(
    findings: Findings,
    run: Path,
    figures: Sequence[ReportFigure] | None = None,
    tables: Sequence[ReportTable] | None = None,
) -> str:
    """Return the report as one HTML page that fetches nothing.

    `figures` and `tables` are those of the registries if they were made already; else they are made here.
    """
    shown = {spec.name for spec in FIGURES if spec.on_page}
    figures = figures_of(findings) if figures is None else figures
    planned = () if findings.plan is None else planned_results(findings, findings.plan)
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "counted": counted}
    return environment.get_template("report.html.j2").render(
        data=findings.data,
        simulated=findings.simulated,
        planned=planned,
        kinds={
            (result.first, result.second): "planned" if result.planned else "exploratory"
            for result in planned
            if result.measure == VOTES
        },
        votes=len(findings.data.judgments) + len(findings.data.several),
        people=len({*findings.data.judgments["participant"], *findings.data.several["participant"]}),
        several=several_sentence(findings),
        preferences=[
            (preference_sentence(preference, findings), (preference.first, preference.second))
            for preference in findings.preferences
        ],
        cautions=cautions(findings),
        metrics=[(metric_sentence(metric), None) for metric in findings.metrics],
        sections=_sections(tables_of(findings) if tables is None else tables),
        figures=[
            (figure.name, figure.caption, _data_uri(figure), Markup(file_links("figures", figure.name, ("svg", "pdf", "png"))))
            for figure in figures
            if figure.name in shown
        ],
        gallery_page=f"{FOLDER}/{page_name(1)}" if findings.data.images else "",
        cells=len(cells_of(findings.data)),
        question=findings.titles.questions.get("overall", ""),
        mixed_models=any(model.fit is not None for model in findings.models),
        exhibits=gallery(findings, run),
        rule=RULE,
        margin=findings.margin,
        margin_scale=findings.margin_scale,
        exclusions=exclusions(findings),
        checklist=checklist(findings),
        versions=[("evalkit", __version__), ("python", python_version()), *((name, version(name)) for name in LIBRARIES)],
    )


def _sections(tables: Sequence[ReportTable]) -> list[tuple[Section, list[Markup]]]:
    """Return the tables as HTML, numbered, grouped by section in the order of the registry; empty sections are left out."""
    named = {table.name: table for table in tables}
    grouped = [(section, [named[spec.name] for spec in TABLES if spec.section is section and spec.name in named])
               for section in Section]  # fmt: skip
    numbers = {table.name: number for number, table in enumerate((table for _, some in grouped for table in some), start=1)}
    return [(section, [Markup(table.to_html(numbers[table.name])) for table in some]) for section, some in grouped if some]


def _data_uri(figure: ReportFigure) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode()}"
