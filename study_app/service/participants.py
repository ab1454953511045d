"""Participants: joining, identification by token, completed steps."""

import hashlib
import secrets
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Identity, Participant, Screen
from study_app.plan.audit_log import append
from study_app.plan.design import Design
from study_app.plan.entry_checks import Check, Result, results_of, state_of
from study_app.plan.flow import Progress
from study_app.plan.recruitment import Recruited
from study_app.service.participant_state import Person, whose

# no letters that look like digits, since people copy the code by hand
_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CODE_LENGTH = 8
Mark = Literal["consented_at", "screened_at", "instructed_at", "practiced_at", "finished_at", "questioned_at"]


def add_participant(
    session: Session,
    study_id: int,
    now: datetime,
    seed: int | None = None,
    simulated: bool = False,
    language: str | None = None,
) -> tuple[Participant, str]:
    """Add a participant and return them with the token their browser keeps; the database only keeps its hash."""
    token = secrets.token_urlsafe(32)
    participant = Participant(
        study_id=study_id,
        token_sha256=hash_token(token),
        seed=secrets.randbits(62) if seed is None else seed,
        simulated=simulated,
        completion_code="".join(secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_LENGTH)),
        arrived_at=now,
        language=language,
    )
    session.add(participant)
    session.flush()
    content = {"participant": participant.id, "simulated": simulated, "seed": participant.seed, "language": language}
    append(session, study_id, "arrived", content, now)
    return participant, token


def welcome_recruited(
    session: Session, study_id: int, now: datetime, recruited: Recruited, language: str | None
) -> tuple[Participant, str]:
    """Return the participant a recruiter sent, the same one when they come again, with a token for the browser they use now.

    The token of the browser they used before is good no longer.
    """
    known = find_identity(session, study_id, recruited)
    if known is None:
        participant, token = add_participant(session, study_id, now, language=language)
        session.add(
            Identity(
                participant_id=participant.id,
                study_id=study_id,
                source=recruited.source,
                external_id=recruited.external_id,
                session_id=recruited.session_id,
            )
        )
        session.flush()
        return participant, token
    participant, token = session.get_one(Participant, known.participant_id), secrets.token_urlsafe(32)
    participant.token_sha256, known.session_id = hash_token(token), recruited.session_id
    session.flush()
    return participant, token


def find_identity(session: Session, study_id: int, recruited: Recruited) -> Identity | None:
    """Return the identity that a recruiter's id names, None for one who never came."""
    return session.scalar(
        select(Identity).where(
            Identity.study_id == study_id,
            Identity.source == recruited.source,
            Identity.external_id == recruited.external_id,
        )
    )


def find_participant(session: Session, study_id: int, token: str) -> Person | None:
    """Return the participant of a token, None for an unknown token."""
    return whose(session, study_id, hash_token(token))


def mark(session: Session, participant_id: int, step: Mark, now: datetime) -> None:
    """Note when the participant finished a step; the first time counts."""
    participant = session.get_one(Participant, participant_id)
    if getattr(participant, step) is None:
        setattr(participant, step, now)
        content = {"participant": participant_id, "step": step.removesuffix("_at")}
        append(session, participant.study_id, "step", content, now)


def progress_of(session: Session, participant: Person, design: Design) -> Progress:
    """Return the steps a participant has done."""
    screen = None if design.screen is None else session.get(Screen, participant.id)
    states = _states(session, participant, design)
    out = next((check for check, state in states.items() if state == "out"), None)
    refused_by_screen = screen is not None and screen.failure is not None and design.refuses
    return Progress(
        consented=participant.consented_at is not None,
        screened=design.screen is None or participant.screened_at is not None,
        refused=refused_by_screen or out is not None,
        refused_because="screen" if refused_by_screen or out is None else out,
        asked_before=states.get("before", "passed") == "passed",
        comprehended=states.get("comprehension", "passed") == "passed",
        instructed=participant.instructed_at is not None,
        practiced=participant.practiced_at is not None,
        finished=participant.finished_at is not None,
        questioned=not design.after or participant.questioned_at is not None,
    )


def _states(session: Session, participant: Person, design: Design) -> dict[str, Result | None]:
    """Return the state of each check before the comparisons that the design has; nothing once practice is over."""
    checks: dict[Check, bool] = {
        "before": bool(design.before), "comprehension": bool(design.comprehension.questions),
        "practice": design.practice.pass_mark is not None,
    }  # fmt: skip
    if participant.practiced_at is not None or not any(checks.values()):
        return {}
    results = results_of(session, participant.id)
    return {check: state_of(results, check) for check, has_it in checks.items() if has_it}


def hash_token(token: str) -> str:
    """Return what the database keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
