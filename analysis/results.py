"""What every computed result can do: become rows, a data frame, or Markdown."""

from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Literal

from analysis.tables import Cell, Column, Table

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """A frozen dataclass with numbers in it.

    A field that holds other results makes the rows; each row repeats what the whole says of itself. Arrays have no place in a
    row: a result that is one overrides `records`.
    """

    __slots__ = ()

    def records(self) -> list[dict[str, object]]:
        """Return one dictionary per row. What does not exist is None; an interval is a pair of numbers."""
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

    def to_markdown(self) -> str:
        """Return the rows as Markdown, rounded to four digits; one row alone stands upright. Empty columns are left out."""
        return markdown_of([self])


def frame_of(results: Iterable[Result]) -> "pd.DataFrame":
    """Return the rows of several results, one below the other."""
    import pandas as pd

    return pd.DataFrame([_flat(record) for result in results for record in result.records()])


def markdown_of(results: Iterable[Result]) -> str:
    """Return the rows of several results as one Markdown table; an empty text where there are none."""
    kept = list(results)
    records = [record for result in kept for record in result.records()]
    names = dict.fromkeys(name for record in records for name, value in record.items() if value not in (None, "", ()))
    if not names:
        return ""
    caption = " and ".join(dict.fromkeys(_words(type(result).__name__) for result in kept))
    if len(records) == 1:
        upright = tuple((Cell(_spaced(name)), Cell(_text(records[0][name]))) for name in names)
        return Table("result", caption, (Column("", "words"), Column("")), upright).to_markdown()
    columns = tuple(Column(_spaced(name), _kind([record.get(name) for record in records])) for name in names)
    rows = tuple(tuple(Cell(_text(record.get(name))) for name in names) for record in records)
    return Table("result", caption, columns, rows).to_markdown()


def _flat(record: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in record.items():
        if name.endswith("interval") or _is_interval(value):
            low, high = value if isinstance(value, tuple) else (None, None)
            flat |= {f"{name}_low": low, f"{name}_high": high}
        else:
            flat[name] = _text(value) if isinstance(value, tuple) else value
    return flat


def _is_interval(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(end, float) for end in value)


def _text(value: object) -> str:
    """Return a value as it is printed: (name, size) pairs as `8 concepts`, other tuples joined."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, tuple):
        if _is_interval(value):
            return f"[{_text(value[0])}, {_text(value[1])}]"
        parts = [f"{each[1]:,} {each[0]}" if isinstance(each, tuple) else str(each) for each in value]
        return (" " if parts and parts[0].endswith(".") else ", ").join(parts)
    return str(value)


def _kind(values: list[object]) -> Literal["words", "numbers"]:
    return "words" if any(isinstance(value, str) for value in values) else "numbers"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _words(name: str) -> str:
    """Return `MetricResult` as `Metric result`."""
    return "".join(f" {sign.lower()}" if sign.isupper() and place else sign for place, sign in enumerate(name))
