"""Responses of Google Forms or a Google Sheet: one row per participant, one column per question."""

from collections.abc import Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows
from analysis.transfer.vote_layout import Items, VoteLayout, chosen_arm, item_cells

PARTICIPANTS = ("Email Address", "Username", "Prolific ID", "PROLIFIC_PID", "Participant", "participant")
BESIDES = ("Timestamp", "Score")


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    rows = []
    for file in files:
        for row in read_rows(file, named=len(files) > 1):
            participant = next((row.text(name) for name in PARTICIPANTS if row.text(name)), f"{file.stem} {row.place}")
            order = 0
            for column in row.cells:
                # questions that are not in the table of items are about the participant
                if column in PARTICIPANTS or column in BESIDES or column not in items or not row.text(column):
                    continue
                order += 1
                cells = item_cells(column, items)
                answer = row.text(column)
                for side in ("left", "right"):
                    if answer == str(cells.get(f"option_{side}", "")):
                        answer = side
                cells |= {"participant": participant, "order": order, "chosen_arm": chosen_arm(answer, cells)}
                rows.append(row.with_cells(cells, f", column {column!r}"))
    return rows


google_forms = VoteLayout(
    "google-forms",
    "responses of Google Forms as CSV; --items maps the title of a question to case, seed and arms",
    _read,
    needs_items=True,
)
