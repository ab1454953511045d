"""Logged actions on a running study: exclude, include, void, pause, resume, lock, erase."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from db.models import Assignment, Identity, Judgment, Participant, Reply, Screen, Study
from evalkit.errors import UserError
from study_app.conduct.careless_rules import broken_rules
from study_app.plan.audit_log import append
from study_app.service.assignment import free_place, take_place
from study_app.service.erased import remember_erased


@dataclass(frozen=True)
class Excluded:
    """An excluded participant and the reason."""

    participant_id: int
    because: str


def exclude(session: Session, study_id: int, participant_id: int, because: str, now: datetime) -> None:
    """Exclude a participant: their judgments stay, marked, and their places are freed. Call it inside `write`.

    Raises:
        UserError: the study has no such participant, they are already excluded, the reason is missing, or the study is locked.
    """
    participant = _participant(session, study_id, participant_id)
    _refuse_locked(session, study_id)
    if not because.strip():
        raise UserError("exclude: the reason is missing; give one with --because, it is part of the export")
    if participant.excluded_at is not None:
        raise UserError(
            f"participant {participant_id}: is already excluded ({participant.excluded_because}); `include` reverses that"
        )
    participant.excluded_at, participant.excluded_because = now, because
    holding = _holding(session, participant_id, "open", "done")
    for assignment in holding:
        free_place(session, assignment)
    content = {"participant": participant_id, "because": because, "freed": [assignment.id for assignment in holding]}
    append(session, study_id, "excluded", content, now)


def exclude_by_rules(session: Session, study_id: int, now: datetime) -> list[Excluded]:
    """Exclude all participants who break a rule of the design, and return them with the reasons."""
    excluded = []
    for participant_id, because in broken_rules(session, study_id):
        exclude(session, study_id, participant_id, because, now)
        excluded.append(Excluded(participant_id, because))
    return excluded


def include(session: Session, study_id: int, participant_id: int, now: datetime) -> None:
    """Reverse an exclusion; judgments whose places were reassigned stay outside the target.

    Raises:
        UserError: the study has no such participant, they are not excluded, or the study is locked.
    """
    participant = _participant(session, study_id, participant_id)
    _refuse_locked(session, study_id)
    if participant.excluded_at is None:
        raise UserError(f"participant {participant_id}: is not excluded; `evalkit study status` lists who is")
    participant.excluded_at = participant.excluded_because = None
    restored, surplus = [], []
    for assignment in _holding(session, participant_id, "expired"):
        judgment = session.scalar(select(Judgment).where(Judgment.assignment_id == assignment.id, ~Judgment.surplus))
        if judgment is not None:
            if take_place(session, assignment.comparison_id):
                assignment.state = "done"
                restored.append(assignment.id)
            else:
                judgment.surplus = True
                surplus.append(assignment.id)
    session.flush()
    append(session, study_id, "included", {"participant": participant_id, "restored": restored, "surplus": surplus}, now)


def void(session: Session, study_id: int, participant_id: int, now: datetime) -> int:
    """Free the reservations of a participant who will not return, and return their number."""
    _participant(session, study_id, participant_id)
    _refuse_locked(session, study_id)
    held = _holding(session, participant_id, "open")
    for assignment in held:
        free_place(session, assignment)
    append(session, study_id, "voided", {"participant": participant_id, "freed": [assignment.id for assignment in held]}, now)
    return len(held)


def pause(session: Session, study_id: int, now: datetime) -> None:
    """Assign no comparison until `resume`; answers to open pages are still accepted."""
    study = _refuse_locked(session, study_id)
    if study.paused_at is not None:
        raise UserError("pause: the study is already paused; `resume` continues it")
    study.paused_at = now
    append(session, study_id, "paused", {}, now)


def resume(session: Session, study_id: int, now: datetime) -> None:
    """Assign comparisons again after a pause."""
    study = _refuse_locked(session, study_id)
    if study.paused_at is None:
        raise UserError("resume: the study is not paused; `pause` pauses it")
    study.paused_at = None
    append(session, study_id, "resumed", {}, now)


def lock(session: Session, study_id: int, now: datetime) -> None:
    """End the study permanently: no judgment is accepted any more."""
    study = _refuse_locked(session, study_id)
    study.locked_at = now
    append(session, study_id, "locked", {}, now)


def erase(session: Session, study_id: int, participant_id: int, now: datetime) -> None:
    """Erase a participant's identity: recruiter id, access token, completion code, screen and questionnaire replies.

    Their judgments stay, without a link to the person, and so does the language of their pages, which the log holds. Salted
    hashes of the recruiter id and the token are kept to recognise them if they return.
    """
    participant = _participant(session, study_id, participant_id)
    remember_erased(session, participant)
    session.execute(delete(Identity).where(Identity.participant_id == participant_id))
    participant.token_sha256 = secrets.token_hex(32)
    participant.completion_code = secrets.token_hex(8)
    for table in (Reply, Screen):
        session.execute(delete(table).where(table.participant_id == participant_id))
    append(session, study_id, "erased", {"participant": participant_id}, now)


def _participant(session: Session, study_id: int, participant_id: int) -> Participant:
    """Return a participant, locked before the study row, in the same order as an answer, to avoid a deadlock."""
    participant = session.scalar(
        select(Participant).where(Participant.id == participant_id, Participant.study_id == study_id).with_for_update()
    )
    if participant is None:
        known = session.scalar(select(func.count()).select_from(Participant).where(Participant.study_id == study_id)) or 0
        raise UserError(
            f"participant {participant_id}: the study has no participant of this number; it has {known} participants"
        )
    return participant


def _refuse_locked(session: Session, study_id: int) -> Study:
    study = session.scalars(select(Study).where(Study.id == study_id).with_for_update(key_share=True)).one()
    if study.locked_at is not None:
        raise UserError(
            f"the study was locked on {study.locked_at:%Y-%m-%d %H:%M} UTC and cannot be changed any more; "
            "only `erase` is possible"
        )
    return study


def _holding(session: Session, participant_id: int, *states: str) -> list[Assignment]:
    query = select(Assignment).where(Assignment.participant_id == participant_id, Assignment.state.in_(states))
    return list(session.scalars(query.order_by(Assignment.id)))
