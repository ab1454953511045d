"""What scoring gave: rows, what it took, and what could not be scored and why."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from evalkit.extract import Problem, Tally
from evalkit.scores import Row, StoredRows


@dataclass
class Scored(Generic[Row]):
    """Rows in order, the file that holds them (None where none was asked for), and all there is to say about them.

    Where rows were written and not kept in memory, `rows` is empty and `stored` reads them.
    """

    path: Path | None
    rows: list[Row] = field(default_factory=list)
    # models without weights, each with how to get them; and the metrics that were not run for want of them
    missing: dict[str, str] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    stored: "StoredRows[Row] | None" = None

    @property
    def all_rows(self) -> "list[Row] | StoredRows[Row]":
        """Return the rows, wherever they are."""
        return self.rows if self.stored is None else self.stored
