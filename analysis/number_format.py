"""Formatted numbers: the one formatting pass behind every table, sentence and figure."""

import math

from analysis.contrast import Contrast
from evalkit.plural import plural

# Printed in place of a number that does not exist; a note gives the reason.
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
    """Return a count with its noun, as `evalkit.plural.plural` does; a filter of the report's template."""
    return plural(value, noun)


def decimals_for(contrast: Contrast) -> int:
    """Return how many decimals carry information: two digits of the interval's half width, four without an interval."""
    if contrast.interval is None:
        return 4
    half = (contrast.interval[1] - contrast.interval[0]) / 2
    return 4 if half <= 0 else min(6, max(1, 1 - math.floor(math.log10(half))))
