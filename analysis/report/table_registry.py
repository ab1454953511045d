"""Registry of the report's tables, in the order of the page within each section."""

from collections.abc import Iterable

from analysis.findings import Findings
from analysis.report.analysis_ladder_tables import ladder_table, verdict_table
from analysis.report.effect_tables import effects_table
from analysis.report.judge_tables import judge_shares_table, judges_table
from analysis.report.metric_tables import metric_contrasts, signatures_table, table_2, table_2_uncertainty
from analysis.report.metric_vote_tables import foresight_slopes_table, foresight_table
from analysis.report.model_tables import strength_contrasts, strengths_table, vote_model_table
from analysis.report.nway_tables import share_differences_table, shares_table, worths_table
from analysis.report.plan_table import planned_table
from analysis.report.question_tables import question_levels_table, questions_table
from analysis.report.robustness_tables import biases_table, middle_means_table, screening_table, ties_table
from analysis.report.study_tables import agreement_table, preference_table, similarity_table, table_1
from analysis.report.table import ReportTable
from analysis.report.table_spec import TableSpec

TABLES: tuple[TableSpec, ...] = (
    planned_table, table_1, preference_table, shares_table, questions_table, question_levels_table, table_2,
    table_2_uncertainty, verdict_table, ladder_table, strengths_table, strength_contrasts, share_differences_table,
    worths_table, agreement_table, vote_model_table, metric_contrasts, effects_table, foresight_table,
    foresight_slopes_table,
    judges_table, judge_shares_table, similarity_table, biases_table, ties_table, screening_table, middle_means_table,
    signatures_table,
)  # fmt: skip


def tables_of(findings: Findings, specs: Iterable[TableSpec] | None = None) -> tuple[ReportTable, ...]:
    """Return every table that the findings have rows for, by default all of the registry."""
    made = (spec(findings) for spec in (TABLES if specs is None else specs))
    return tuple(table for table in made if table is not None)
