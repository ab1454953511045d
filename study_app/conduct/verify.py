"""Offline verification of an export: rebuilds every table from the hash-chained log and compares byte for byte."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.plural import plural
from evalkit.run.manifest import FILE_NAME as MANIFEST_NAME
from study_app.conduct.export import ABOUT_NAME, DESIGN_NAME, ERASURES_NAME, EVENTS_NAME, FORMAT, about_of, design_of_export
from study_app.conduct.export_archive import SUMS_NAME, read_archive, sums_of
from study_app.conduct.tidy_export import CODEBOOK_NAME, CODEBOOKS, SCORES_NAME, VOTES_NAME, tidy_votes_file
from study_app.conduct.verified import Verified
from study_app.conduct.verify_legacy import verify_legacy
from study_app.plan.audit_log import AFTER_LOCK, event_hash, sha256_of
from study_app.plan.export_tables import COLUMNS, ERASABLE, LATER, cell, commitment, plan_sha256, read_csv, readings, write_csv
from study_app.plan.replay import Replay, ReplayError


def verify_export(path: Path, chain: str | None = None) -> Verified:
    """Verify an export and return what it contains.

    Every table is rebuilt from the events and compared byte for byte; design, manifest and plan have the hashes that the log
    carries. With `chain`, the log must end in this published hash: without it, a consistently forged log goes unnoticed.

    Raises:
        UserError: the file is not an export, or names the first difference.
    """
    files, canonical = read_archive(path)
    try:
        about = json.loads(files[ABOUT_NAME])
        is_current = isinstance(about, dict) and about.get("format") == FORMAT
        if isinstance(about, dict) and not is_current and "format" in about:
            raise UserError(f"{path}: has format {about['format']!r}; update evalkit to verify it")
        verified = _verify(path, files, canonical) if is_current else verify_legacy(path, files)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise UserError(f"{path}: is malformed ({type(error).__name__}: {error}); use the original archive") from error
    if chain is not None and verified.chain != chain.strip().lower():
        raise UserError(
            f"{path}: its log ends in {verified.chain}, not in the given hash {chain}; this is another state of the study, "
            "or a forged one"
        )
    return verified


def _verify(path: Path, files: Mapping[str, bytes], canonical: bool) -> Verified:
    wanted = {EVENTS_NAME, ERASURES_NAME, MANIFEST_NAME, DESIGN_NAME, ABOUT_NAME, *(f"{name}.csv" for name in COLUMNS)}
    present = files.keys() - {SUMS_NAME}
    if VOTES_NAME in present or CODEBOOK_NAME in present or SCORES_NAME in present:
        # exports of earlier versions have no tidy files
        wanted |= {VOTES_NAME, CODEBOOK_NAME, *({SCORES_NAME} & present)}
    # without such a table there must be no event about it, which the comparison with the rebuilt tables holds
    wanted -= {f"{name}.csv" for name in LATER} - present
    if present != wanted:
        odd = sorted(present ^ wanted)[0]
        raise UserError(f"{path}: {odd} is missing or unknown; the archive is not a complete export")
    design = json.loads(files[DESIGN_NAME])
    if not canonical or files[SUMS_NAME] != sums_of({name: data for name, data in files.items() if name != SUMS_NAME}):
        raise UserError(f"{path}: was packed again by another program; use the original archive")
    replay, events, erasures = Replay(), _lines(path, files, EVENTS_NAME), _lines(path, files, ERASURES_NAME)
    design_sha256 = sha256_of(design["design"])
    chain = _follow(path, EVENTS_NAME, events, design_sha256, 0, replay)
    if replay.start.get("design") != design_sha256:
        raise UserError(f"{path}: {DESIGN_NAME}: is not the design in the log (another sha256)")
    if erasures and not replay.locked:
        raise UserError(f"{path}: {ERASURES_NAME}: has events although the study was not locked")
    end = _follow(path, ERASURES_NAME, erasures, chain, len(events), replay)
    expected = {
        DESIGN_NAME: design_of_export(design["design"], str(replay.start["created_at"])),
        ABOUT_NAME: about_of(
            events=len(events), chain=chain, erasures=len(erasures), erasures_chain=end if erasures else None,
            simulated=sum(row["simulated"] == "1" for row in replay.participants.values()),
        ),
    }  # fmt: skip
    for name, data in expected.items():
        if files[name] != data:
            raise UserError(f"{path}: {name}: is not as the log states it")
    _check_manifest(path, files, replay)
    _check_tables(path, files, replay)
    limits = _check_tidy(path, files)
    limits += (
        (f"events 1 to {replay.unproven} were logged by an earlier version, so what they describe is proven only as of "
         f"{replay.start['created_at']}",)
        if replay.unproven else ()
    )  # fmt: skip
    return Verified(len(replay.judgments), len(events), chain, len(erasures), end if erasures else None, limits)


def _lines(path: Path, files: Mapping[str, bytes], name: str) -> list[dict[str, Any]]:
    """Return the events of a log file; every line must be as `export` writes it."""
    events = []
    for number, line in enumerate(files[name].split(b"\n")[:-1], 1):
        try:
            event = json.loads(line)
            whole = (
                isinstance(event, dict)
                and event.keys() == {"number", "kind", "content", "happened_at", "sha256"}
                and isinstance(event["kind"], str)
                and isinstance(event["content"], dict)
                and isinstance(event["happened_at"], str)
                and json.dumps(event, sort_keys=True).encode() == line
            )
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise UserError(f"{path}: {name}: line {number} is not an event as the export writes it")
        events.append(event)
    if files[name] and not files[name].endswith(b"\n"):
        raise UserError(f"{path}: {name}: its last line is incomplete")
    return events


def _follow(path: Path, name: str, events: Sequence[Mapping[str, Any]], begin: str, before: int, replay: Replay) -> str:
    """Apply events to the replay, each held to the hash of the one before, and return the last hash."""
    chain = begin
    for number, event in enumerate(events, before + 1):
        chain = event_hash(chain, number, event["kind"], event["content"], event["happened_at"])
        if event["number"] != number or event["sha256"] != chain:
            raise UserError(f"{path}: {name}: event {number} does not follow from the one before it")
        if (before > 0) != (event["kind"] in AFTER_LOCK and replay.locked):
            raise UserError(f"{path}: {name}: event {number} ({event['kind']}) is in the wrong file")
        if before == 0 and replay.locked:
            raise UserError(f"{path}: {name}: event {number} follows the lock, which is final")
        try:
            replay.apply(number, event["kind"], event["content"], event["happened_at"])
        except ReplayError as error:
            raise UserError(f"{path}: {name}: event {number}: {error}") from error
    return chain


def _check_manifest(path: Path, files: Mapping[str, bytes], replay: Replay) -> None:
    """Hold the manifest and the plan to the log, and the plan's images to the manifest."""
    if hashlib.sha256(files[MANIFEST_NAME]).hexdigest() != replay.manifest:
        raise UserError(f"{path}: {MANIFEST_NAME}: is not the manifest in the log (another sha256)")
    comparisons, further = read_csv(files["comparisons.csv"]), read_csv(files["further_images.csv"])
    # of a study that was amended, the plan is that before the first amendment
    planned = [{**row, "target": replay.planned_targets.get(row["id"], row["target"])} for row in comparisons]
    if plan_sha256(planned, further) != replay.start["plan"]:
        raise UserError(f"{path}: comparisons.csv: is not the plan in the log: cases, seeds, arms or images were changed")
    images = {
        (cell(image["case"]), cell(image["arm"]), cell(image["seed"])): image["sha256"]
        for image in json.loads(files[MANIFEST_NAME])["images"]
    }
    cells = {row["id"]: (row["case"], row["seed"]) for row in comparisons}
    shown = [(row["id"], row[f"arm_{side}"], row[f"image_{side}_sha256"]) for row in comparisons for side in "ab"]
    shown += [(row["comparison_id"], row["arm"], row["image_sha256"]) for row in further]
    for comparison, arm, sha256 in shown:
        case, seed = cells[comparison]
        if images.get((case, arm, seed)) != sha256:
            raise UserError(f"{path}: comparisons.csv: comparison {comparison} shows an image that is not the manifest's")


def _check_tables(path: Path, files: Mapping[str, bytes], replay: Replay) -> None:
    """Compare every table with the one rebuilt from the log, byte for byte."""
    filled = replay.filled()
    for name, columns in COLUMNS.items():
        file = f"{name}.csv"
        if name in LATER and file not in files:
            if replay.rows(name):
                raise UserError(f"{path}: {file}: is missing, but the log states {plural(len(replay.rows(name)), 'row')}")
            continue
        rows = read_csv(files[file])
        if name in ERASABLE:
            _check_erasable(path, file, rows, name, replay)
            rebuilt = rows
        elif name == "comparisons":
            rebuilt = [
                {**row, "filled": cell(filled.get(row["id"], 0)), "target": replay.targets.get(row["id"], row["target"])}
                for row in sorted(rows, key=_by_id)
            ]
        else:
            rebuilt = sorted(rows, key=_by_place) if name == "further_images" else replay.rows(name)
        if files[file] != write_csv(columns, [[row[column] for column in columns] for row in rebuilt]):
            raise UserError(f"{path}: {file}: {_difference(rows, rebuilt)}")


def _check_tidy(path: Path, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Compare votes.csv with the one that follows from the verified tables; return what about the tidy files is not proven."""
    if VOTES_NAME not in files:
        return ()
    if files[VOTES_NAME] != tidy_votes_file(files, files[MANIFEST_NAME]):
        raise UserError(f"{path}: {VOTES_NAME}: is not what follows from the tables that the log proves")
    if hashlib.sha256(files[CODEBOOK_NAME]).hexdigest() not in CODEBOOKS:
        raise UserError(f"{path}: {CODEBOOK_NAME}: is not a codebook of evalkit; update evalkit, or use the original archive")
    if SCORES_NAME in files:
        return (f"{SCORES_NAME} is not in the log; `evalkit score` computes the scores again from the images",)
    return ()


def _by_id(row: Mapping[str, str]) -> int:
    return int(row["id"])


def _by_place(row: Mapping[str, str]) -> tuple[int, int]:
    return int(row["comparison_id"]), int(row["place"])


def _check_erasable(path: Path, file: str, rows: Sequence[Mapping[str, str]], name: str, replay: Replay) -> None:
    """Hold the rows of a table that can be erased to the commitments of the log."""
    commitments = dict(getattr(replay, name))
    order = []
    for row in rows:
        key = int(row["participant_id"]), row.get("question", "")
        order.append(key)
        cells = [readings(row[column]) if column == "reply" else (row[column],) for column in COLUMNS[name] if column != "salt"]
        if commitments.pop(key, None) not in {commitment(reading, row["salt"]) for reading in product(*cells)}:
            raise UserError(f"{path}: {file}: the row of participant {key[0]} is not the one in the log")
    if commitments:
        raise UserError(f"{path}: {file}: the row of participant {min(commitments)[0]} is missing")
    if order != sorted(order):
        raise UserError(f"{path}: {file}: its rows are not in order")


def _difference(rows: Sequence[Mapping[str, str]], rebuilt: Sequence[Mapping[str, str]]) -> str:
    """Describe the first difference between a table and the one rebuilt from the log."""
    for number, (row, other) in enumerate(zip(rows, rebuilt, strict=False), 1):
        for column, value in other.items():
            if row.get(column) != value:
                return f"row {number}: {column} is {row.get(column)!r}, but the log states {value!r}"
    if len(rows) != len(rebuilt):
        return f"has {plural(len(rows), 'row')}, but the log states {len(rebuilt)}"
    return "is not written as an export writes it"
