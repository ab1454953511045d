"""The table of people against metrics: how well each metric foresees votes, beside what is trivial and what is possible."""

from collections.abc import Iterable

from analysis.findings import Findings
from analysis.metrics.people_and_metrics import Foresight, people_and_metrics
from analysis.numbers import ABSENT, count, error_words, mean_cell, p_value, percent, plain_cell, share_cell, word_cell
from analysis.report.metric_tables import signatures
from analysis.tables import Cell, Column, Table


def foresight_table(found: Findings) -> Table | None:
    """Return how well every metric with a direction foresees people; None without votes on images that were scored."""
    if not found.preferences:
        return None
    foreseen = people_and_metrics(found.data)
    if not foreseen:
        return None
    columns = (
        Column("metric", "words"), Column("comparison", "words"), Column("votes"), Column("accuracy [95 % CI]"),
        Column("baseline"), Column("beyond baseline [95 % CI]"), Column("p (Holm)"), Column("noise ceiling"),
        Column("AUC [95 % CI]"), Column("τ_b [95 % CI]"), Column("slope [95 % CI]"), Column("p (slope, Holm)"),
    )  # fmt: skip
    parts = [part for each in foreseen for part in (each.above_baseline, each.auc, each.correlation, each.slope)]
    notes = (
        "Accuracy: share of votes that the metric's better image foresees; leads below a width learnt from cases that share no "
        "concept count as cannot tell. Baseline: the share that always naming the most frequent answer foresees.",
        "Noise ceiling: the share that the other votes on a comparison foresee; no metric can be asked for more. AUC: how "
        "often a vote for the first arm has the larger lead. τ_b: Kendall's, of lead and share of votes by comparison. Slope: "
        "logits per standard deviation of the lead.",
        "All arms together also hold which arm is better; the pairs hold what a metric knows of two given arms. Metrics are "
        "not correlated with people arm by arm: fewer than five arms are too few points.",
        f"{error_words(parts)} Correction: Holm over the metrics, within a comparison of arms.".strip(),
        *_grouped((note, f"{each.metric}, {_arms(each)}") for each in foreseen for note in _absences(each)),
        *signatures(foreseen),
    )
    rows = tuple(_row(each) for each in foreseen)
    return Table("foresight", "How well metrics foresee people", columns, rows, notes, found.simulated)


def _grouped(said: Iterable[tuple[str, str]]) -> list[str]:
    """Return every note once, with all it is said of."""
    of_note: dict[str, list[str]] = {}
    for note, name in said:
        of_note.setdefault(note, []).append(name)
    return [f"{'; '.join(dict.fromkeys(names))}: {note}" for note, names in of_note.items()]


def _arms(each: Foresight) -> str:
    return f"{each.first} vs {each.second}" if each.second else each.first


def _absences(each: Foresight) -> list[str]:
    said = [
        part.notes[-1]
        for part in (each.accuracy, each.auc, each.correlation, each.slope)
        if part.interval is None and part.notes
    ]
    if each.left_out:
        said.append(f"{count(each.left_out)} votes are left out, because an image lacks its score.")
    return said


def _row(each: Foresight) -> tuple[Cell, ...]:
    ceiling = each.ceiling.estimate
    return (
        word_cell(each.metric),
        word_cell(_arms(each)),
        plain_cell(each.votes, count(each.votes)),
        share_cell(each.accuracy),
        plain_cell(each.baseline, percent(each.baseline)),
        share_cell(each.above_baseline),
        plain_cell(each.above_baseline.p_adjusted, p_value(each.above_baseline.p_adjusted)),
        plain_cell(ceiling, ABSENT if ceiling is None else percent(ceiling)),
        mean_cell(each.auc, 3),
        mean_cell(each.correlation, 3),
        mean_cell(each.slope, 2),
        plain_cell(each.slope.p_adjusted, p_value(each.slope.p_adjusted)),
    )
