"""The tables behind a verdict: both tests it rests on, and what every other analysis of the same votes would say."""

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.grouping import votes_of
from analysis.number_format import ABSENT, p_value, percent
from analysis.report.study_tables import arm_pair
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import mean_cell, pair_cell, plain_cell, share_cell, word_cell
from analysis.report.table_spec import Section, TableContent, report_table
from analysis.votes.analysis_ladder import LOGIT, Rung, ladder


@report_table("verdicts", Section.VERDICTS, "How the verdicts come about")
def verdict_table(findings: Findings) -> TableContent | None:
    """Return how each verdict comes about: the test of a difference, the test of equivalence, and what they hold for."""
    if not findings.preferences:
        return None
    rows = tuple(
        (pair_cell(preference.first, preference.second), *_verdict_row(contrast, label))
        for preference in findings.preferences
        for contrast, label in ((preference.clustered, "votes, default"), (preference.naive, "majority outcomes, naive"))
    )
    columns = (
        Column("comparison", "words"), Column("test", "words"), Column("share for first [95 % CI]"),
        Column("p (difference, Holm)"), Column("90 % CI"), Column("margin"), Column("p (equivalence, Holm)"),
        Column("verdict", "words"), Column("holds for other", "words"),
    )  # fmt: skip
    notes = (
        "Different: p (difference) < .05. Equivalent: two one-sided tests put the difference within the margin, p "
        "(equivalence) < .05, which is when the uncorrected 90 % CI is within it. Both: different, but within the margin. "
        "Neither: inconclusive; that nothing was found does not mean that nothing is there.",
        "The report's verdicts are those of the default test. A margin holds on the scale it was set on alone.",
        "Naive: exact binomial, 95 % CI by Wilson, 90 % CI by Clopper and Pearson; it takes comparisons for independent.",
    )
    return TableContent(columns, rows, notes, findings.simulated)


def _verdict_row(contrast: Contrast, label: str) -> tuple[TableCell, ...]:
    narrow = contrast.narrow_interval
    return (
        word_cell(label),
        share_cell(contrast),
        plain_cell(contrast.p_adjusted, p_value(contrast.p_adjusted)),
        TableCell(ABSENT, (("low", None), ("high", None)))
        if narrow is None
        else TableCell(f"{percent(narrow[0])} to {percent(narrow[1])}", (("low", narrow[0]), ("high", narrow[1]))),
        plain_cell(contrast.margin, ABSENT if contrast.margin is None else f"± {percent(contrast.margin)}"),
        plain_cell(contrast.p_equivalence_adjusted, p_value(contrast.p_equivalence_adjusted)),
        word_cell(ABSENT if contrast.p is None else str(contrast.verdict)),
        word_cell(", ".join(contrast.scope) or ABSENT),
    )


@report_table("ladder", Section.ANALYSES, "The same votes under every analysis")
def ladder_table(findings: Findings) -> TableContent | None:
    """Return every analysis of every pair of arms, A to G, each with what it treats as a random sample."""
    if not findings.preferences:
        return None
    rows: list[tuple[TableCell, ...]] = []
    reasons: dict[str, None] = {}
    for votes, model in zip(votes_of(findings.data), findings.models, strict=True):
        for rung in ladder(votes, model=model):
            rows.append(_rung_row(rung))
            if rung.contrast.p is None and rung.contrast.notes:
                reasons[f"{rung.rung}, {arm_pair(rung.contrast)}: {' '.join(rung.contrast.notes)}"] = None
    columns = (
        Column("comparison", "words"), Column("", "words"), Column("analysis", "words"), Column("scale", "words"),
        Column("estimate [95 % CI]"), Column("p"), Column("holds for other", "words"), Column("right when", "words"),
    )  # fmt: skip
    notes = (
        "D is the default and alone decides the verdicts. A is the test that papers print. If A is much surer than D, what "
        "looks like a result may be these concepts' or these people's. p: not corrected over the comparisons of arms.",
        "No difference: 50 % of votes or outcomes, log odds of 0. E's log odds are a typical person's, F's the population's.",
        *reasons,
    )
    return TableContent(columns, tuple(rows), notes, findings.simulated)


def _rung_row(rung: Rung) -> tuple[TableCell, ...]:
    contrast = rung.contrast
    logit = contrast.scale == LOGIT
    estimate = mean_cell(contrast, 2) if logit else share_cell(contrast)
    return (
        pair_cell(contrast.first, contrast.second),
        word_cell(rung.rung),
        word_cell(rung.analysis),
        word_cell("log odds" if logit else f"share of {contrast.measure}"),
        estimate,
        plain_cell(contrast.p, p_value(contrast.p)),
        word_cell(", ".join(contrast.scope) or ABSENT),
        word_cell(rung.holds_when),
    )
