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
    "All arms together also hold which arm is better; the pairs hold what a metric knows of two given arms. Metrics are not "
    "correlated with people arm by arm: fewer than five arms are too few points."
)


@report_table("foresight", Section.PEOPLE_AND_METRICS, "How many votes metrics foresee")
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
        "Accuracy: share of votes that the metric's better image foresees; leads below a width learnt from cases that share no "
        "concept count as cannot tell. Baseline: the share that always naming the most frequent answer foresees.",
        "Noise ceiling: the share that the other votes on a comparison foresee. No metric can be asked for more, except by "
        "knowing which arm is better: where the ceiling is not above the baseline, people agree on nothing else.",
        TOGETHER,
        *_shared_notes(foreseen, [(each.accuracy, each.above_baseline) for each in foreseen]),
    )
    rows = tuple(
        (
            *_names(each),
            plain_cell(each.votes, count(each.votes)),
            share_cell(each.accuracy),
            plain_cell(each.baseline, percent(each.baseline)),
            share_cell(each.above_baseline),
            plain_cell(each.above_baseline.p_adjusted, p_value(each.above_baseline.p_adjusted)),
            plain_cell(each.ceiling.estimate, ABSENT if each.ceiling.estimate is None else percent(each.ceiling.estimate)),
        )
        for each in foreseen
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
        *_shared_notes(foreseen, [(each.auc, each.correlation, each.slope) for each in foreseen]),
    )
    rows = tuple(
        (
            *_names(each),
            mean_cell(each.auc, 3),
            mean_cell(each.correlation, 3),
            mean_cell(each.slope, 2),
            plain_cell(each.slope.p, p_value(each.slope.p)),
            plain_cell(each.slope.p_adjusted, p_value(each.slope.p_adjusted)),
        )
        for each in foreseen
    )
    return TableContent(columns, rows, notes, findings.simulated, recipes=signatures(foreseen))


def _names(each: Foresight) -> tuple[TableCell, TableCell]:
    return metric_cell(each.metric), word_cell(_arms(each))


def _arms(each: Foresight) -> str:
    return f"{each.first} vs {each.second}" if each.second else each.first


def _shared_notes(foreseen: Sequence[Foresight], parts: Sequence[tuple[Contrast, ...]]) -> list[str]:
    """Return what the errors allow for, what is absent and why, what was left out, and the metrics' recipes."""
    words = error_words(part for held in parts for part in held)
    said = [
        (part.notes[-1], each)
        for each, held in zip(foreseen, parts, strict=True)
        for part in held
        if part.interval is None and part.notes
    ]
    left_out = [
        (f"{plural(each.left_out, 'vote is', 'votes are')} left out, because an image lacks its score.", each)
        for each in foreseen
        if each.left_out
    ]
    correction = "Correction: Holm over the metrics, within a comparison of arms."
    return [f"{words} {correction}".strip(), *_grouped([*said, *left_out])]


def _grouped(said: Iterable[tuple[str, Foresight]]) -> list[str]:
    """Return every note once, with all it refers to."""
    of_note: dict[str, list[str]] = {}
    for note, each in said:
        of_note.setdefault(note, []).append(f"{each.metric}, {_arms(each)}")
    return [f"{'; '.join(dict.fromkeys(names))}: {note}" for note, names in of_note.items()]
