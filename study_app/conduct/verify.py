"""Check an export without any database: its hashes, its chained log, and that judgments and log tell the same."""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.run.manifest import FILE_NAME as MANIFEST_NAME
from study_app.conduct.export import EVENTS_NAME
from study_app.plan.audit_log import event_hash

FURTHER = "further_images"


@dataclass(frozen=True)
class Verified:
    """What a sound export holds; `chain` is the hash of its last event, which stands for all of it."""

    judgments: int
    events: int
    chain: str


def verify_export(path: Path) -> Verified:
    """Check an export and return what it holds.

    Every file has its hash; the design has the hash the study was begun with; each event follows from the one before; every
    judgment and every one taken back is in the log as it is in the tables, and the other way round; every image that was judged
    is the manifest's.

    Raises:
        UserError: the file is no export, or names the first thing that is not as it was written.
    """
    files = _read(path)
    design = json.loads(files["design.json"])
    canonical = json.dumps(design["design"], sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(canonical.encode()).hexdigest() != design["sha256"]:
        raise UserError(f"{path}: design.json: is not the design the study was begun with (another sha256)")
    if f"{FURTHER}.csv" not in files and design["design"].get("at_once", 2) > 2:
        raise UserError(f"{path}: {FURTHER}.csv: is missing, and the design shows {design['design']['at_once']} images at once")
    events = [json.loads(line) for line in files[EVENTS_NAME].splitlines()]
    chain = _follow(path, events, design["sha256"])
    about = json.loads(files["about.json"])
    if (about["events"], about["chain"]) != (len(events), chain):
        raise UserError(f"{path}: {EVENTS_NAME}: events are missing at its end ({len(events)} of {about['events']})")
    judgments = _table(files, "judgments")
    _compare(path, files, judgments, events)
    shas = {image["sha256"] for image in json.loads(files[MANIFEST_NAME])["images"]}
    for row in _table(files, "comparisons"):
        if not {row["image_a_sha256"], row["image_b_sha256"]} <= shas:
            raise UserError(f"{path}: comparisons.csv: comparison {row['id']} shows an image that is not the manifest's")
    # exports made before there could be more than two images lack the table; the design, held to its hash, tells
    for row in _table(files, FURTHER) if f"{FURTHER}.csv" in files else ():
        if row["image_sha256"] not in shas:
            raise UserError(
                f"{path}: {FURTHER}.csv: comparison {row['comparison_id']} shows an image that is not the manifest's"
            )
    return Verified(len(judgments), len(events), chain)


def _read(path: Path) -> dict[str, bytes]:
    """Return the files of an export, each held to its hash."""
    try:
        with zipfile.ZipFile(path) as bundle:
            files = {name: bundle.read(name) for name in bundle.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: can't be read as a zip file: {error}") from error
    lines = [line.split("  ", 1) for line in files.get("SHA256SUMS", b"").decode().splitlines()]
    sums = {line[-1]: line[0] for line in lines}
    tables = ("judgments", "assignments", "comparisons")
    wanted = {EVENTS_NAME, MANIFEST_NAME, "design.json", "about.json", *(f"{name}.csv" for name in tables)}
    if not wanted <= sums.keys() or sums.keys() != files.keys() - {"SHA256SUMS"}:
        raise UserError(f"{path}: is no whole export of `evalkit study export`: SHA256SUMS and the files don't fit")
    for name, digest in sums.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise UserError(f"{path}: {name}: was changed after the export (another sha256)")
    return files


def _follow(path: Path, events: Sequence[Mapping[str, Any]], begin: str) -> str:
    """Return the hash of the last event, each held to the one before."""
    chain = begin
    for number, event in enumerate(events, 1):
        chain = event_hash(chain, number, event["kind"], event["content"], event["happened_at"])
        if event["number"] != number or event["sha256"] != chain:
            raise UserError(f"{path}: {EVENTS_NAME}: event {number} does not follow from the one before it")
    return chain


def _compare(
    path: Path, files: Mapping[str, bytes], judgments: Sequence[Mapping[str, str]], events: Sequence[Mapping[str, Any]]
) -> None:
    """Hold the judgments to the log: what it says was judged, and not taken back since, is what the table holds."""
    assignments = {row["id"]: row for row in _table(files, "assignments")}
    logged: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "judged":
            logged[str(event["content"]["assignment"])] = event["content"]
        elif event["kind"] == "withdrawn":
            logged.pop(str(event["content"]["assignment"]), None)
    stored = {row["assignment_id"]: row for row in judgments}
    for assignment_id in sorted(logged.keys() ^ stored.keys(), key=int):
        where = "is in the log alone" if assignment_id in logged else "is not in the log"
        raise UserError(f"{path}: judgments.csv: the judgment of assignment {assignment_id} {where}")
    for assignment_id, told in logged.items():
        row, assignment = stored[assignment_id], assignments[assignment_id]
        names = ("comparison_id", "participant_id", "left", "arrangement")
        # exports made before there could be more than two images lack `arrangement`, as the log's events do
        seen = (row["choice"], *(assignment.get(name, "") for name in names))
        wanted = (told["choice"], told["comparison"], told["participant"], told["left"], told.get("arrangement", ""))
        if seen != tuple(str(value) for value in wanted):
            raise UserError(f"{path}: judgments.csv: the judgment of assignment {assignment_id} is not as the log tells it")


def _table(files: Mapping[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[f"{name}.csv"].decode())))
