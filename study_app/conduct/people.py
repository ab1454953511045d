"""Participants with their recruiter's ids and completion codes, for payment; never part of an export."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Assignment, Event, Identity, Judgment, Participant, Screen, Study
from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from study_app.conduct.careless_rules import conduct_of_all
from study_app.plan.design import Design
from study_app.plan.export_tables import cell, write_csv

# states in which a recruiter's submission was given up (Prolific's CSV file)
RETURNED = frozenset({"RETURNED", "TIMED-OUT", "TIMED OUT"})
_RETURNED_COLUMNS = ("Participant id", "Status")


@dataclass(frozen=True)
class PersonRecord:
    """A participant as a researcher needs to see them to pay them; `code` is None until something was judged."""

    participant: int
    external_id: str | None
    session_id: str | None
    state: str
    judged: int
    minutes: float | None
    checks_passed: int
    checks: int
    code: str | None
    simulated: bool


def people_of(session: Session, study_id: int) -> list[PersonRecord]:
    """Return all participants of a study, in the order they arrived.

    `state` is "arrived", "refused" (by the screen check), "judging", "finished", "excluded" or "erased". `minutes` is the time
    from consent to the last answer.
    """
    design = Design.of(session.get_one(Study, study_id))
    conduct = {person.participant_id: person for person in conduct_of_all(session, study_id)}
    last: dict[int, datetime] = {
        who: moment
        for who, moment in session.execute(
            select(Assignment.participant_id, func.max(Judgment.judged_at))
            .join(Judgment, Judgment.assignment_id == Assignment.id)
            .join(Participant, Participant.id == Assignment.participant_id)
            .where(Participant.study_id == study_id)
            .group_by(Assignment.participant_id)
        )
    }
    erased = {
        int(content["participant"])
        for content in session.scalars(select(Event.content).where(Event.study_id == study_id, Event.kind == "erased"))
    }
    rows = session.execute(
        select(Participant, Identity, Screen.failure)
        .outerjoin(Identity, Identity.participant_id == Participant.id)
        .outerjoin(Screen, Screen.participant_id == Participant.id)
        .where(Participant.study_id == study_id)
        .order_by(Participant.id)
    ).all()
    people = []
    for person, identity, failure in rows:
        counts, latest = conduct.get(person.id), last.get(person.id)
        judged = 0 if counts is None else counts.judged
        is_refused = failure is not None and design.refuses
        people.append(
            PersonRecord(
                participant=person.id,
                external_id=None if identity is None else identity.external_id,
                session_id=None if identity is None else identity.session_id,
                state="erased" if person.id in erased else _state(person, judged, is_refused),
                judged=judged,
                minutes=_minutes(person.consented_at, latest),
                checks_passed=0 if counts is None else sum(counts.passed.values()),
                checks=0 if counts is None else sum(counts.checked.values()),
                code=(design.entry.completion_code or person.completion_code) if judged and person.id not in erased else None,
                simulated=person.simulated,
            )
        )
    return people


def resolve_participant(session: Session, study_id: int, name: str) -> int:
    """Return the number of a participant given by number or by their recruiter's id; digits alone are a number.

    Raises:
        UserError: the study has no participant with this recruiter's id.
    """
    if name.isascii() and name.isdigit():
        return int(name)
    who = session.scalar(select(Identity.participant_id).where(Identity.study_id == study_id, Identity.external_id == name))
    if who is None:
        raise UserError(f"participant {name!r}: no participant has this recruiter's id; `evalkit study people` lists all")
    return who


def returned_ids(file: Path) -> list[str]:
    """Return the ids of participants who gave up, from a CSV file of submissions that Prolific exports.

    Raises:
        UserError: the file cannot be read or lacks a column.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: is not a readable CSV file ({error}); export the submissions again") from error
    missing = [name for name in _RETURNED_COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise UserError(f"{file}: has no column {missing[0]!r}; give the CSV file of submissions that Prolific exports")
    return [row["Participant id"] for row in rows if str(row["Status"]).strip().upper() in RETURNED]


def write_people(file: Path, people: Sequence[PersonRecord]) -> None:
    """Write participants to a CSV file that its owner alone can read."""
    columns = [field.name for field in fields(PersonRecord)]
    write_atomic(file, write_csv(columns, [[cell(value) for value in astuple(person)] for person in people]), mode=0o600)


def _state(person: Participant, judged: int, is_refused: bool) -> str:
    if person.excluded_at is not None:
        return "excluded"
    if is_refused:
        return "refused"
    if judged == 0:
        return "arrived"
    return "judging" if person.finished_at is None else "finished"


def _minutes(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds() / 60, 1)
