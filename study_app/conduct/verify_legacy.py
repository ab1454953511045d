"""Verification of exports made before the log carried everything."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.run.manifest import FILE_NAME as MANIFEST_NAME
from study_app.conduct.export import ABOUT_NAME, DESIGN_NAME, EVENTS_NAME
from study_app.conduct.verified import Verified
from study_app.plan.audit_log import event_hash
from study_app.plan.replay import STARTS

FURTHER = "further_images"
LIMIT = (
    "its log holds the choice of every judgment, but not arms, images, exclusions, checks or times: these are not proven. "
    "Export the study again with this version, before it is locked, to prove them as of then"
)


def verify_legacy(path: Path, files: Mapping[str, bytes]) -> Verified:
    """Verify an export of an earlier version as far as its log allows.

    Raises:
        UserError: names the first difference, or why the export cannot be verified.
    """
    about = json.loads(files[ABOUT_NAME])
    tables = [f"{name}.csv" for name in ("judgments", "assignments", "comparisons")]
    if EVENTS_NAME not in files:
        raise UserError(
            f"{path}: was exported by a version without a log (schema {about.get('schema', 'unknown')}), so nothing in it can "
            "be proven; open its database with this version and export it again"
        )
    for name in (MANIFEST_NAME, DESIGN_NAME, *tables):
        if name not in files:
            raise UserError(f"{path}: {name} is missing; the archive is not a complete export")
    design = json.loads(files[DESIGN_NAME])
    canonical = json.dumps(design["design"], sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(canonical.encode()).hexdigest() != design["sha256"]:
        raise UserError(f"{path}: design.json: is not the design the study was begun with (another sha256)")
    if f"{FURTHER}.csv" not in files and design["design"].get("at_once", 2) > 2:
        raise UserError(f"{path}: {FURTHER}.csv: is missing, and the design shows {design['design']['at_once']} images at once")
    events = [json.loads(line) for line in files[EVENTS_NAME].splitlines()]
    if any(event["kind"] in STARTS for event in events):
        raise UserError(f"{path}: {ABOUT_NAME}: does not have the format of its log; use the original archive")
    chain = _follow(path, events, design["sha256"])
    if (about["events"], about["chain"]) != (len(events), chain):
        raise UserError(f"{path}: {EVENTS_NAME}: events are missing at its end ({len(events)} of {about['events']})")
    judgments = _table(files, "judgments")
    _compare(path, files, judgments, events)
    images = {image["sha256"] for image in json.loads(files[MANIFEST_NAME])["images"]}
    for row in _table(files, "comparisons"):
        if not {row["image_a_sha256"], row["image_b_sha256"]} <= images:
            raise UserError(f"{path}: comparisons.csv: comparison {row['id']} shows an image that is not the manifest's")
    # exports made before comparisons of more than two images lack the table; the design, held to its hash, decides
    for row in _table(files, FURTHER) if f"{FURTHER}.csv" in files else ():
        if row["image_sha256"] not in images:
            raise UserError(
                f"{path}: {FURTHER}.csv: comparison {row['comparison_id']} shows an image that is not the manifest's"
            )
    return Verified(len(judgments), len(events), chain, limits=(LIMIT,))


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
    """Compare the judgments with the log: every logged and not withdrawn judgment is in the table, and vice versa."""
    assignments = {row["id"]: row for row in _table(files, "assignments")}
    logged: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "judged":
            logged[str(event["content"]["assignment"])] = event["content"]
        elif event["kind"] == "withdrawn":
            logged.pop(str(event["content"]["assignment"]), None)
    stored = {row["assignment_id"]: row for row in judgments}
    for assignment_id in sorted(logged.keys() ^ stored.keys(), key=int):
        problem = "is in the log only" if assignment_id in logged else "is not in the log"
        raise UserError(f"{path}: judgments.csv: the judgment of assignment {assignment_id} {problem}")
    for assignment_id, content in logged.items():
        row, assignment = stored[assignment_id], assignments[assignment_id]
        names = ("comparison_id", "participant_id", "left", "arrangement")
        # exports made before comparisons of more than two images lack `arrangement`, and so do their events
        actual = (row["choice"], *(assignment.get(name, "") for name in names))
        expected = (
            content["choice"],
            content["comparison"],
            content["participant"],
            content["left"],
            content.get("arrangement", ""),
        )
        if actual != tuple(str(value) for value in expected):
            raise UserError(f"{path}: judgments.csv: the judgment of assignment {assignment_id} differs from the log")


def _table(files: Mapping[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[f"{name}.csv"].decode())))
