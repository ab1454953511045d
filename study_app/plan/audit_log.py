"""Hash-chained audit log of a study."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from db.models import Event, Study
from db.session import writers_meet

# Of the table, not of the class: nobody reads the event again in this session.
_EVENTS = Event.metadata.tables["events"]
_E = _EVENTS.c
_LAST = select(_E.number, _E.sha256).where(_E.study_id == bindparam("study")).order_by(_E.number.desc()).limit(1)
_ADD = insert(_EVENTS)


def append(session: Session, study_id: int, kind: str, content: Mapping[str, object], now: datetime) -> None:
    """Add an event to a study's log. Call it inside `write`: it is kept or undone together with what it tells of.

    On PostgreSQL the writers of one study wait for each other here, since each event needs the hash of the one before.
    """
    if writers_meet(session):
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
    last = session.execute(_LAST, {"study": study_id}).first()
    number, before = (last.number + 1, last.sha256) if last is not None else (1, session.get_one(Study, study_id).design_sha256)
    event = {
        "study_id": study_id, "number": number, "kind": kind, "content": dict(content), "happened_at": now,
        "sha256": event_hash(before, number, kind, content, now.isoformat()),
    }  # fmt: skip
    session.execute(_ADD, event)


def event_hash(before: str, number: int, kind: str, content: Mapping[str, object], happened_at: str) -> str:
    """Return the sha256 of an event: of the hash before it (of the design, for the first) and its own canonical JSON."""
    told = [number, kind, dict(content), happened_at]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()
