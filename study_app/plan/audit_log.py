"""Hash-chained audit log of a study.

Every event carries the sha256 of the previous one; the first event continues the hash of the design. Events are written
once, at the end of the transaction they belong to, so they are stored or rolled back with the changes they describe.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from db.models import Event, Study
from db.session import before_commit, writers_meet

# The table instead of the class: no session reads the new events again.
_EVENTS = Event.metadata.tables["events"]
_E = _EVENTS.c
# Not FOR UPDATE: whoever adds a row that refers to the study holds its key, and two of them would wait for each other.
_LOCK = select(Study.id).where(Study.id == bindparam("study")).with_for_update(key_share=True)
_LAST = (
    select(Study.design_sha256, Study.locked_at, _E.number, _E.sha256)
    .outerjoin(_EVENTS, _E.study_id == Study.id)
    .where(Study.id == bindparam("study"))
    .order_by(_E.number.desc())
    .limit(1)
)
_ADD = insert(_EVENTS)
_PENDING = "pending events"
# the only events that may follow "locked"; they form a second chain
AFTER_LOCK = frozenset({"erased"})


def append(session: Session, study_id: int, kind: str, content: Mapping[str, object], now: datetime) -> None:
    """Add an event to a study's log at the end of the transaction. Call it inside `write`."""
    pending: list[tuple[int, str, dict[str, object], datetime]] | None = session.info.get(_PENDING)
    if pending is None:
        pending = session.info[_PENDING] = []
        before_commit(session, _write_pending)
    pending.append((study_id, kind, dict(content), now))


def event_hash(previous: str, number: int, kind: str, content: Mapping[str, object], happened_at: str) -> str:
    """Return the sha256 of an event: of the previous hash (the design's, for the first) and its canonical JSON."""
    text = canonical([number, kind, dict(content), happened_at])
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def canonical(content: object) -> str:
    """Return JSON with sorted keys and without spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sha256_of(content: object) -> str:
    """Return the sha256 of a content's canonical JSON."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _write_pending(session: Session) -> None:
    """Write the transaction's events.

    On PostgreSQL the writers of one study wait for each other here, since each event needs the previous hash. It is the last
    lock that a transaction takes.
    """
    pending: list[tuple[int, str, dict[str, object], datetime]] = session.info.pop(_PENDING)
    for study_id in dict.fromkeys(item[0] for item in pending):
        if writers_meet(session):
            # a separate query: one that waits for a lock sees other tables as they were before it waited
            session.execute(_LOCK, {"study": study_id})
        study = session.execute(_LAST, {"study": study_id}).one()
        number, previous = (study.number, study.sha256) if study.number is not None else (0, study.design_sha256)
        mine = [item for item in pending if item[0] == study_id]
        locked = study.locked_at is not None and all(kind != "locked" for _, kind, _, _ in mine)
        rows = []
        for _, kind, content, now in mine:
            if locked and kind not in AFTER_LOCK:
                raise RuntimeError(f"event {kind!r} after the study was locked")
            locked = locked or kind == "locked"
            number += 1
            previous = event_hash(previous, number, kind, content, now.isoformat())
            rows.append(
                {"study_id": study_id, "number": number, "kind": kind, "content": content, "happened_at": now,
                 "sha256": previous}
            )  # fmt: skip
        session.execute(_ADD, rows)
