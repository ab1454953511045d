"""Tables of an export: their columns, their cells as text, and commitments to cells that may be erased later."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

TIMINGS = ("reaction_ms", "loaded_ms", "hidden_ms", "focus_losses")
COLUMNS: dict[str, tuple[str, ...]] = {
    "comparisons": (
        "id", "case", "seed", "arm_a", "arm_b", "image_a_sha256", "image_b_sha256", "priority", "target", "filled",
        "first_left",
    ),
    "further_images": ("comparison_id", "place", "arm", "image_sha256"),
    "participants": (
        "id", "simulated", "seed", "arrived_at", "consented_at", "screened_at", "instructed_at", "practiced_at",
        "finished_at", "questioned_at", "language", "excluded_at", "excluded_because",
    ),
    "assignments": (
        "id", "comparison_id", "participant_id", "position", "left", "arrangement", "state", "assigned_at",
    ),
    "judgments": ("id", "assignment_id", "choice", "surplus", "judged_at", *TIMINGS),
    "answers": ("id", "assignment_id", "question", "choice", "answered_at", *TIMINGS),
    "checks": (
        "id", "participant_id", "kind", "after", "assignment_id", "concept", "case", "left_sha256", "right_sha256", "expected",
        "choice", "given_at", "answered_at", *TIMINGS,
    ),
    "further_pictures": ("check_id", "place", "sha256"),
    "check_answers": ("id", "check_id", "question", "choice", "answered_at", *TIMINGS),
    "withdrawals": ("id", "assignment_id", "question", "choice", "judged_at", "withdrawn_at", *TIMINGS),
    "screens": (
        "participant_id", "width", "height", "pixel_ratio", "plates", "plates_read", "attempts", "failure", "checked_at",
        "salt",
    ),
    "replies": ("participant_id", "question", "reply", "replied_at", "salt"),
}  # fmt: skip
# a spreadsheet runs a cell that starts with one of these as a formula
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# tables that exports made before there were such rows lack
LATER = ("check_answers",)
# tables of cells that `erase` deletes: the log holds a commitment to each row, never its content
ERASABLE = ("screens", "replies")


def cell(value: object) -> str:
    """Return a value as a cell: 1 and 0 for booleans, ISO 8601 for times, an empty cell for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def free_text(text: str) -> str:
    """Return text that a person typed as a cell: an apostrophe keeps a spreadsheet from running it as a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def reply_cell(reply: str, options: Collection[str]) -> str:
    """Return a reply to the questionnaire as a cell: options and numbers as they are, anything else as free text.

    >>> reply_cell("-7.5", ()), reply_cell("- none", ("- none",)), reply_cell("=1+1", ())
    ('-7.5', '- none', "'=1+1")
    """
    return reply if reply in options or _is_number(reply) else free_text(reply)


def readings(text: str) -> tuple[str, ...]:
    """Return every reply that a cell may represent in an export of this or an earlier version.

    Earlier versions put the apostrophe before options and numbers too, and committed to replies with it.
    """
    bare = text[1:] if text.startswith("'") and text[1:].startswith(FORMULA_STARTS) else text
    return tuple(dict.fromkeys((text, bare, free_text(bare))))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Return a CSV file of cells with a header line."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue().encode()


def read_csv(data: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column."""
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))


def commitment(cells: Iterable[str], salt: str) -> str:
    """Return the salted sha256 of a row without its salt; the row can be erased, and cannot be guessed from the hash."""
    text = json.dumps([salt, *cells], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def plan_sha256(comparisons: Iterable[dict[str, str]], further: Iterable[dict[str, str]]) -> str:
    """Return the sha256 of a plan: of each comparison its case, seed, arms, image hashes, order, first side and target.

    Both arguments are rows of cells, as in `comparisons.csv` and `further_images.csv`.
    """
    fixed = [name for name in COLUMNS["comparisons"] if name != "filled"]
    lines = [["comparison", *(row[name] for name in fixed)] for row in sorted(comparisons, key=lambda row: int(row["id"]))]
    lines += [
        ["further", *(row[name] for name in COLUMNS["further_images"])]
        for row in sorted(further, key=lambda row: (int(row["comparison_id"]), int(row["place"])))
    ]
    return hashlib.sha256(json.dumps(lines, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()
