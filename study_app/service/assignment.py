"""Assignment of comparisons to participants: least filled first, reserved for a while, never beyond the target."""

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import FromClause, Row, Select, Update, bindparam, exists, func, insert, select, update
from sqlalchemy.orm import Session

from db.models import Assignment, Comparison, Study
from db.session import DatabaseError, keep, writers_meet
from study_app.plan.audit_log import append
from study_app.plan.design import design_of
from study_app.plan.page_layout import arrange, standing
from study_app.service.openness import newcomers_wait, seated, seats
from study_app.service.participant_state import (
    ASSIGNMENTS,
    COMPARISONS,
    LAPSED_WITH_ROOM,
    LIVE,
    SIDES,
    WITH_PAST,
    Past,
    Person,
    find_person,
    past_of,
)

# How long a place is held without a sign of life; every serving of the page renews it.
LEASE = timedelta(minutes=15)
# Each try fails only because others hold the last places for a moment (PostgreSQL alone: SQLite has one writer).
TRIES = 200
PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Held:
    """A comparison held for a participant: the columns of its assignment."""

    id: int
    comparison_id: int
    participant_id: int
    position: int
    left: int
    arrangement: str | None
    assigned_at: datetime
    expires_at: datetime


# The queries of every page turn, built once.
_A, _C = ASSIGNMENTS.c, COMPARISONS.c
_HELD = select(*(_A[field.name] for field in fields(Held)))
_OPEN = _HELD.where(_A.id == bindparam("assignment"))
_LAPSED = (
    select(_A.id, _A.comparison_id)
    .join(COMPARISONS, _C.id == _A.comparison_id)
    .where(_A.state == "open", _A.expires_at < bindparam("now"), _C.study_id == bindparam("study"))
    .order_by(_A.id)
    .with_for_update(skip_locked=True, of=ASSIGNMENTS)
)
_OWN_LAPSED = _HELD.select_from(WITH_PAST).where(_A.participant_id == bindparam("who"), LAPSED_WITH_ROOM).order_by(_A.position)
_RENEW = update(ASSIGNMENTS).where(_A.id == bindparam("assignment")).values(state="open", expires_at=bindparam("until"))
_ADD = insert(ASSIGNMENTS).returning(_A.id)
# after the row is locked, so that what comes back with it counts everyone before
_TAKE = (
    update(COMPARISONS)
    .where(_C.id == bindparam("comparison"), _C.filled < _C.target)
    .values(filled=_C.filled + 1)
    .returning(*(select(side).where(_A.comparison_id == bindparam("comparison")).scalar_subquery() for side in SIDES))
)


def _free(comparisons: FromClause) -> Select[Any]:
    """Return the query of all comparisons with room that the participant was never given."""
    table = comparisons.c
    mine = exists().where(_A.comparison_id == table.id, _A.participant_id == bindparam("who"))
    return select(table.id, table.first_left, table.priority).where(
        table.study_id == bindparam("study"), table.filled < table.target, ~mine
    )


def _picks() -> Select[Any]:
    other = COMPARISONS.alias()
    level = _free(other).with_only_columns(other.c.filled).order_by(other.c.filled, other.c.priority).limit(1)
    return _free(COMPARISONS).where(_C.filled == level.scalar_subquery()).order_by(_C.priority).limit(1)


_PICKS = tuple(_picks().where(half) for half in (_C.priority >= bindparam("point"), _C.priority < bindparam("point")))
# pass by what others are taking right now, and never wait while holding a row: that could be a deadlock
_LOCKED_PICKS = tuple(query.with_for_update(skip_locked=True, key_share=True, of=COMPARISONS) for query in _PICKS)


@dataclass(frozen=True)
class Handed:
    """What a participant holds now, None for nothing, and what they had before it; `most` as `quota` gives it."""

    held: Held | None
    past: Past
    most: int | None

    @property
    def remaining(self) -> int:
        """Return how many comparisons they could still judge, the one they hold included."""
        return self.past.could_judge if self.most is None else min(self.past.could_judge, self.most)

    @property
    def position(self) -> int:
        """Return the place in their order that comes after what they hold."""
        return self.past.position if self.held is None else max(self.past.position, self.held.position + 1)


def reserve(session: Session, participant_id: int, now: datetime) -> Held | None:
    """Return the comparison the participant is to judge now, as `hand_out` does."""
    return hand_out(session, find_person(session, participant_id), now).held


def hand_out(session: Session, person: Person, now: datetime) -> Handed:
    """Return the comparison a participant is to judge now, or nothing when none is left for them.

    Returns the open assignment with its lease renewed, if there is one: reloading a page changes nothing. Otherwise frees
    lapsed reservations, returns one of the participant's lapsed assignments that still has room, or assigns a new comparison:
    least filled first, in a seeded order per participant among equally filled ones. Returns nothing if the design's limits are
    reached. Call it inside `write`; the place is taken in the same transaction that found it free.
    """
    past = past_of(session, person, now)
    if past.open_id is not None:
        held = Held(*session.execute(_OPEN, {"assignment": past.open_id}).one())
        return Handed(_renew(session, held, now), past, quota(session, person, past))
    if past.any_lapsed and expire_lapsed(session, person.study_id, now):
        past = past_of(session, person, now)
    most = quota(session, person, past)
    if most == 0:
        return Handed(None, past, most)
    return Handed(_reopen(session, person, past, now) or _assign(session, person, past, now), past, most)


def expire_lapsed(session: Session, study_id: int, now: datetime) -> int:
    """Free the places of all assignments whose lease has lapsed, and return how many."""
    lapsed = session.execute(_LAPSED, {"now": now, "study": study_id}).all()
    if not lapsed:
        return 0
    _update(session, update(Assignment).where(Assignment.id.in_([row.id for row in lapsed])).values(state="expired"))
    for comparison_id, count in sorted(Counter(row.comparison_id for row in lapsed).items()):
        _update(session, update(Comparison).where(Comparison.id == comparison_id).values(filled=Comparison.filled - count))
    session.expire_all()
    append(session, study_id, "lapsed", {"assignments": [row.id for row in lapsed]}, now)
    return len(lapsed)


def take_place(session: Session, comparison_id: int) -> bool:
    """Take one place of a comparison if it has room; return whether it had."""
    return _take_place(session, comparison_id) is not None


def next_candidate(session: Session, person: Person, position: int) -> int | None:
    """Return the id of the comparison the participant would be given at this place in their order."""
    comparison = _pick(session, person, position)
    return None if comparison is None else int(comparison.id)


def free_place(session: Session, assignment: Assignment) -> None:
    """Free the place of an assignment; its judgment stays."""
    assignment.state = "expired"
    session.flush()
    taken = update(Comparison).where(Comparison.id == assignment.comparison_id)
    _update(session, taken.values(filled=Comparison.filled - 1))


def quota(session: Session, person: Person, past: Past) -> int | None:
    """Return how many comparisons the design still lets the participant judge; None for any number, 0 for one left out."""
    if person.excluded_at is not None:
        return 0
    design = design_of(session, person.study_id)
    if past.judged == 0 and past.open_id is None and newcomers_wait(session, design, person.study_id):
        return 0
    if design.per_participant is not None:
        return max(0, design.per_participant - past.judged)
    if design.same_people and past.judged == 0 and past.open_id is None:
        # two newcomers wait for each other here, so that only one gets the last seat
        session.execute(select(Study.id).where(Study.id == person.study_id).with_for_update())
        return 0 if len(seated(session, person.study_id) - {person.id}) >= seats(session, person.study_id) else None
    return None


def _renew(session: Session, held: Held, now: datetime) -> Held:
    """Hold a comparison for the participant from now on."""
    session.execute(_RENEW, {"assignment": held.id, "until": now + LEASE})
    return replace(held, expires_at=now + LEASE)


def _reopen(session: Session, person: Person, past: Past, now: datetime) -> Held | None:
    """Give a participant back what lapsed while they were away, on its old sides and place in the order."""
    if past.to_judge == 0:
        return None
    lapsed = [Held(*row) for row in session.execute(_OWN_LAPSED, {"who": person.id})]
    held = next((held for held in lapsed if take_place(session, held.comparison_id)), None)
    if held is None:
        return None
    append(session, person.study_id, "reopened", {"assignment": held.id}, now)
    return _renew(session, held, now)


def _assign(session: Session, person: Person, past: Past, now: datetime) -> Held | None:
    taken = _take(session, person, past.position)
    if taken is None:
        return None
    comparison, sides = taken
    arrangement = _arrange(session, person, comparison)
    assignment = {
        "comparison_id": comparison.id, "participant_id": person.id, "position": past.position,
        "left": _choose_left(person, comparison, sides, past) if arrangement is None else _first_is_later(arrangement),
        "arrangement": arrangement, "assigned_at": now, "expires_at": now + LEASE,
    }  # fmt: skip
    held = Held(id=session.execute(_ADD, {**assignment, "state": "open"}).scalar_one(), **assignment)
    content: dict[str, object] = {
        "assignment": held.id, "comparison": held.comparison_id, "participant": held.participant_id,
        "position": held.position, "left": held.left,
    }  # fmt: skip
    if held.arrangement is not None:
        content["arrangement"] = held.arrangement
    append(session, person.study_id, "assigned", content, now)
    return held


def _arrange(session: Session, person: Person, comparison: Row[Any]) -> str | None:
    """Return how the images are arranged on the page, if they are more than two."""
    design = design_of(session, person.study_id)
    if design.at_once == 2:
        return None
    earlier = session.execute(select(_A.arrangement).where(_A.comparison_id == comparison.id, LIVE)).scalars()
    own = f"{design.seed} {comparison.priority}"
    return arrange(design.at_once, own, str(person.seed), [used for used in earlier if used is not None])


def _first_is_later(arrangement: str) -> int:
    """Return 1 if image b is before image a."""
    stand = standing(0, arrangement)
    return int(stand.index(1) < stand.index(0))


def _take_place(session: Session, comparison_id: int) -> tuple[int, int] | None:
    """Take one place of a comparison, and return how often each image was on the left; None if it has no room."""
    sides = session.execute(_TAKE, {"comparison": comparison_id}).first()
    return None if sides is None else (sides[0], sides[1])


def _take(session: Session, person: Person, position: int) -> tuple[Row[Any], tuple[int, int]] | None:
    """Take a place of the comparison picked for the participant.

    Return the comparison and how often each image was on the left; None if no comparison is left.
    """
    if not writers_meet(session):
        comparison = _pick(session, person, position)
        sides = None if comparison is None else _take_place(session, comparison.id)
        return None if comparison is None or sides is None else (comparison, sides)
    for _ in range(TRIES):
        attempt = session.begin_nested()
        comparison = _pick(session, person, position, lock=True)
        sides = None if comparison is None else _take_place(session, comparison.id)
        if comparison is not None and sides is not None:
            attempt.commit()
            return comparison, sides
        attempt.rollback()
        if _pick(session, person, position) is None:
            return None
        time.sleep(PAUSE_SECONDS)
    raise DatabaseError("all places were being taken by others at this moment; try again")


def _pick(session: Session, person: Person, position: int, lock: bool = False) -> Row[Any] | None:
    """Return id, first side and priority of the comparison that is to be the participant's at this place in their order.

    Among the least filled comparisons not yet assigned to them, it is the first one after a point that depends on their seed
    and the position. Both steps use an index, however many comparisons there are.
    """
    spread = keep(session, ("priorities", person.study_id), lambda: _read_spread(session, person.study_id))
    drawn = hashlib.sha256(f"order {person.seed} {position}".encode()).digest()
    asked = {"study": person.study_id, "who": person.id, "point": int.from_bytes(drawn[:8]) % spread}
    for query in _LOCKED_PICKS if lock else _PICKS:
        comparison = session.execute(query, asked).first()
        if comparison is not None:
            return comparison
    return None


def _read_spread(session: Session, study_id: int) -> int:
    return (session.execute(select(func.max(_C.priority)).where(_C.study_id == study_id)).scalar() or 0) + 1


def _choose_left(person: Person, comparison: Row[Any], sides: tuple[int, int], past: Past) -> int:
    """Return which image goes left: what balances the comparison, then the participant, then the plan's or a seeded choice.

    So a comparison's places differ by at most one between the sides, and five people give 3 and 2.
    """
    first, second = sides
    if first != second:
        return 0 if first < second else 1
    # some slack, or a participant's sides would follow a pattern they could learn
    if abs(past.first_left - past.second_left) >= 2:
        return 0 if past.first_left < past.second_left else 1
    if first == 0:
        return int(comparison.first_left)
    return hashlib.sha256(f"side {person.seed} {comparison.priority}".encode()).digest()[0] % 2


def _update(session: Session, statement: Update) -> None:
    """Run an update; objects in the session are reloaded when next used."""
    session.execute(statement, execution_options={"synchronize_session": False})
