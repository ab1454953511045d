"""Vote files of any layout: read, checked against a run, or turned into a run without images."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.transfer.layouts import LAYOUTS
from analysis.transfer.ratings import RatingRule
from analysis.transfer.source_rows import SourceRow
from analysis.transfer.vote_layout import read_items
from analysis.transfer.vote_rows import CANONICAL, ReadVotes, votes_of_rows
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.run.manifest import Manifest


def read_vote_rows(
    files: Sequence[Path], layout: str = "tidy", columns: Mapping[str, str] | None = None, items: Path | None = None
) -> list[SourceRow]:
    """Return the rows of vote files with canonical columns.

    `columns` maps canonical names to the names in the files.

    Raises:
        UserError: the layout or a column is unknown, or a file cannot be read.
    """
    if layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: is not a layout; give one of {', '.join(LAYOUTS)}")
    chosen = LAYOUTS[layout]
    if chosen.needs_items and items is None:
        raise UserError(
            f"--layout {layout}: needs --items FILE, a table with the columns item, case, seed, arm_left, arm_right"
        )
    for name, column in (columns or {}).items():
        if name not in CANONICAL or not column:
            raise UserError(f"--columns {name}={column}: is not a column to map; write NAME=COLUMN with {', '.join(CANONICAL)}")
    rows = chosen.read(files, read_items(items) if items is not None else {})
    absent = [column for column in (columns or {}).values() if rows and column not in rows[0].cells]
    if absent:
        have = ", ".join(str(name) for name in rows[0].cells)
        raise UserError(f"{files[0]}: has no column {', '.join(absent)}, only {have}; map a column that is there")
    if not columns:
        return rows
    return [row.with_cells({**row.cells, **{name: row.cells.get(column) for name, column in columns.items()}}) for row in rows]


def read_votes(
    files: Sequence[Path],
    rows: Sequence[SourceRow],
    manifest: Manifest,
    question: str | None = None,
    rule: RatingRule | None = None,
) -> ReadVotes:
    """Return the votes of rows, checked against the images of a run; raise a UserError that lists all mistakes."""
    cells = set(manifest.expected())
    arms, cases = {arm.label for arm in manifest.arms}, {case.id for case in manifest.cases}

    def problem(case: str, arm: str, seed: int) -> str:
        if (case, arm, seed) in cells:
            return ""
        if arm not in arms:
            return f"{arm!r} is not an arm of the run; there are {', '.join(sorted(arms))}"
        if case not in cases:
            return f"the run has no image of case {case!r}: it has no such case"
        return f"the run has no image of case {case!r}, arm {arm!r}, seed {seed}"

    concepts = {case.id: tuple(case.concepts) for case in manifest.cases}
    return votes_of_rows(_names(files), rows, problem, question, rule, concepts)


def digest(files: Sequence[Path]) -> str:
    """Return the sha256 of a file, or of the digests of several."""
    sums = [sha256_file(file) for file in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _names(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
