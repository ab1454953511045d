"""The tables of metrics: Table 2 as the papers print it, with its uncertainty, and what separates the arms."""

from collections.abc import Iterable
from typing import Protocol

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.metrics.paired import MetricResult
from analysis.number_format import ABSENT, ARROWS, count, decimals_for, number, p_value
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import error_words, mean_cell, metric_cell, pair_cell, plain_cell, word_cell
from analysis.report.table_spec import Section, TableContent, report_table
from evalkit.plural import plural


def heading(metric: MetricResult) -> str:
    """Return a metric's name with an arrow that points to where good is."""
    return f"{ARROWS[metric.direction]} {metric.metric}".strip()


@report_table("table2", Section.RESULTS, "Metrics per arm, as printed")
def table_2(findings: Findings) -> TableContent | None:
    """Return Table 2 as printed: the mean of every metric per arm. Source: Orthogonal Monte Carlo Dropout, Table 2."""
    if not findings.metrics:
        return None
    rows = tuple((metric_cell(metric.metric, metric.direction), *_printed_row(findings, metric)) for metric in findings.metrics)
    ranked = len(findings.data.labels) > 2 and any(metric.direction != "none" for metric in findings.metrics)
    best_note = ("Bold: best mean; underlined: second best. Neither is a test.",) if ranked else ()
    columns = (Column("", "words"), *(Column(label, arm=label) for label in findings.data.labels))
    return TableContent(columns, rows, (ARROW_NOTE, *best_note), recipes=signatures(findings.metrics))


@report_table("table2_uncertainty", Section.RESULTS, "Metrics per arm, with uncertainty")
def table_2_uncertainty(findings: Findings) -> TableContent | None:
    """Return the mean of every metric per arm with its interval; bold is what is separated from all other arms."""
    if not findings.metrics:
        return None
    rows = []
    for metric in findings.metrics:
        best = metric.best()
        means = dict(zip(metric.arms, metric.means, strict=True))
        decimals = max(decimals_for(mean) for mean in metric.means)
        cells = [
            mean_cell(means[arm], decimals, arm == best) if arm in means else TableCell(ABSENT, (("", None),))
            for arm in findings.data.labels
        ]
        rows.append(
            (metric_cell(metric.metric, metric.direction), *cells, plain_cell(metric.means[0].n, count(metric.means[0].n)))
        )
    columns = (Column("", "words"), *(Column(f"{label} [95 % CI]", arm=label) for label in findings.data.labels), Column("n"))
    notes = (
        ARROW_NOTE,
        "n: cases times seeds; an image's rows (one per concept) are averaged first. "
        + error_words(mean for metric in findings.metrics for mean in metric.means),
        "Bold: better than every other arm, p < .05 after Holm over the pairs of arms. "
        "Intervals of single arms may overlap even if the paired difference is clear.",
        *_gaps(findings),
    )
    return TableContent(columns, tuple(rows), notes, recipes=signatures(findings.metrics))


@report_table("table2_contrasts", Section.METRICS, "Paired differences between arms")
def metric_contrasts(findings: Findings) -> TableContent | None:
    """Return the paired difference of every metric for every pair of arms."""
    rows = tuple(
        (
            metric_cell(metric.metric, metric.direction),
            pair_cell(contrast.first, contrast.second),
            mean_cell(contrast),
            plain_cell(contrast.effect_size, ABSENT if contrast.effect_size is None else number(contrast.effect_size, 2)),
            plain_cell(contrast.p, p_value(contrast.p)),
            plain_cell(contrast.p_adjusted, p_value(contrast.p_adjusted)),
            _simultaneous_cell(contrast),
            plain_cell(contrast.p_simultaneous, p_value(contrast.p_simultaneous)),
            plain_cell(contrast.n, count(contrast.n)),
            word_cell(str(contrast.verdict)),
        )
        for metric in findings.metrics
        for contrast in metric.contrasts
    )
    if not rows:
        return None
    columns = (
        Column("metric", "words"), Column("comparison", "words"), Column("first − second [95 % CI]"), Column("d_z"),
        Column("p"), Column("p (Holm)"), Column("simultaneous 95 % CI"), Column("p (all metrics)"), Column("n"),
        Column("verdict", "words"),
    )  # fmt: skip
    exploratory = [metric.metric for metric in findings.metrics if metric.exploratory]
    made = [contrast for metric in findings.metrics for contrast in metric.contrasts]
    seen = dict.fromkeys(note for contrast in made for note in contrast.notes)
    notes = (
        f"Paired by case and seed. {error_words(made)}".strip(),
        "Correction: Holm over the pairs of arms, metric by metric. d_z: mean over standard deviation of the differences.",
        "Headlines rest on the simultaneous interval and p, which hold for all metrics together (max-t); the verdict here is "
        "the metric's own. "
        + ("Exploratory, since the plan does not name them: " + ", ".join(exploratory) + "." if exploratory else ""),
        "No margin is set for metrics, so what is not different is inconclusive.",
        *seen,
    )
    return TableContent(columns, rows, notes, recipes=signatures(findings.metrics))


def _simultaneous_cell(contrast: Contrast) -> TableCell:
    if contrast.simultaneous_interval is None:
        return TableCell(ABSENT, (("low", None), ("high", None)))
    low, high = contrast.simultaneous_interval
    decimals = decimals_for(contrast)
    return TableCell(f"{number(low, decimals)} to {number(high, decimals)}", (("low", low), ("high", high)))


ARROW_NOTE = "↑ higher is better, ↓ lower is better, no arrow: neither."


class Signed(Protocol):
    """A result of one metric under one recipe."""

    @property
    def metric(self) -> str:
        """Return the metric's name, with a number if it has several recipes."""

    @property
    def signature(self) -> str:
        """Return its recipe."""


def signatures(results: Iterable[Signed]) -> tuple[tuple[str, str], ...]:
    """Return the name and the signature of every metric of some results, each once."""
    return tuple(dict.fromkeys((result.metric, result.signature) for result in results))


@report_table("signatures", Section.SIGNATURES, "Signatures of the metrics")
def signatures_table(findings: Findings) -> TableContent | None:
    """Return the recipe of every metric: encoder, weights, preprocessing, precision and scale."""
    results: list[Signed] = [*findings.metrics, *findings.similarities]
    if not results:
        return None
    rows = tuple((metric_cell(result.metric), word_cell(result.signature)) for result in results)
    return TableContent((Column("metric", "words"), Column("signature", "words")), rows, recipes=signatures(results))


def _gaps(findings: Findings) -> tuple[str, ...]:
    return tuple(
        f"{metric.metric}: {plural(metric.left_out, 'case and seed is', 'cases and seeds are')} left out, "
        f"because an arm lacks its score there."
        for metric in findings.metrics
        if metric.left_out
    )


def _by_arm(findings: Findings, metric: MetricResult) -> list[float | None]:
    means = {arm: mean.estimate for arm, mean in zip(metric.arms, metric.means, strict=True)}
    return [means.get(label) for label in findings.data.labels]


def _printed_row(findings: Findings, metric: MetricResult) -> list[TableCell]:
    """Return the means of every arm; of three arms or more the best is bold and the second best underlined."""
    means = _by_arm(findings, metric)
    known = sorted({mean for mean in means if mean is not None}, reverse=metric.direction == "higher")
    marked = known if metric.direction != "none" and len(means) > 2 else []
    best = marked[0] if marked else None
    second = marked[1] if len(marked) > 1 else None
    return [
        TableCell(ABSENT, (("", None),))
        if mean is None
        else TableCell(number(mean, 4), (("", mean),), bold=mean == best, underlined=mean == second)
        for mean in means
    ]
