"""What a participant has had so far, in one query, since every page turn needs all of it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, case, func, select
from sqlalchemy.orm import Session

from db.models import Table
from study_app.plan.design import design_of

# Tables instead of classes where a query runs on every page turn: plain rows take a fraction of the time.
ASSIGNMENTS, COMPARISONS, JUDGMENTS, PARTICIPANTS, STUDIES = (
    Table.metadata.tables[name] for name in ("assignments", "comparisons", "judgments", "participants", "studies")
)


@dataclass(frozen=True)
class Person:
    """What handing out needs to know of a participant, and of their study: whether it hands out at all."""

    id: int
    study_id: int
    seed: int
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
_WHO = (
    select(_P.id, _P.study_id, _P.seed, _P.excluded_at, _S.paused_at, _S.locked_at)
    .join(STUDIES, _S.id == _P.study_id)
    .where(_P.id == bindparam("who"))
)
_WHO_LOCKED = _WHO.with_for_update(of=PARTICIPANTS)
LIVE = _A.state.in_(("open", "done"))
SIDES = how_many(LIVE & (_A.left == 0)), how_many(LIVE & (_A.left == 1))
LAPSED_WITH_ROOM = (_A.state == "expired") & (_J.id.is_(None)) & (_C.filled < _C.target)
WITH_PAST = ASSIGNMENTS.join(COMPARISONS, _C.id == _A.comparison_id).outerjoin(JUDGMENTS, _J.assignment_id == _A.id)
_EVERY = COMPARISONS.alias("every")
_PAST = (
    select(
        func.count(_J.id),
        func.max(_A.position),
        *SIDES,
        how_many(_C.filled < _C.target),
        how_many((_A.state == "open") | LAPSED_WITH_ROOM),
        func.max(case((_A.state == "open", _A.id))),
        # all comparisons of a study have the target of its design: so an index alone can count
        select(func.count())
        .where(_EVERY.c.study_id == bindparam("study"), _EVERY.c.filled < bindparam("target"))
        .scalar_subquery(),
    )
    .select_from(WITH_PAST)
    .where(_A.participant_id == bindparam("who"))
)


def find_person(session: Session, participant_id: int, alone: bool = True) -> Person:
    """Return a participant for handing out to; `alone` makes their other tabs wait."""
    return Person(*session.execute(_WHO_LOCKED if alone else _WHO, {"who": participant_id}).one())


def past_of(session: Session, person: Person) -> Past:
    """Return what a participant has had so far."""
    target = design_of(session, person.study_id).per_comparison
    return Past(*session.execute(_PAST, {"who": person.id, "study": person.study_id, "target": target}).one())
