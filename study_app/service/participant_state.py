"""Participant state: a participant's columns and history, one query each."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, case, exists, func, select
from sqlalchemy.orm import Session

from db.models import DatabaseTable

# Tables instead of classes for queries of every page turn: plain rows are several times as fast.
ASSIGNMENTS, COMPARISONS, JUDGMENTS, PARTICIPANTS, STUDIES = (
    DatabaseTable.metadata.tables[name] for name in ("assignments", "comparisons", "judgments", "participants", "studies")
)


@dataclass(frozen=True)
class Person:
    """A participant: the columns that a page turn needs, and of their study whether it hands out and takes anything at all."""

    id: int
    study_id: int
    token_sha256: str
    seed: int
    completion_code: str
    language: str | None
    consented_at: datetime | None
    screened_at: datetime | None
    instructed_at: datetime | None
    practiced_at: datetime | None
    finished_at: datetime | None
    questioned_at: datetime | None
    excluded_at: datetime | None
    paused_at: datetime | None
    locked_at: datetime | None


@dataclass(frozen=True)
class Past:
    """What a participant has had so far, all in one query."""

    judged: int
    # the last place in their order; None before there is one
    last: int | None
    # how often either image was on their left
    first_left: int
    second_left: int
    # of all that were theirs, how many have room for another, and how many are still to be judged
    with_room: int
    to_judge: int
    # the assignment that is open
    open_id: int | None
    # how many comparisons of the study have room at this moment
    free: int
    # whether anyone's place in the study was held for so long that it is to be freed
    any_lapsed: bool

    @property
    def could_judge(self) -> int:
        """Return how many comparisons they could judge, the open one included, where the design limits nothing."""
        return self.free - self.with_room + self.to_judge

    @property
    def position(self) -> int:
        """Return the next place in their order."""
        return 0 if self.last is None else self.last + 1


def how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return the number of rows that meet a condition."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


_A, _C, _J, _P, _S = (table.c for table in (ASSIGNMENTS, COMPARISONS, JUDGMENTS, PARTICIPANTS, STUDIES))
_PEOPLE = select(
    *(_S[field.name] if field.name in ("paused_at", "locked_at") else _P[field.name] for field in fields(Person))
).join(STUDIES, _S.id == _P.study_id)
_WHO = _PEOPLE.where(_P.id == bindparam("who"))
_WHO_LOCKED = _WHO.with_for_update(of=PARTICIPANTS)
_WHOSE = _PEOPLE.where(_P.token_sha256 == bindparam("token"), _P.study_id == bindparam("study"))
LIVE = _A.state.in_(("open", "done"))
SIDES = how_many(LIVE & (_A.left == 0)), how_many(LIVE & (_A.left == 1))
LAPSED_WITH_ROOM = (_A.state == "expired") & (_J.id.is_(None)) & (_C.filled < _C.target)
WITH_PAST = ASSIGNMENTS.join(COMPARISONS, _C.id == _A.comparison_id).outerjoin(JUDGMENTS, _J.assignment_id == _A.id)
_EVERY, _ANY, _OF_ANY = COMPARISONS.alias("every"), ASSIGNMENTS.alias("any"), COMPARISONS.alias("of_any")
_PAST = (
    select(
        func.count(_J.id),
        func.max(_A.position),
        *SIDES,
        how_many(_C.filled < _C.target),
        how_many((_A.state == "open") | LAPSED_WITH_ROOM),
        func.max(case((_A.state == "open", _A.id))),
        select(func.count())
        .where(_EVERY.c.study_id == bindparam("study"), _EVERY.c.filled < _EVERY.c.target)
        .scalar_subquery(),
        exists().where(
            _ANY.c.state == "open",
            _ANY.c.expires_at < bindparam("now"),
            _OF_ANY.c.id == _ANY.c.comparison_id,
            _OF_ANY.c.study_id == bindparam("study"),
        ),
    )
    .select_from(WITH_PAST)
    .where(_A.participant_id == bindparam("who"))
)


def find_person(session: Session, participant_id: int, alone: bool = True) -> Person:
    """Return a participant; `alone` makes their other tabs wait."""
    return Person(*session.execute(_WHO_LOCKED if alone else _WHO, {"who": participant_id}).one())


def whose(session: Session, study_id: int, token_sha256: str) -> Person | None:
    """Return the participant whose token has this hash, None for an unknown token."""
    row = session.execute(_WHOSE, {"token": token_sha256, "study": study_id}).first()
    return None if row is None else Person(*row)


def past_of(session: Session, person: Person, now: datetime) -> Past:
    """Return what a participant has had so far."""
    asked = {"who": person.id, "study": person.study_id, "now": now}
    return Past(*session.execute(_PAST, asked).one())
