"""Markdown tables of computed results."""

from collections.abc import Iterable
from typing import Literal

from analysis.report.table import Column, ReportTable, TableCell
from analysis.results import Result, value_text


def markdown_of(results: Result | Iterable[Result]) -> str:
    """Return the rows of one or several results as a Markdown table, rounded to four digits.

    A single row is printed upright. Empty columns are left out. Without results the text is empty.
    """
    listed = [results] if isinstance(results, Result) else list(results)
    records = [record for result in listed for record in result.records()]
    names = dict.fromkeys(name for record in records for name, value in record.items() if value not in (None, "", ()))
    if not names:
        return ""
    caption = " and ".join(dict.fromkeys(_words(type(result).__name__) for result in listed))
    if len(records) == 1:
        upright = tuple((TableCell(_spaced(name)), TableCell(value_text(records[0][name]))) for name in names)
        return ReportTable("result", caption, (Column("", "words"), Column("")), upright).to_markdown()
    columns = tuple(Column(_spaced(name), _kind([record.get(name) for record in records])) for name in names)
    rows = tuple(tuple(TableCell(value_text(record.get(name))) for name in names) for record in records)
    return ReportTable("result", caption, columns, rows).to_markdown()


def _kind(values: list[object]) -> Literal["words", "numbers"]:
    return "words" if any(isinstance(value, str) for value in values) else "numbers"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _words(name: str) -> str:
    """Return `MetricResult` as `Metric result`."""
    return "".join(f" {sign.lower()}" if sign.isupper() and position else sign for position, sign in enumerate(name))
