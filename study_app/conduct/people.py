"""Participants with their recruiter's ids and completion codes, for payment; never part of an export."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Assignment, Event, Identity, Judgment, Participant, Reply, Screen, Study
from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from study_app.conduct.careless_rules import Conduct, conduct_of_all
from study_app.plan.design import Design
from study_app.plan.entry_checks import PREFIX
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
    # by the design's rule; None without one, or if it is not met
    bonus: float | None = None


def people_of(session: Session, study_id: int) -> list[PersonRecord]:
    """Return all participants of a study, in the order they arrived.

    `state` is "arrived", "refused" (by the screen check), "judging", "finished", "excluded" or "erased". `minutes` is the time
    from consent to the last answer.
    """
    study = session.get_one(Study, study_id)
    design = Design.of(study)
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
    out = set(session.scalars(select(Reply.participant_id).where(Reply.question.startswith(PREFIX), Reply.reply == "out")))
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
        is_refused = (failure is not None and design.refuses) or person.id in out
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
                code=None if person.id in erased else _code(design, person, judged, is_refused, study.locked_at is not None),
                simulated=person.simulated,
                bonus=_bonus(design, person, counts),
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


def write_bonuses(file: Path, people: Sequence[PersonRecord]) -> int:
    """Write recruiter's id and amount of everyone with a bonus, a line each, as Prolific's bulk payment takes them.

    Return how many there are; only the file's owner can read it.
    """
    paid = [person for person in people if person.bonus is not None and person.external_id is not None]
    lines = [f"{person.external_id},{person.bonus:.2f}\n" for person in paid]
    write_atomic(file, "".join(lines).encode(), mode=0o600)
    return len(paid)


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


def _bonus(design: Design, person: Participant, counts: Conduct | None) -> float | None:
    """Return the bonus that a participant earned."""
    rule = design.entry.bonus
    if rule is None or counts is None or person.excluded_at is not None or counts.judged < rule.judged:
        return None
    checks = sum(counts.checked.values())
    return rule.amount if sum(counts.passed.values()) >= rule.checks * checks else None


def _code(design: Design, person: Participant, judged: int, is_refused: bool, is_locked: bool) -> str | None:
    """Return the code that a participant was shown, by what they earned; None for those who were shown none."""
    if judged and is_locked and person.finished_at is None:
        return design.entry.codes.get("partly")
    if judged:
        return design.entry.completion_code or person.completion_code
    return design.entry.codes.get("screened_out") if is_refused else None


def _minutes(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds() / 60, 1)
