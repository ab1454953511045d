"""Hand a participant the next comparison: least filled first, reserved for a while, never more than its target."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Row, Select, bindparam, case, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from db.models import Assignment, Comparison, Judgment, Participant, Study
from db.session import DatabaseError, keep, writers_meet
from study_app.arrangement import arrange, standing
from study_app.design import Design

# How long a place is held without a sign of life; every serving of the page renews it.
LEASE = timedelta(minutes=15)
# Each try fails only because others hold the last places for a moment (PostgreSQL alone: SQLite has one writer).
TRIES = 200
PAUSE_SECONDS = 0.01


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _free(table: type[Comparison]) -> Select[int, int, int]:
    """Return the query of all comparisons with room that the participant was never given."""
    mine = exists().where(Assignment.comparison_id == table.id, Assignment.participant_id == bindparam("who"))
    return select(table.id, table.first_left, table.priority).where(
        table.study_id == bindparam("study"), table.filled < table.target, ~mine
    )


def _picks() -> Select[int, int, int]:
    other = aliased(Comparison)
    level = _free(other).with_only_columns(other.filled).order_by(other.filled, other.priority).limit(1)
    return _free(Comparison).where(Comparison.filled == level.scalar_subquery()).order_by(Comparison.priority).limit(1)


# The queries of every page turn, built once.
_LAPSED_WITH_ROOM = (
    (Assignment.state == "expired")
    & ~exists().where(Judgment.assignment_id == Assignment.id)
    & (Comparison.filled < Comparison.target)
)
_OPEN = select(Assignment).where(Assignment.participant_id == bindparam("who"), Assignment.state == "open")
_LAPSED = (
    select(Assignment.id, Assignment.comparison_id)
    .join(Comparison, Comparison.id == Assignment.comparison_id)
    .where(Assignment.state == "open", Assignment.expires_at < bindparam("now"), Comparison.study_id == bindparam("study"))
    .order_by(Assignment.id)
    .with_for_update(skip_locked=True, of=Assignment)
)
_OWN_LAPSED = (
    select(Assignment)
    .join(Comparison, Comparison.id == Assignment.comparison_id)
    .where(Assignment.participant_id == bindparam("who"), _LAPSED_WITH_ROOM)
    .order_by(Assignment.position)
)
_TAKE = (
    update(Comparison)
    .where(Comparison.id == bindparam("comparison"), Comparison.filled < Comparison.target)
    .values(filled=Comparison.filled + 1)
)
_LIVE = Assignment.state.in_(("open", "done"))
_COUNTS = _how_many(_LIVE & (Assignment.left == 0)), _how_many(_LIVE & (Assignment.left == 1))
_SIDES = select(*_COUNTS).where(Assignment.comparison_id == bindparam("comparison"))
_GIVEN = select(func.max(Assignment.position), *_COUNTS).where(Assignment.participant_id == bindparam("who"))
_WITH_ROOM = select(func.count()).where(Comparison.study_id == bindparam("study"), Comparison.filled < Comparison.target)
_THEIRS = (
    select(_how_many(Comparison.filled < Comparison.target), _how_many((Assignment.state == "open") | _LAPSED_WITH_ROOM))
    .select_from(Assignment)
    .join(Comparison, Comparison.id == Assignment.comparison_id)
    .where(Assignment.participant_id == bindparam("who"))
)
_PICKS = tuple(
    _picks().where(half) for half in (Comparison.priority >= bindparam("point"), Comparison.priority < bindparam("point"))
)
# pass by what others are taking right now, and never wait while holding a row: that could be a deadlock
_LOCKED_PICKS = tuple(query.with_for_update(skip_locked=True, key_share=True, of=Comparison) for query in _PICKS)


def reserve(session: Session, participant_id: int, now: datetime) -> Assignment | None:
    """Return the comparison the participant is to judge now, or None when none is left for them.

    Gives back the open one where there is one, its lease renewed: reloading a page changes nothing. Otherwise frees the places
    of others whose lease lapsed, gives back one of the participant's own that lapsed and still has room, or takes a new one:
    least filled first, in an order of the participant's own among equally filled ones. None also where the design lets one
    person judge no more, or the same people judge all and all of them have come. Call it inside `write`; the place is taken in
    the same transaction that found it free.
    """
    # two tabs of one participant wait for each other here
    participant = session.get_one(Participant, participant_id, with_for_update=writers_meet(session) or None)
    mine = session.scalar(_OPEN, {"who": participant_id})
    if mine is not None:
        mine.expires_at = now + LEASE
        return mine
    expire_lapsed(session, participant.study_id, now)
    if quota(session, participant) == 0:
        return None
    return _reopen(session, participant, now) or _assign(session, participant, now)


def expire_lapsed(session: Session, study_id: int, now: datetime) -> int:
    """Free the places of all assignments whose lease has lapsed, and return how many."""
    lapsed = session.execute(_LAPSED, {"now": now, "study": study_id}).all()
    if not lapsed:
        return 0
    _update(session, update(Assignment).where(Assignment.id.in_([row.id for row in lapsed])).values(state="expired"))
    for comparison_id, count in sorted(Counter(row.comparison_id for row in lapsed).items()):
        _update(session, update(Comparison).where(Comparison.id == comparison_id).values(filled=Comparison.filled - count))
    session.expire_all()
    return len(lapsed)


def take_place(session: Session, comparison_id: int) -> bool:
    """Take one place of a comparison where it has room, and tell whether it had."""
    return _update(session, _TAKE, {"comparison": comparison_id}) == 1


def remaining(session: Session, participant: Participant) -> int:
    """Return how many comparisons the participant could still judge, the open one included."""
    most = quota(session, participant)
    if most == 0:
        return 0
    # all with room, less those that were theirs before, and what is theirs to judge now
    left = session.scalar(_WITH_ROOM, {"study": participant.study_id})
    own, to_judge = session.execute(_THEIRS, {"who": participant.id}).one()
    found = (left or 0) - own + to_judge
    return found if most is None else min(found, most)


def next_candidate(session: Session, participant: Participant) -> int | None:
    """Return the id of the comparison the participant would be given next, beside what is reserved for them already."""
    found = _pick(session, participant, _given(session, participant)[0])
    return None if found is None else found.id


def free_place(session: Session, assignment: Assignment) -> None:
    """Give the place of an assignment that holds one to whoever asks next; a judgment of it stays."""
    assignment.state = "expired"
    session.flush()
    taken = update(Comparison).where(Comparison.id == assignment.comparison_id)
    _update(session, taken.values(filled=Comparison.filled - 1))


def quota(session: Session, participant: Participant) -> int | None:
    """Return how many comparisons the design still lets the participant judge; None for any number, 0 for one left out."""
    if participant.excluded_at is not None:
        return 0
    study = session.get_one(Study, participant.study_id)
    design = Design.of(study)
    mine = Assignment.participant_id == participant.id
    if design.per_participant is not None:
        judged = select(func.count()).select_from(Judgment).join(Assignment, Assignment.id == Judgment.assignment_id)
        return max(0, design.per_participant - (session.scalar(judged.where(mine)) or 0))
    if design.same_people and session.scalar(select(Assignment.id).where(mine).limit(1)) is None:
        # two newcomers wait for each other here, so that only one gets the last seat
        session.refresh(study, with_for_update=True)
        seated = (
            select(func.count(func.distinct(Assignment.participant_id))).join(Comparison).where(Comparison.study_id == study.id)
        )
        return 0 if (session.scalar(seated) or 0) >= design.per_comparison else None
    return None


def _reopen(session: Session, participant: Participant, now: datetime) -> Assignment | None:
    """Give a participant back what lapsed while they were away, on its old sides and place in the order."""
    lapsed = session.scalars(_OWN_LAPSED, {"who": participant.id}).all()
    for assignment in lapsed:
        if take_place(session, assignment.comparison_id):
            assignment.state = "open"
            assignment.expires_at = now + LEASE
            session.flush()
            return assignment
    return None


def _assign(session: Session, participant: Participant, now: datetime) -> Assignment | None:
    position, *sides = _given(session, participant)
    found = _take(session, participant, position)
    if found is None:
        return None
    arrangement = _arrange(session, participant, found.id)
    assignment = Assignment(
        comparison_id=found.id,
        participant_id=participant.id,
        position=position,
        left=_choose_left(session, participant, found, sides) if arrangement is None else _first_is_later(arrangement),
        arrangement=arrangement,
        state="open",
        assigned_at=now,
        expires_at=now + LEASE,
    )
    session.add(assignment)
    session.flush()
    return assignment


def _arrange(session: Session, participant: Participant, comparison_id: int) -> str | None:
    """Return how the images stand on the page, where they are more than two."""
    design = Design.of(session.get_one(Study, participant.study_id))
    if design.at_once == 2:
        return None
    comparison = session.get_one(Comparison, comparison_id)
    live = Assignment.state.in_(("open", "done"))
    earlier = session.scalars(select(Assignment.arrangement).where(Assignment.comparison_id == comparison_id, live))
    own = f"{design.seed} {comparison.priority}"
    return arrange(design.at_once, own, str(participant.seed), [each for each in earlier if each is not None])


def _first_is_later(arrangement: str) -> int:
    """Return 1 where image b stands before image a."""
    stand = standing(0, arrangement)
    return int(stand.index(1) < stand.index(0))


def _take(session: Session, participant: Participant, position: int) -> Row[int, int, int] | None:
    """Take a place of the comparison picked for the participant, and return the comparison; None where none is left."""
    if not writers_meet(session):
        found = _pick(session, participant, position)
        return found if found is not None and take_place(session, found.id) else None
    for _ in range(TRIES):
        attempt = session.begin_nested()
        found = _pick(session, participant, position, lock=True)
        if found is not None and take_place(session, found.id):
            attempt.commit()
            return found
        attempt.rollback()
        if _pick(session, participant, position) is None:
            return None
        time.sleep(PAUSE_SECONDS)
    raise DatabaseError("all places were being taken by others at this moment; try again")


def _pick(session: Session, participant: Participant, position: int, lock: bool = False) -> Row[int, int, int] | None:
    """Return id, first side and priority of the comparison that is to be the participant's at this place in their order.

    Of the least filled ones that they were never given it is the first from a point that their seed draws anew for every place.
    Both steps walk along an index, however many comparisons there are.
    """
    highest = select(func.max(Comparison.priority)).where(Comparison.study_id == participant.study_id)
    spread = keep(session, ("priorities", participant.study_id), lambda: (session.scalar(highest) or 0) + 1)
    drawn = hashlib.sha256(f"order {participant.seed} {position}".encode()).digest()
    asked = {"study": participant.study_id, "who": participant.id, "point": int.from_bytes(drawn[:8]) % spread}
    for query in _LOCKED_PICKS if lock else _PICKS:
        found = session.execute(query, asked).first()
        if found is not None:
            return found
    return None


def _choose_left(session: Session, participant: Participant, comparison: Row[int, int, int], own: Sequence[int]) -> int:
    """Return which image goes left: what balances the comparison, then the participant, then the plan's or a seeded choice.

    So a comparison's places differ by at most one between the sides, and five people give 3 and 2. `own` is how often the
    participant has had either image on the left.
    """
    here = session.execute(_SIDES, {"comparison": comparison.id}).one()
    if here[0] != here[1]:
        return 0 if here[0] < here[1] else 1
    # some slack, or a participant's sides would follow a pattern they could learn
    if abs(own[0] - own[1]) >= 2:
        return 0 if own[0] < own[1] else 1
    if here[0] == 0:
        return int(comparison.first_left)
    return hashlib.sha256(f"side {participant.seed} {comparison.priority}".encode()).digest()[0] % 2


def _given(session: Session, participant: Participant) -> tuple[int, int, int]:
    """Return how many places the participant's order has, and how often either image was on their left."""
    last, first, second = session.execute(_GIVEN, {"who": participant.id}).one()
    return (0 if last is None else last + 1), first, second


def _update(session: Session, statement: Any, values: Mapping[str, int] | None = None) -> int:  # noqa: ANN401 -- an update
    """Run an update and return how many rows it changed; objects in the session are read anew when next used."""
    result = session.execute(statement, values, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount
