"""Rows of vote and score files from other tools: CSV, TSV, JSON and JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
MOST_MISTAKES = 20


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row with its place in the file, as `row 7` or `votes.jsonl row 7`."""

    place: str
    cells: Mapping[str, object]

    def text(self, name: str) -> str:
        """Return a cell as stripped text; empty if it is missing."""
        value = self.cells.get(name)
        return "" if value is None else str(value).strip()

    def with_cells(self, cells: Mapping[str, object], suffix: str = "") -> "SourceRow":
        """Return another row at the same place."""
        return SourceRow(self.place + suffix, cells)


class Mistakes:
    """Everything that is wrong with the rows of a file, collected and raised at once."""

    def __init__(self, where: str, what: str) -> None:
        """Take the file's name, and what its rows do not fit."""
        self.where, self.what, self.lines = where, what, list[str]()

    def add(self, row: SourceRow, column: str, wrong: str) -> None:
        """Note what is wrong with a cell; an empty column means the whole row."""
        self.lines.append(f"{row.place}{f', {column}' if column else ''}: {wrong}")

    def raise_any(self) -> None:
        """Raise a UserError that lists the first 20 mistakes, if there are any."""
        if not self.lines:
            return
        more = f"\n… and {len(self.lines) - MOST_MISTAKES} more" if len(self.lines) > MOST_MISTAKES else ""
        listed = "\n".join(self.lines[:MOST_MISTAKES])
        raise UserError(f"{self.where}: {self.what}, nothing was imported; correct them:\n{listed}{more}")


def read_rows(file: Path, named: bool = False) -> list[SourceRow]:
    """Return the rows of a table; `named` puts the file's name into their places.

    Raises:
        UserError: the file cannot be read, or is not a table or a list of objects.
    """
    prefix = f"{file.name} " if named else ""
    suffix = file.suffix.lower()
    text = read_text(file)
    if suffix in DELIMITERS:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=DELIMITERS[suffix])
        rows = []
        for number, cells in enumerate(reader, start=2):
            if None in cells:
                raise UserError(
                    f"{file}: row {number} has more cells than the header has columns; quote cells that hold a separator"
                )
            rows.append(SourceRow(f"{prefix}row {number}", dict(cells)))
        return rows
    if suffix == ".jsonl":
        content: object = [json_value(file, line) for line in text.splitlines() if line.strip()]
    else:
        content = json_value(file, text)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise UserError(f"{file}: is not a list of objects; give one object per vote")
    return [SourceRow(f"{prefix}row {number}", row) for number, row in enumerate(content, start=1)]


def read_text(file: Path) -> str:
    """Return the text of a file."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); give a CSV, TSV, JSON or JSON lines file in UTF-8") from error


def json_value(file: Path, text: str) -> object:
    """Return the value of a JSON text."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise UserError(f"{file}: is not valid JSON ({error}); give .csv, .tsv, .json or .jsonl") from error
    return value


def require_columns(where: str, rows: Sequence[SourceRow], names: Iterable[str], hint: str) -> None:
    """Raise a UserError that names the columns that are missing, and those there are."""
    missing = [name for name in names if rows and name not in rows[0].cells]
    if missing:
        raise UserError(f"{where}: has no column {', '.join(missing)}, only {', '.join(rows[0].cells)}; {hint}")
