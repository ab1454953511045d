"""How numbers are printed: the one formatting pass behind every table, sentence and figure."""

import math
from collections.abc import Iterable

from analysis.contrast import Contrast
from analysis.tables import Cell

# In place of a number that does not exist; why it doesn't is in a note.
ABSENT = "–"
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


def number(value: float, decimals: int) -> str:
    """Return a number with fixed decimals and a true minus sign, never `-0`."""
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal, as the papers print it."""
    return f"{number(100 * share, 1)} %"


def p_value(p: float | None) -> str:
    """Return a p-value with three digits, `<.001` below that."""
    if p is None:
        return ABSENT
    if p < 0.001:
        return "<.001"
    return "1.000" if round(p, 3) >= 1 else f"{p:.3f}".removeprefix("0")


def count(value: int) -> str:
    """Return a count with thousands set apart."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless there is one."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def decimals_for(contrast: Contrast) -> int:
    """Return how many decimals carry information: two digits of the interval's half width, four without an interval."""
    if contrast.interval is None:
        return 4
    half = (contrast.interval[1] - contrast.interval[0]) / 2
    return 4 if half <= 0 else min(6, max(1, 1 - math.floor(math.log10(half))))


def error_words(contrasts: Iterable[Contrast]) -> str:
    """Return in one sentence what the errors of some contrasts allow for, each way said once; empty where none has an error."""
    ways: dict[str, set[int]] = {}
    for contrast in contrasts:
        if contrast.standard_error is None:
            continue
        people = "participants" in contrast.scope
        if "concepts" in contrast.scope:
            what = "shared concepts and participants" if people else "shared concepts"
        else:
            levels = [name for name in contrast.scope if name != "seeds"] or ["comparisons"]
            what = f"clusters by {' and '.join(levels)} alone"
        named = ", ".join(f"{count(size)} {name}" for name, size in contrast.clusters)
        test, _, df = contrast.test.partition(", df ")
        ways.setdefault(f"{what} ({named}; {test}", set()).update([int(df)] if df else [])
    said = [f"{way}{f', df {_range(held)}' if held else ''})" for way, held in ways.items()]
    return f"The error allows for {'; or '.join(said)}." if said else ""


def _range(values: set[int]) -> str:
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def share_cell(contrast: Contrast, bold: bool = False) -> Cell:
    """Return a share in per cent with its interval."""
    return _cell(contrast, 1, 100.0, " %", bold)


def mean_cell(contrast: Contrast, decimals: int | None = None, bold: bool = False) -> Cell:
    """Return a mean or a difference with its interval."""
    return _cell(contrast, decimals_for(contrast) if decimals is None else decimals, 1.0, "", bold)


def interval_cell(value: float, interval: tuple[float, float] | None, decimals: int) -> Cell:
    """Return a value with its interval where there is one."""
    low, high = interval if interval is not None else (None, None)
    text = number(value, decimals)
    if low is not None and high is not None:
        text += f" [{number(low, decimals)}, {number(high, decimals)}]"
    return Cell(text, (("", value), ("low", low), ("high", high)))


def plain_cell(value: float | int | None, text: str) -> Cell:
    """Return a cell with one value behind it."""
    return Cell(text, (("", value),))


def word_cell(text: str) -> Cell:
    """Return a cell that holds words."""
    return Cell(text, (("", text),))


def _cell(contrast: Contrast, decimals: int, factor: float, unit: str, bold: bool) -> Cell:
    low, high = contrast.interval if contrast.interval is not None else (None, None)
    values = (("", contrast.estimate), ("low", low), ("high", high))
    if contrast.estimate is None:
        return Cell(ABSENT, values)
    text = number(factor * contrast.estimate, decimals) + unit
    if low is not None and high is not None:
        text += f" [{number(factor * low, decimals)}, {number(factor * high, decimals)}]"
    return Cell(text, values, bold)
