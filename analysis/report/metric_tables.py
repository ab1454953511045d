"""The tables of metrics: Table 2 as the papers print it, with its uncertainty, and what separates the arms."""

from collections.abc import Iterable
from typing import Protocol

from analysis.findings import Findings
from analysis.metrics.paired import MetricResult
from analysis.number_format import ABSENT, ARROWS, count, decimals_for, number, p_value
from analysis.report.study_tables import arm_pair
from analysis.report.table import Column, ReportTable, TableCell
from analysis.report.table_cells import error_words, mean_cell, plain_cell, word_cell
from evalkit.plural import plural


def heading(metric: MetricResult) -> str:
    """Return a metric's name with an arrow that points to where good is."""
    return f"{ARROWS[metric.direction]} {metric.metric}".strip()


def table_2(found: Findings) -> ReportTable | None:
    """Return Table 2 as printed: the mean of every metric per arm. Source: Orthogonal Monte Carlo Dropout, Table 2."""
    if not found.metrics:
        return None
    rows = tuple(
        (word_cell(heading(metric)), *(_printed(estimate) for estimate in _by_arm(found, metric))) for metric in found.metrics
    )
    columns = (Column("", "words"), *(Column(label) for label in found.data.labels))
    return ReportTable("table2", "Metrics per arm, as printed", columns, rows, (ARROW_NOTE, *signatures(found.metrics)))


def table_2_uncertainty(found: Findings) -> ReportTable | None:
    """Return the mean of every metric per arm with its interval; bold is what is separated from all other arms."""
    if not found.metrics:
        return None
    rows = []
    for metric in found.metrics:
        best = metric.best()
        means = dict(zip(metric.arms, metric.means, strict=True))
        decimals = max(decimals_for(mean) for mean in metric.means)
        cells = [
            mean_cell(means[arm], decimals, arm == best) if arm in means else TableCell(ABSENT, (("", None),))
            for arm in found.data.labels
        ]
        rows.append((word_cell(heading(metric)), *cells, plain_cell(metric.means[0].n, count(metric.means[0].n))))
    columns = (Column("", "words"), *(Column(f"{label} [95 % CI]") for label in found.data.labels), Column("n"))
    notes = (
        ARROW_NOTE,
        "n: cases times seeds; an image's rows (one per concept) are averaged first. "
        + error_words(mean for metric in found.metrics for mean in metric.means),
        "Bold: better than every other arm, p < .05 after Holm over the pairs of arms. "
        "Intervals of single arms may overlap where the paired difference is clear.",
        *signatures(found.metrics),
        *_gaps(found),
    )
    return ReportTable("table2_uncertainty", "Metrics per arm, with uncertainty", columns, tuple(rows), notes)


def metric_contrasts(found: Findings) -> ReportTable | None:
    """Return the paired difference of every metric for every pair of arms."""
    rows = tuple(
        (
            word_cell(heading(metric)),
            word_cell(arm_pair(contrast)),
            mean_cell(contrast),
            plain_cell(contrast.effect_size, ABSENT if contrast.effect_size is None else number(contrast.effect_size, 2)),
            plain_cell(contrast.p, p_value(contrast.p)),
            plain_cell(contrast.p_adjusted, p_value(contrast.p_adjusted)),
            plain_cell(contrast.n, count(contrast.n)),
            word_cell(str(contrast.verdict)),
        )
        for metric in found.metrics
        for contrast in metric.contrasts
    )
    if not rows:
        return None
    columns = (
        Column("metric", "words"), Column("comparison", "words"), Column("first − second [95 % CI]"), Column("d_z"),
        Column("p"), Column("p (Holm)"), Column("n"), Column("verdict", "words"),
    )  # fmt: skip
    made = [contrast for metric in found.metrics for contrast in metric.contrasts]
    seen = dict.fromkeys(note for contrast in made for note in contrast.notes)
    notes = (
        f"Paired by case and seed. {error_words(made)}".strip(),
        "Correction: Holm over the pairs of arms, metric by metric. d_z: mean over standard deviation of the differences.",
        "No margin is set for metrics, so what is not different is inconclusive.",
        *seen,
        *signatures(found.metrics),
    )
    return ReportTable("table2_contrasts", "Paired differences between arms", columns, rows, notes)


ARROW_NOTE = "↑ higher is better, ↓ lower is better, no arrow: neither."


class Signed(Protocol):
    """A result of one metric under one recipe."""

    @property
    def metric(self) -> str:
        """Return the metric's name, with a number where it has several recipes."""

    @property
    def signature(self) -> str:
        """Return its recipe."""


def signatures(results: Iterable[Signed]) -> tuple[str, ...]:
    """Return the recipe of every metric of some results."""
    return tuple(dict.fromkeys(f"{each.metric}: {each.signature}." for each in results))


def _gaps(found: Findings) -> tuple[str, ...]:
    return tuple(
        f"{metric.metric}: {plural(metric.left_out, 'case and seed is', 'cases and seeds are')} left out, "
        f"because an arm lacks its score there."
        for metric in found.metrics
        if metric.left_out
    )


def _by_arm(found: Findings, metric: MetricResult) -> list[float | None]:
    means = {arm: mean.estimate for arm, mean in zip(metric.arms, metric.means, strict=True)}
    return [means.get(label) for label in found.data.labels]


def _printed(value: float | None) -> TableCell:
    return plain_cell(value, ABSENT if value is None else number(value, 4))
