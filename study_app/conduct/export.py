"""Export of a study: one zip file of tables, design, manifest and audit log."""

import json
import platform
from pathlib import Path
from typing import Any

from sqlalchemy import select

from analysis.database_rows import read_scores
from analysis.transfer.tidy import scores_csv
from db.models import Event, Study
from db.schema import newest
from db.session import Database, read, write
from evalkit import __version__
from evalkit.errors import UserError
from evalkit.run.manifest import FILE_NAME as MANIFEST_NAME
from study_app.conduct.export_archive import write_archive
from study_app.conduct.tidy_export import CODEBOOK_NAME, SCORES_NAME, VOTES_NAME, codebook_file, tidy_votes_file
from study_app.plan.audit_log import sha256_of
from study_app.plan.export_queries import read_tables
from study_app.plan.export_tables import COLUMNS, write_csv
from study_app.plan.initialize import find_study
from study_app.plan.log_start import is_started, start_log

EVENTS_NAME, ERASURES_NAME, ABOUT_NAME, DESIGN_NAME = "events.jsonl", "erasures.jsonl", "about.json", "design.json"
FORMAT = 2


def export_study(database: Database, run: Path, target: Path) -> int:
    """Write the study of a run to a zip file, atomically, and return the number of judgments in it.

    Tables are CSV files with a header, ids as in the database, times in UTC (ISO 8601). SHA256SUMS holds the hash of every
    other file (`sha256sum -c`). votes.csv has one row per vote with arms instead of codes, scores.csv one per score, and
    codebook.md explains their columns. events.jsonl is the audit log, from which `verify` rebuilds the tables;
    erasures.jsonl holds the erasures after the lock. Access tokens, completion codes, recruiters' ids and the study's secret
    are not exported.

    Raises:
        UserError: the study has not been initialized, its manifest was exchanged, or the file cannot be written.
    """
    study = find_study(database, run)
    if study is None:
        raise UserError(f"{run}: the study has not been initialized; run `evalkit study init {run}`")
    if study.locked_at is None:
        with write(database) as session:
            start_log(session, study.id)
    with read(database) as session:
        # again, in the same snapshot as everything else
        study = session.get_one(Study, study.id)
        proven = is_started(session, study.id)
        tables = read_tables(session, study.id)
        scores = read_scores(session, study.run_id)
        log = session.scalars(select(Event).where(Event.study_id == study.id).order_by(Event.number)).all()
    end = next((event.number for event in log if event.kind == "locked"), len(log))
    events, erasures = log[:end], log[end:]
    files = {f"{name}.csv": write_csv(COLUMNS[name], rows) for name, rows in tables.items()}
    files[MANIFEST_NAME] = (run / MANIFEST_NAME).read_bytes()
    files[VOTES_NAME], files[CODEBOOK_NAME] = tidy_votes_file(files, files[MANIFEST_NAME]), codebook_file()
    if len(scores):
        files[SCORES_NAME] = scores_csv(scores).encode()
    files[DESIGN_NAME] = design_of_export(study.design, study.created_at.isoformat())
    files[EVENTS_NAME] = b"".join(_event(event) for event in events)
    chain = events[-1].sha256 if events else study.design_sha256
    simulated = sum(row[COLUMNS["participants"].index("simulated")] == "1" for row in tables["participants"])
    if proven:
        files[ERASURES_NAME] = b"".join(_event(event) for event in erasures)
        files[ABOUT_NAME] = about_of(
            events=len(events), chain=chain, erasures=len(erasures),
            erasures_chain=erasures[-1].sha256 if erasures else None, simulated=simulated,
        )  # fmt: skip
    else:
        # locked by an earlier version, whose log is final: the format of then
        files[EVENTS_NAME] += b"".join(_event(event) for event in erasures)
        files[ABOUT_NAME] = _json(
            {"evalkit": __version__, "python": platform.python_version(), "schema": newest(),
             "events": len(log), "chain": log[-1].sha256 if log else study.design_sha256,
             "simulated_participants": simulated}
        )  # fmt: skip
    write_archive(target, files)
    return len(tables["judgments"])


def design_of_export(design: object, created_at: str) -> bytes:
    """Return the content of design.json."""
    return _json({"design": design, "sha256": sha256_of(design), "created_at": created_at})


def about_of(events: int, chain: str, erasures: int, erasures_chain: str | None, simulated: int) -> bytes:
    """Return the content of about.json: everything in it follows from the log."""
    return _json(
        {"format": FORMAT, "events": events, "chain": chain, "erasures": erasures, "erasures_chain": erasures_chain,
         "simulated_participants": simulated}
    )  # fmt: skip


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _event(event: Event) -> bytes:
    content = {
        "number": event.number, "kind": event.kind, "content": event.content,
        "happened_at": event.happened_at.isoformat(), "sha256": event.sha256,
    }  # fmt: skip
    return (json.dumps(content, sort_keys=True) + "\n").encode()
