"""Start of a study's log: binds design, manifest and plan; adopts studies begun before the log carried everything."""

import secrets
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Event, Participant, Reply, Run, Screen, Study
from db.utc import utc_now
from evalkit import __version__
from study_app.plan.audit_log import append
from study_app.plan.export_queries import read_tables
from study_app.plan.export_tables import COLUMNS, ERASABLE, cell, commitment, plan_sha256, write_csv
from study_app.plan.replay import STARTS

LOG_FORMAT = 2


def is_started(session: Session, study_id: int) -> bool:
    """Return whether the log carries everything that an export contains."""
    start = select(Event.id).where(Event.study_id == study_id, Event.kind.in_(STARTS)).limit(1)
    return session.scalar(start) is not None


def start_log(session: Session, study_id: int) -> None:
    """Start the log of a study once; call it inside `write`, before anything else is logged.

    A study that has participants already was begun by an earlier version: the event then holds its tables as they are now, and
    an export can prove them only as of now. A study locked by an earlier version stays as it is.
    """
    if is_started(session, study_id):
        return
    study = session.get_one(Study, study_id, with_for_update={"key_share": True})
    if study.locked_at is not None:
        return
    tables = read_tables(session, study_id)
    manifest = session.execute(select(Run.manifest_sha256).where(Run.id == study.run_id)).scalar_one()
    content: dict[str, object] = {
        "format": LOG_FORMAT, "evalkit": __version__, "design": study.design_sha256, "manifest": manifest,
        "plan": plan_sha256(*(_by_column(name, tables[name]) for name in ("comparisons", "further_images"))),
    }  # fmt: skip
    has_participants = session.scalar(select(Participant.id).where(Participant.study_id == study_id).limit(1)) is not None
    has_events = session.scalar(select(Event.id).where(Event.study_id == study_id).limit(1)) is not None
    if not has_participants and not has_events:
        append(session, study_id, "begun", content, study.created_at)
        return
    _salt(session, study_id)
    tables = read_tables(session, study_id)
    content["created_at"] = study.created_at.isoformat()
    content["tables"] = {
        name: write_csv(COLUMNS[name], rows).decode()
        for name, rows in tables.items()
        if name not in (*ERASABLE, "comparisons", "further_images")
    }
    content["screens"] = [[int(row[0]), "", commitment(row[:-1], row[-1])] for row in tables["screens"]]
    content["replies"] = [[int(row[0]), row[1], commitment(row[:-1], row[-1])] for row in tables["replies"]]
    append(session, study_id, "adopted", content, utc_now())


def bind_manifest(session: Session, study_id: int, manifest_sha256: str) -> None:
    """Log a manifest that differs from the last logged one, such as one that gained images not in the study."""
    if not is_started(session, study_id) or session.get_one(Study, study_id).locked_at is not None:
        return
    kinds = (*STARTS, "manifest")
    bound = session.scalars(
        select(Event).where(Event.study_id == study_id, Event.kind.in_(kinds)).order_by(Event.number.desc()).limit(1)
    ).one()
    if bound.content.get("sha256", bound.content.get("manifest")) != manifest_sha256:
        append(session, study_id, "manifest", {"sha256": manifest_sha256}, utc_now())


def screen_commitment(screen: Screen) -> str:
    """Return the commitment to a row of screens."""
    return commitment(_cells(screen, COLUMNS["screens"]), str(screen.salt))


def reply_commitment(reply: Reply) -> str:
    """Return the commitment to a row of replies."""
    return commitment(_cells(reply, COLUMNS["replies"]), str(reply.salt))


def new_salt() -> str:
    """Return a salt for a commitment."""
    return secrets.token_hex(16)


def _cells(row: Screen | Reply, columns: Iterable[str]) -> list[str]:
    return [cell(getattr(row, column)) for column in columns if column != "salt"]


def _salt(session: Session, study_id: int) -> None:
    """Give salts to rows made before commitments existed."""
    mine = select(Participant.id).where(Participant.study_id == study_id)
    for screen in session.scalars(select(Screen).where(Screen.participant_id.in_(mine), Screen.salt.is_(None))):
        screen.salt = new_salt()
    for reply in session.scalars(select(Reply).where(Reply.participant_id.in_(mine), Reply.salt.is_(None))):
        reply.salt = new_salt()
    session.flush()


def _by_column(name: str, rows: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(COLUMNS[name], row, strict=True)) for row in rows]
