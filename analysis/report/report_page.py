"""The report: one file that opens offline and is read in a minute, verdicts first."""

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from threadpoolctl import threadpool_limits

from analysis.findings import Findings
from analysis.number_format import count, counted
from analysis.planning.preregistration import VOTES, FrozenPlan, PlannedResult, planned_results
from analysis.report.analysis_ladder_tables import ladder_table, verdict_table
from analysis.report.checklist import checklist, exclusions
from analysis.report.effect_tables import effects_table
from analysis.report.figure_style import ReportFigure
from analysis.report.figures import FIGURE_NAMES, drawings, gallery_drawing
from analysis.report.gallery import RULE, gallery
from analysis.report.metric_tables import metric_contrasts, table_2, table_2_uncertainty
from analysis.report.metric_vote_tables import foresight_tables
from analysis.report.model_tables import strength_contrasts, strengths_table, vote_model_table
from analysis.report.nway_tables import several_sentence, share_differences_table, shares_table, worths_table
from analysis.report.plan_table import planned_table
from analysis.report.robustness_tables import robustness_tables
from analysis.report.sentences import cautions, metric_sentence, preference_sentence
from analysis.report.study_tables import agreement_table, preference_table, similarity_table, table_1
from analysis.report.table import ReportTable
from evalkit import __version__
from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic

FILE_NAME = "report.html"
LIBRARIES = ("numpy", "scipy", "statsmodels", "pandas", "matplotlib", "sqlalchemy")
# every name this module may have written; those no longer made are removed, other files are left alone
TABLE_NAMES = (
    "table1", "table1_uncertainty", "table1_similarity", "verdicts", "ladder", "agreement", "variance", "strengths",
    "strengths_contrasts", "shares", "shares_contrasts", "worths", "table2", "table2_uncertainty", "table2_contrasts",
    "effects", "foresight", "foresight_slopes", "planned", "biases", "ties", "screening", "middle_means",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and what it says."""

    report: Path
    tables: int
    figures: int
    headlines: tuple[str, ...]
    planned: tuple[PlannedResult, ...] = ()
    """Every tested difference, planned ones first; empty without a plan."""


def tables_of(found: Findings) -> tuple[ReportTable, ...]:
    """Return every table the findings allow."""
    made = (
        table_1(found), preference_table(found), similarity_table(found), verdict_table(found), ladder_table(found),
        agreement_table(found), vote_model_table(found), strengths_table(found), strength_contrasts(found),
        shares_table(found), share_differences_table(found), worths_table(found),
        table_2(found), table_2_uncertainty(found), metric_contrasts(found), effects_table(found), *foresight_tables(found),
        *robustness_tables(found),
    )  # fmt: skip
    return tuple(table for table in made if table is not None)


def render(
    found: Findings,
    run: Path,
    made: Sequence[ReportFigure] | None = None,
    listed: Sequence[ReportTable] | None = None,
    planned: Sequence[PlannedResult] = (),
) -> str:
    """Return the report as one HTML page: images, figures and style inlined, nothing fetched from anywhere.

    `made` and `listed` are the figures and tables where they were made already, `planned` every result where there is a plan.
    """
    made = drawings(found) if made is None else made
    listed = tables_of(found) if listed is None else listed
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "counted": counted}
    tables = {table.name: Markup(table.to_html()) for table in listed}
    figures = {drawing.name: (drawing.caption, _data_uri(drawing)) for drawing in made}
    return environment.get_template("report.html.j2").render(
        data=found.data,
        simulated=found.simulated,
        planned=planned,
        kinds={
            (each.first, each.second): "planned" if each.planned else "exploratory" for each in planned if each.measure == VOTES
        },
        votes=len(found.data.judgments) + len(found.data.several),
        people=len({*found.data.judgments["participant"], *found.data.several["participant"]}),
        several=several_sentence(found),
        preferences=[(preference_sentence(each, found), (each.first, each.second)) for each in found.preferences],
        cautions=cautions(found),
        metrics=[(metric_sentence(each), None) for each in found.metrics],
        tables=tables,
        figures=figures,
        exhibits=gallery(found, run),
        rule=RULE,
        margin=found.margin,
        margin_scale=found.margin_scale,
        signatures=_signatures(found),
        exclusions=exclusions(found),
        checklist=checklist(found),
        versions=[("evalkit", __version__), ("python", python_version()), *((name, version(name)) for name in LIBRARIES)],
    )


def write_report(found: Findings, run: Path, out: Path, plan: FrozenPlan | None = None) -> Written:
    """Write report, tables and figures into `out`, each file whole or not at all, the report last.

    With a frozen `plan` the report says which results were planned.

    Raises:
        UserError: there is neither a score nor a judgment, the plan doesn't fit them, or the folder can't be written.
    """
    if not found.metrics and not found.preferences and not found.similarities and found.several is None:
        raise UserError(
            f"{run}: nothing to analyze, there are neither scores nor judgments; "
            f"begin with `evalkit score {run}` or `evalkit study serve {run}`"
        )
    planned = () if plan is None else planned_results(found, plan)
    with threadpool_limits(limits=1):
        made, listed = drawings(found), tables_of(found)
    if plan is not None:
        listed += (planned_table(found, plan, planned),)
    page = render(found, run, made, listed, planned)
    tables = {name: text for table in listed for name, text in table.files().items()}
    # the page has a gallery of its own
    shown = gallery_drawing(found, run)
    made = (*made, shown) if shown is not None else made
    figures = {name: content for drawing in made for name, content in drawing.files().items()}
    _forget(out / "tables", [f"{name}.{kind}" for name in TABLE_NAMES for kind in ("md", "tex", "html", "csv")], tables)
    _forget(out / "figures", [f"{name}.{kind}" for name in FIGURE_NAMES for kind in ("svg", "pdf", "png")], figures)
    for name, text in tables.items():
        write_atomic(out / "tables" / name, text)
    for name, content in figures.items():
        write_atomic(out / "figures" / name, content)
    write_atomic(out / FILE_NAME, page)
    headlines = [preference_sentence(each, found).headline for each in found.preferences]
    headlines += [several_sentence(found)] if found.several is not None else []
    headlines += [metric_sentence(each).headline for each in found.metrics]
    return Written(out / FILE_NAME, len(listed), len(made), tuple(headlines), planned)


def _forget(folder: Path, ours: list[str], kept: Collection[str]) -> None:
    for name in ours:
        if name not in kept:
            (folder / name).unlink(missing_ok=True)


def _data_uri(drawing: ReportFigure) -> str:
    encoded = base64.b64encode(drawing.svg).decode()
    return f"data:image/svg+xml;base64,{encoded}"


def _signatures(found: Findings) -> list[tuple[str, str]]:
    return [(metric.metric, metric.signature) for metric in found.metrics] + [
        (similarity.metric, similarity.signature) for similarity in found.similarities
    ]
