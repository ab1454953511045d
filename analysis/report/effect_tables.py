"""The table of effect sizes: how large paired differences of metrics are, on scales that need no unit."""

from analysis.findings import Findings
from analysis.metrics.paired_effects import PairedEffect, effects_of
from analysis.number_format import ABSENT, count, number, p_value, percent
from analysis.report.metric_tables import ARROW_NOTE, signatures
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import interval_cell, metric_cell, pair_cell, plain_cell, word_cell
from analysis.report.table_spec import Section, TableContent, report_table


@report_table("effects", Section.METRICS, "Effect sizes of the metrics")
def effects_table(findings: Findings) -> TableContent | None:
    """Return the matched effect sizes of every metric and pair of arms; None if fewer than two arms were measured."""
    effects = effects_of([scored for scored in findings.measured if len(scored.values)])
    if not effects:
        return None
    columns = (
        Column("metric", "words"), Column("comparison", "words"), Column("concept sets"), Column("d_z"),
        Column("rank-biserial"), Column("sets won by first"), Column("Hodges-Lehmann [95 % CI]"),
        Column("p (signed rank)"), Column("holds for other", "words"), Column("Cliff's δ (unpaired)"),
        Column("p (sign flip), these concepts"),
    )  # fmt: skip
    words = " and ".join(dict.fromkeys(effect.scope[-1] for effect in effects))
    notes = (
        "One row per concept set, seeds averaged. The interval and the signed-rank test allow for shared concepts if there are "
        f"enough of them. The sign-flip test takes {words} for independent, so it holds for other seeds and {words} of these "
        "concepts alone. No p is corrected; the verdicts are those of the paired differences.",
        "d_z: mean over standard deviation of the differences. Rank-biserial: ranks in favour of the first arm less those "
        "against it, over all (Kerby 2014). Hodges-Lehmann: median of the means of two differences, in the metric's unit. "
        "Cliff's δ ignores that both arms had the same cases.",
        f"Positive: the first arm's values are higher. {ARROW_NOTE}",
        *dict.fromkeys(f"{row.metric}, {row.first} vs {row.second}: {row.note}" for row in effects if row.note),
    )
    directions = {metric.metric: metric.direction for metric in findings.metrics}
    rows = tuple((metric_cell(effect.metric, directions.get(effect.metric)), *_row(effect)) for effect in effects)
    return TableContent(columns, rows, notes, recipes=signatures(effects))


def _row(effect: PairedEffect) -> tuple[TableCell, ...]:
    wide = effect.clustered_interval is not None
    interval = effect.clustered_interval if wide else effect.hodges_lehmann_interval
    scope = effect.clustered_scope if wide else effect.scope
    return (
        pair_cell(effect.first, effect.second),
        plain_cell(effect.sets, count(effect.sets)),
        _maybe(effect.d_z),
        _maybe(effect.rank_biserial),
        plain_cell(effect.win_rate, percent(effect.win_rate)),
        interval_cell(effect.hodges_lehmann, interval, 4),
        plain_cell(effect.p_clustered, p_value(effect.p_clustered)),
        word_cell(", ".join(scope) if interval is not None else ABSENT),
        _maybe(effect.cliffs_delta),
        plain_cell(effect.p_sign_flip, p_value(effect.p_sign_flip)),
    )


def _maybe(value: float | None) -> TableCell:
    return plain_cell(value, ABSENT if value is None else number(value, 2))
