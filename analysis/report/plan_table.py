"""The table of what was planned: every tested difference, those of the frozen plan first."""

from analysis.findings import Findings
from analysis.planning.preregistration import IN_DESIGN, VOTES, planned_results
from analysis.report.table import Column
from analysis.report.table_cells import pair_cell, word_cell
from analysis.report.table_spec import Section, TableContent, report_table


@report_table("planned", Section.RESULTS, "Planned and exploratory results")
def planned_table(findings: Findings) -> TableContent | None:
    """Return which results were planned and which are exploratory; None without a frozen plan."""
    plan = findings.plan
    if plan is None:
        return None
    results = planned_results(findings, plan)
    columns = (
        Column("measure", "words"), Column("comparison", "words"), Column("planned", "words"), Column("verdict", "words"),
    )  # fmt: skip
    rows = tuple(
        (
            word_cell(result.measure),
            pair_cell(result.first, result.second),
            word_cell("planned" if result.planned else "exploratory"),
            word_cell(result.verdict),
        )
        for result in results
    )
    notes = (
        f"Plan with sha256 {plan.sha256()}: {', '.join(plan.measures)} between {', '.join(plan.arms)}, to hold for other "
        f"{', '.join(plan.scope)}; {plan.test}; {plan.correction}.",
        "The study was begun with this plan: it was frozen before the first judgment."
        if findings.data.design.get(IN_DESIGN) == plan.sha256()
        else "Nothing here shows when it was frozen; a study whose study.toml names its plan_sha256 does.",
        "Exploratory: found after a look at the data, so a reason for the next study and no test.",
    )
    of_votes = findings.simulated and any(result.measure == VOTES for result in results)
    return TableContent(columns, rows, notes, of_votes)
