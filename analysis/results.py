"""Base class of computed results: rows as dictionaries or as a data frame."""

from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """A frozen dataclass of computed numbers.

    A field that holds other results gives one row per result, and each row repeats the other fields. Arrays do not fit in a
    row, so a result that consists of arrays overrides `records`.
    """

    __slots__ = ()

    def records(self) -> list[dict[str, object]]:
        """Return one dictionary per row. A missing value is None; an interval is a pair of numbers."""
        own: dict[str, object] = {}
        inside: list[Result] = []
        for field in fields(self):  # type: ignore[arg-type] # every subclass is a dataclass
            value = getattr(self, field.name)
            if isinstance(value, Result):
                inside.append(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Result):
                inside += value
            elif not hasattr(value, "dtype"):
                own[field.name] = value.value if isinstance(value, Enum) else value
        return [own | record for result in inside for record in result.records()] if inside else [own]

    def to_frame(self) -> "pd.DataFrame":
        """Return the rows as a data frame: unrounded, an interval in two columns, `_low` and `_high`."""
        return frame_of([self])


def reason_of(error: Exception) -> str:
    """Return what an error states, as a sentence for readers of a report: without the place in the code and the advice."""
    text = str(error).split("; ")[0]
    for where in ("mixed model: ", "random effects: ", "strengths: ", "comparisons: "):
        text = text.removeprefix(where)
    return f"{text[:1].upper()}{text[1:]}."


def frame_of(results: Iterable[Result]) -> "pd.DataFrame":
    """Return the rows of several results, one below the other."""
    import pandas as pd

    return pd.DataFrame([_flat(record) for result in results for record in result.records()])


def _flat(record: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in record.items():
        if name.endswith("interval") or is_interval(value):
            low, high = value if isinstance(value, tuple) else (None, None)
            flat |= {f"{name}_low": low, f"{name}_high": high}
        else:
            flat[name] = value_text(value) if isinstance(value, tuple) else value
    return flat


def is_interval(value: object) -> bool:
    """Return whether a value is a pair of floats."""
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(end, float) for end in value)


def value_text(value: object) -> str:
    """Return a value as text: (name, size) pairs as `8 concepts`, other tuples joined."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, tuple):
        if is_interval(value):
            return f"[{value_text(value[0])}, {value_text(value[1])}]"
        parts = [f"{item[1]:,} {item[0]}" if isinstance(item, tuple) else str(item) for item in value]
        return (" " if parts and parts[0].endswith(".") else ", ").join(parts)
    return str(value)
