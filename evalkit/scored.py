"""What scoring gave: rows, what it took, and what could not be scored and why."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from evalkit.extract import Problem, Tally

Row = TypeVar("Row")


@dataclass
class Scored(Generic[Row]):
    """Rows in order, the file that holds them (None where none was asked for), and all there is to say about them."""

    path: Path | None
    rows: list[Row] = field(default_factory=list)
    # models without weights, each with how to get them; and the metrics that were not run for want of them
    missing: dict[str, str] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
