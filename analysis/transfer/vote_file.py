"""Reader of votes from other tools: CSV, JSON or JSON lines, checked against a run, all mistakes at once."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError
from evalkit.run.manifest import Manifest

REQUIRED = ("participant", "case", "seed", "arm_left", "arm_right", "chosen_arm")
TIES = ("tie", "both_bad")
MOST_MISTAKES = 20


@dataclass(frozen=True, slots=True)
class ExternalVote:
    """One vote on two images of a case and seed; `chosen` is an arm, or None for a tie."""

    participant: str
    case: str
    seed: int
    left: str
    right: str
    chosen: str | None
    response_ms: int | None
    simulated: bool = False


def read_votes(file: Path, manifest: Manifest, columns: Mapping[str, str] | None = None) -> list[ExternalVote]:
    """Return the votes of a file.

    `columns` maps our names to the file's. Both `tie` and `both_bad` are read as a tie.

    Raises:
        UserError: the file cannot be read, a column is missing, or rows do not fit the run; the first 20 mistakes are listed.
    """
    rows = _rows(file)
    names = {name: (columns or {}).get(name, name) for name in (*REQUIRED, "response_ms", "flags")}
    missing = [names[name] for name in REQUIRED if rows and names[name] not in rows[0]]
    if not rows:
        raise UserError(f"{file}: has no votes; give a file with one row per vote")
    if missing:
        have = ", ".join(rows[0])
        raise UserError(f"{file}: has no column {', '.join(missing)}, only {have}; map other names by --columns NAME=COLUMN")
    images = {image.cell for image in manifest.images}
    votes: list[ExternalVote] = []
    mistakes: list[str] = []
    first_rows: dict[tuple[object, ...], int] = {}
    for number, row in enumerate(rows, start=2 if file.suffix == ".csv" else 1):
        vote, wrong = _vote(row, names, images)
        if vote is not None:
            key = (vote.participant, vote.case, vote.seed, frozenset((vote.left, vote.right)))
            if key in first_rows:
                wrong = f"the participant's second vote on this comparison, first in row {first_rows[key]}"
            first_rows.setdefault(key, number)
            votes.append(vote)
        if wrong:
            mistakes.append(f"row {number}: {wrong}")
    if mistakes:
        more = f"\n… and {len(mistakes) - MOST_MISTAKES} more" if len(mistakes) > MOST_MISTAKES else ""
        listed = "\n".join(mistakes[:MOST_MISTAKES])
        raise UserError(f"{file}: rows do not fit the run, nothing was imported; correct them:\n{listed}{more}")
    return votes


def _vote(
    row: Mapping[str, object], names: Mapping[str, str], images: set[tuple[str, str, int]]
) -> tuple[ExternalVote | None, str]:
    """Return a row's vote, or what is wrong with it."""
    text = {name: str(row.get(column, "") if row.get(column) is not None else "").strip() for name, column in names.items()}
    for name in REQUIRED:
        if not text[name]:
            return None, f"{names[name]} is empty"
    try:
        seed = int(text["seed"])
        response = int(float(text["response_ms"])) if text["response_ms"] else None
    except ValueError:
        return None, f"seed {text['seed']!r} or response_ms {text['response_ms']!r} is not a number"
    left, right, chosen = text["arm_left"], text["arm_right"], text["chosen_arm"]
    if left == right:
        return None, f"arm_left and arm_right are both {left!r}"
    for arm in (left, right):
        if (text["case"], arm, seed) not in images:
            return None, f"the run has no image of case {text['case']!r}, arm {arm!r}, seed {seed}"
    if chosen not in (left, right, *TIES):
        return None, f"{names['chosen_arm']} {chosen!r} is neither {left!r}, {right!r}, 'tie' nor 'both_bad'"
    simulated = "simulated" in text["flags"].split("+")
    winner = None if chosen in TIES and chosen not in (left, right) else chosen
    return ExternalVote(text["participant"], text["case"], seed, left, right, winner, response, simulated), ""


def _rows(file: Path) -> list[dict[str, object]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); give a CSV, JSON or JSON lines file in UTF-8") from error
    if file.suffix == ".csv":
        return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()] if file.suffix == ".jsonl" else json.loads(text)
    except ValueError as error:
        raise UserError(f"{file}: is not valid JSON ({error}); give .csv, .json or .jsonl") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file}: is not a list of objects; give one object per vote")
    return rows
