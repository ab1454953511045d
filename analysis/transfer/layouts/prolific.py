"""Tidy tables keyed by Prolific's participant ids; returned, timed-out and rejected submissions are excluded."""

from collections.abc import Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows
from analysis.transfer.vote_layout import Items, VoteLayout, chosen_arm

IDS = ("PROLIFIC_PID", "Participant id", "Participant ID", "participant_id", "prolific_id", "prolific_pid")
STATUS = ("Status", "status", "submission_status")
EXCLUDED = ("RETURNED", "TIMED-OUT", "TIMED OUT", "REJECTED", "SCREENED OUT")


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    rows = []
    for file in files:
        for row in read_rows(file, named=len(files) > 1):
            cells = dict(row.cells)
            cells["participant"] = next((row.text(name) for name in IDS if row.text(name)), row.text("participant"))
            status = next((row.text(name) for name in STATUS if row.text(name)), "")
            if status.upper() in EXCLUDED:
                cells["flags"] = "+".join(filter(None, (row.text("flags"), "excluded")))
            if "chosen_arm" in cells:
                cells["chosen_arm"] = chosen_arm(row.text("chosen_arm"), cells)
            rows.append(row.with_cells(cells))
    return rows


prolific = VoteLayout(
    "prolific", "CSV with canonical columns and Prolific's PROLIFIC_PID or Participant id, docs.prolific.com", _read
)
