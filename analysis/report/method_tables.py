"""Tables with one row per method and one column per metric, as most papers print them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.metrics.paired import Measured, MetricResult, measure
from analysis.number_format import ABSENT, ARROWS, decimals_for, number
from analysis.report.table import Column, ReportTable, TableCell
from analysis.report.table_cells import arm_cell, error_words, mean_cell, plain_cell, word_cell


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """A metric under the heading that a paper gives it."""

    heading: str
    result: MetricResult


def named_columns(measured: Sequence[Measured], wanted: Mapping[str, str]) -> tuple[list[MetricColumn], list[str]]:
    """Return the wanted metrics (name to heading) in that order, and a note for each that the run was not scored by."""
    by_name = {metric.metric: metric for metric in measured}
    columns = [MetricColumn(heading, measure(by_name[name])) for name, heading in wanted.items() if name in by_name]
    lacking = [f"{heading}: this run has no scores of {name} alone." for name, heading in wanted.items() if name not in by_name]
    return columns, lacking


def average(name: str, parts: Sequence[Measured]) -> Measured | None:
    """Return the mean of several metrics, image by image, if all of them are known; None if none is left."""
    if not parts or any(not part.cells for part in parts) or len({part.arms for part in parts}) > 1:
        return None
    shared = set.intersection(*(set(part.cells) for part in parts))
    rows = [np.array([cell in shared for cell in part.cells]) for part in parts]
    if not shared:
        return None
    # the rows of every metric are in the order of their cells
    values = np.mean([part.values[chosen] for part, chosen in zip(parts, rows, strict=True)], axis=0)
    first, chosen = parts[0], rows[0]
    cells = tuple(cell for cell in first.cells if cell in shared)
    signature = f"mean of {' and '.join(part.metric for part in parts)}"
    return Measured(name, signature, first.direction, first.arms, values, first.sets.take(chosen), 0, cells)


def method_tables(
    name: str,
    caption: str,
    arms: Sequence[str],
    columns: Sequence[MetricColumn],
    *,
    before: Sequence[tuple[str, Mapping[str, TableCell]]] = (),
    extra: Sequence[tuple[str, Sequence[TableCell], Sequence[TableCell]]] = (),
    notes: Sequence[str] = (),
) -> tuple[ReportTable, ...]:
    """Return the table as printed and with uncertainty; nothing without a metric.

    `before` are columns of words by arm. `extra` are rows above the arms: a name, its cells as printed, and those with
    uncertainty, one per metric. Bold is what is separated from every other arm.
    """
    if not columns:
        return ()
    headings = [f"{column.heading} {ARROWS[column.result.direction]}".strip() for column in columns]
    left = (Column("Method", "words"), *(Column(heading, "words") for heading, _ in before))
    made = []
    for suffix, label, exact in (("", "", False), ("_uncertainty", ", with uncertainty", True)):
        blank = [word_cell(ABSENT) for _ in before]
        rows = [(word_cell(title), *blank, *(sure if exact else plain)) for title, plain, sure in extra]
        rows += [
            (arm_cell(arm), *(cells.get(arm, word_cell(ABSENT)) for _, cells in before), *_scores(arm, columns, exact))
            for arm in arms
        ]
        right = tuple(Column(f"{heading} [95 % CI]" if exact else heading) for heading in headings)
        remarks = []
        if exact:
            remarks.append(error_words(mean for column in columns for mean in column.result.means))
            remarks.append("Bold: better than every other method, p < .05 after Holm over the pairs of methods.")
        footnotes = tuple(note for note in (*remarks, *notes) if note)
        recipes = tuple((column.heading, column.result.signature) for column in columns)
        made.append(
            ReportTable(f"{name}{suffix}", f"{caption}{label}", (*left, *right), tuple(rows), footnotes, recipes=recipes)
        )
    return tuple(made)


def _scores(arm: str, columns: Sequence[MetricColumn], exact: bool) -> list[TableCell]:
    cells = []
    for column in columns:
        means = dict(zip(column.result.arms, column.result.means, strict=True))
        if arm not in means:
            cells.append(plain_cell(None, ABSENT))
        elif exact:
            decimals = max(decimals_for(mean) for mean in column.result.means)
            cells.append(mean_cell(means[arm], decimals, arm == column.result.best()))
        else:
            value = means[arm].estimate
            cells.append(plain_cell(value, ABSENT if value is None else number(value, 3)))
    return cells
