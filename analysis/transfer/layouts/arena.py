"""Battles of Chatbot Arena and its successors: model_a, model_b, winner."""

from collections.abc import Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows, require_columns
from analysis.transfer.vote_layout import Items, VoteLayout, chosen_arm

CASES = ("question_id", "prompt_id", "id")
JUDGES = ("judge", "user_id", "evaluation_session_id")


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    rows = []
    for file in files:
        source = read_rows(file, named=len(files) > 1)
        require_columns(str(file), source, ("model_a", "model_b", "winner"), "give battles as Chatbot Arena publishes them")
        for row in source:
            # the arena shows model_a on the left
            cells: dict[str, object] = {"arm_left": row.text("model_a"), "arm_right": row.text("model_b")}
            cells |= {
                "participant": next((row.text(name) for name in JUDGES if row.text(name)), ""),
                "case": row.text("case") or next((row.text(name) for name in CASES if row.text(name)), ""),
                "seed": row.text("seed") or "0",
                "concepts": row.text("concepts"),
                "chosen_arm": chosen_arm(row.text("winner"), cells),
            }
            rows.append(row.with_cells(cells))
    return rows


arena = VoteLayout(
    "arena", "battles of Chatbot Arena, github.com/lm-sys/FastChat: question_id, model_a, model_b, winner, judge", _read
)
