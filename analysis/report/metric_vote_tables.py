"""The tables of metrics against votes: accuracy of each metric, between the baseline and the noise ceiling."""

from collections.abc import Iterable, Sequence

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.metrics.human_agreement import Foresight
from analysis.number_format import ABSENT, count, p_value, percent
from analysis.report.metric_tables import signatures
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import error_words, mean_cell, metric_cell, plain_cell, share_cell, word_cell
from analysis.report.table_spec import Section, TableContent, report_table
from evalkit.plural import plural

TOGETHER = (
    "All arms together also hold which arm is better; the pairs hold what a metric predicts of two given arms. Metrics are not "
    "correlated with people arm by arm: fewer than five arms are too few points."
)


@report_table("foresight", Section.PEOPLE_AND_METRICS, "How many votes metrics predict")
def foresight_table(findings: Findings) -> TableContent | None:
    """Return how many votes every metric with a direction predicts; None without votes on images that were scored."""
    foreseen = findings.foreseen
    if not foreseen:
        return None
    columns = (
        Column("metric", "words"), Column("comparison", "words"), Column("votes"), Column("accuracy [95 % CI]"),
        Column("baseline"), Column("beyond baseline [95 % CI]"), Column("p (Holm)"), Column("noise ceiling"),
    )  # fmt: skip
    notes = (
        "Accuracy: share of votes that the metric's better image predicts; leads below a width learnt from cases that share no "
        "concept count as cannot tell. Baseline: the share that always naming the most frequent answer predicts.",
        "Noise ceiling: the share that the other votes on a comparison predict. No metric can be asked for more, except by "
        "knowing which arm is better: if the ceiling is not above the baseline, people agree on nothing else.",
        TOGETHER,
        *_shared_notes(foreseen, [(result.accuracy, result.above_baseline) for result in foreseen]),
    )
    rows = tuple(
        (
            *_names(result),
            plain_cell(result.votes, count(result.votes)),
            share_cell(result.accuracy),
            plain_cell(result.baseline, percent(result.baseline)),
            share_cell(result.above_baseline),
            plain_cell(result.above_baseline.p_adjusted, p_value(result.above_baseline.p_adjusted)),
            plain_cell(
                result.ceiling.estimate, ABSENT if result.ceiling.estimate is None else percent(result.ceiling.estimate)
            ),
        )
        for result in foreseen
    )
    return TableContent(columns, rows, notes, findings.simulated, recipes=signatures(foreseen))


@report_table("foresight_slopes", Section.PEOPLE_AND_METRICS, "How votes follow metrics' leads")
def foresight_slopes_table(findings: Findings) -> TableContent | None:
    """Return how votes follow the lead of every metric: AUC, rank correlation, logistic slope."""
    foreseen = findings.foreseen
    if not foreseen:
        return None
    columns = (
        Column("metric", "words"), Column("comparison", "words"), Column("AUC [95 % CI]"), Column("τ_b [95 % CI]"),
        Column("slope [95 % CI]"), Column("p (slope)"), Column("p (slope, Holm)"),
    )  # fmt: skip
    notes = (
        "AUC: how often a vote for the first arm has the larger lead, 0.5 by chance. τ_b: Kendall's, of lead and share of "
        "votes by comparison. Slope: logits per standard deviation of the lead, an intercept per comparison of arms.",
        TOGETHER,
        *_shared_notes(foreseen, [(result.auc, result.correlation, result.slope) for result in foreseen]),
    )
    rows = tuple(
        (
            *_names(result),
            mean_cell(result.auc, 3),
            mean_cell(result.correlation, 3),
            mean_cell(result.slope, 2),
            plain_cell(result.slope.p, p_value(result.slope.p)),
            plain_cell(result.slope.p_adjusted, p_value(result.slope.p_adjusted)),
        )
        for result in foreseen
    )
    return TableContent(columns, rows, notes, findings.simulated, recipes=signatures(foreseen))


def _names(result: Foresight) -> tuple[TableCell, TableCell]:
    return metric_cell(result.metric), word_cell(_arms(result))


def _arms(result: Foresight) -> str:
    return f"{result.first} vs {result.second}" if result.second else result.first


def _shared_notes(foreseen: Sequence[Foresight], parts: Sequence[tuple[Contrast, ...]]) -> list[str]:
    """Return what the errors allow for, what is absent and why, what was left out, and the metrics' recipes."""
    words = error_words(part for held in parts for part in held)
    remarks = [
        (part.notes[-1], result)
        for result, held in zip(foreseen, parts, strict=True)
        for part in held
        if part.interval is None and part.notes
    ]
    left_out = [
        (f"{plural(result.left_out, 'vote is', 'votes are')} left out, because an image lacks its score.", result)
        for result in foreseen
        if result.left_out
    ]
    correction = "Correction: Holm over the metrics, within a comparison of arms."
    return [f"{words} {correction}".strip(), *_grouped([*remarks, *left_out])]


def _grouped(remarks: Iterable[tuple[str, Foresight]]) -> list[str]:
    """Return every note once, with all it refers to."""
    of_note: dict[str, list[str]] = {}
    for note, result in remarks:
        of_note.setdefault(note, []).append(f"{result.metric}, {_arms(result)}")
    return [f"{'; '.join(dict.fromkeys(names))}: {note}" for note, names in of_note.items()]
