"""Table cells: a formatted number with the unrounded values behind it, and what the errors of a table allow for."""

from collections.abc import Iterable

from analysis.contrast import Contrast
from analysis.inference.mean_contrast import df_text
from analysis.number_format import ABSENT, ARROWS, count, decimals_for, number
from analysis.report.table import TableCell


def error_words(contrasts: Iterable[Contrast]) -> str:
    """Return in one sentence what the errors of some contrasts allow for, each once; empty if none has an error."""
    ways: dict[str, set[float]] = {}
    for contrast in contrasts:
        if contrast.standard_error is None:
            continue
        people = "participants" in contrast.scope
        if "concepts" in contrast.scope:
            what = "shared concepts and participants" if people else "shared concepts"
        else:
            what = "comparisons of these cases and participants" if people else "comparisons of these cases"
        named = ", ".join(f"{count(size)} {name}" for name, size in contrast.clusters)
        test, _, df = contrast.test.partition(", df ")
        ways.setdefault(f"{what} ({named}; {test}", set()).update([float(df)] if df else [])
    clauses = [f"{way}{f', df {_range(held)}' if held else ''})" for way, held in ways.items()]
    return f"The error allows for {'; or '.join(clauses)}." if clauses else ""


def _range(values: set[float]) -> str:
    low, high = (df_text(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def share_cell(contrast: Contrast, bold: bool = False) -> TableCell:
    """Return a share in per cent with its interval."""
    return _cell(contrast, 1, 100.0, " %", bold)


def mean_cell(contrast: Contrast, decimals: int | None = None, bold: bool = False) -> TableCell:
    """Return a mean or a difference with its interval."""
    return _cell(contrast, decimals_for(contrast) if decimals is None else decimals, 1.0, "", bold)


def interval_cell(value: float, interval: tuple[float, float] | None, decimals: int) -> TableCell:
    """Return a value with its interval, if any."""
    low, high = interval if interval is not None else (None, None)
    text = number(value, decimals)
    if low is not None and high is not None:
        text += f" [{number(low, decimals)}, {number(high, decimals)}]"
    return TableCell(text, (("", value), ("low", low), ("high", high)))


def plain_cell(value: float | int | None, text: str) -> TableCell:
    """Return a cell with one value behind it."""
    return TableCell(text, (("", value),))


def arm_cell(arm: str) -> TableCell:
    """Return a cell that names an arm."""
    return TableCell(arm, (("arm", arm),))


def pair_cell(first: str, second: str) -> TableCell:
    """Return a cell that names a comparison of two arms, or all of them if `second` is empty."""
    return TableCell(f"{first} vs {second}" if second else first, (("arm", first), ("other_arm", second)))


def metric_cell(metric: str, direction: str | None = None) -> TableCell:
    """Return a cell that names a metric, with an arrow to its good end if the direction is given."""
    text = metric if direction is None else f"{ARROWS[direction]} {metric}".strip()
    return TableCell(text, (("metric", metric), ("direction", direction)))


def word_cell(text: str) -> TableCell:
    """Return a cell that holds words."""
    return TableCell(text, (("", text),))


def _cell(contrast: Contrast, decimals: int, factor: float, unit: str, bold: bool) -> TableCell:
    low, high = contrast.interval if contrast.interval is not None else (None, None)
    values = (("", contrast.estimate), ("low", low), ("high", high))
    if contrast.estimate is None:
        return TableCell(ABSENT, values, contrast=contrast)
    text = number(factor * contrast.estimate, decimals) + unit
    if low is not None and high is not None:
        text += f" [{number(factor * low, decimals)}, {number(factor * high, decimals)}]"
    return TableCell(text, values, bold, contrast=contrast)
