"""What scoring gave: rows, what it took, and what could not be scored and why."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from evalkit.run.score_table import ParquetRows, Row
from evalkit.scoring.image_requests import ExtractionCounts, ScoringProblem


@dataclass
class ScoringResult(Generic[Row]):
    """Rows in order, the file that holds them (None if not requested), and the notes about them.

    `found` are the rows, be it in memory or in the file, which reads them as they are asked for.
    """

    path: Path | None
    found: "Sequence[Row] | ParquetRows[Row]" = ()
    # models without weights, each with how to get them; and the metrics that did not run without them
    missing: dict[str, str] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()
    problems: list[ScoringProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tally: ExtractionCounts = field(default_factory=ExtractionCounts)

    @property
    def rows(self) -> list[Row]:
        """Return all rows in memory."""
        return self.found if isinstance(self.found, list) else list(self.found)
