"""Hand a participant the next comparison: least filled first, reserved for a while, never more than its target."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import BigInteger, CursorResult, Select, exists, func, select, update
from sqlalchemy.orm import Session

from db.models import Assignment, Comparison, Judgment, Participant, Study
from db.session import DatabaseError
from study_app.arrangement import arrange, standing
from study_app.design import Design

# How long a place is held without a sign of life; every serving of the page renews it.
LEASE = timedelta(minutes=15)
# Each try fails only because others hold the last places for a moment (PostgreSQL alone: SQLite has one writer).
TRIES = 200
PAUSE_SECONDS = 0.01


def reserve(session: Session, participant_id: int, now: datetime) -> Assignment | None:
    """Return the comparison the participant is to judge now, or None when none is left for them.

    Gives back the open one where there is one, its lease renewed: reloading a page changes nothing. Otherwise frees the places
    of others whose lease lapsed, gives back one of the participant's own that lapsed and still has room, or takes a new one:
    least filled first, in an order of the participant's own among equally filled ones. None also where the design lets one
    person judge no more, or the same people judge all and all of them have come. Call it inside `write`; the place is taken in
    the same transaction that found it free.
    """
    # two tabs of one participant wait for each other here
    participant = session.get_one(Participant, participant_id, with_for_update=True)
    mine = session.scalar(select(Assignment).where(Assignment.participant_id == participant_id, Assignment.state == "open"))
    if mine is not None:
        mine.expires_at = now + LEASE
        return mine
    expire_lapsed(session, participant.study_id, now)
    if quota(session, participant) == 0:
        return None
    return _reopen(session, participant, now) or _assign(session, participant, now)


def expire_lapsed(session: Session, study_id: int, now: datetime) -> int:
    """Free the places of all assignments whose lease has lapsed, and return how many."""
    lapsed = session.execute(
        select(Assignment.id, Assignment.comparison_id)
        .join(Comparison, Comparison.id == Assignment.comparison_id)
        .where(Assignment.state == "open", Assignment.expires_at < now, Comparison.study_id == study_id)
        .order_by(Assignment.id)
        .with_for_update(skip_locked=True, of=Assignment)
    ).all()
    if not lapsed:
        return 0
    _update(session, update(Assignment).where(Assignment.id.in_([row.id for row in lapsed])).values(state="expired"))
    for comparison_id, count in sorted(Counter(row.comparison_id for row in lapsed).items()):
        _update(session, update(Comparison).where(Comparison.id == comparison_id).values(filled=Comparison.filled - count))
    session.expire_all()
    return len(lapsed)


def take_place(session: Session, comparison_id: int) -> bool:
    """Take one place of a comparison where it has room, and tell whether it had."""
    roomy = update(Comparison).where(Comparison.id == comparison_id, Comparison.filled < Comparison.target)
    return _update(session, roomy.values(filled=Comparison.filled + 1)) == 1


def remaining(session: Session, participant: Participant) -> int:
    """Return how many comparisons the participant could still judge, the open one included."""
    most = quota(session, participant)
    if most == 0:
        return 0
    left = session.scalar(select(func.count()).select_from(_candidates(participant).order_by(None).subquery()))
    own = select(func.count()).select_from(Assignment).join(Comparison, Comparison.id == Assignment.comparison_id)
    own = own.where(Assignment.participant_id == participant.id, (Assignment.state == "open") | _lapsed_with_room())
    found = (left or 0) + (session.scalar(own) or 0)
    return found if most is None else min(found, most)


def next_candidate(session: Session, participant: Participant) -> int | None:
    """Return the id of the comparison the participant would be given next, beside what is reserved for them already."""
    return session.scalar(_candidates(participant).limit(1))


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


def _lapsed_with_room() -> Any:  # noqa: ANN401 -- an SQL condition
    judged = exists().where(Judgment.assignment_id == Assignment.id)
    return (Assignment.state == "expired") & ~judged & (Comparison.filled < Comparison.target)


def _reopen(session: Session, participant: Participant, now: datetime) -> Assignment | None:
    """Give a participant back what lapsed while they were away, on its old sides and place in the order."""
    lapsed: Sequence[Assignment] = session.scalars(
        select(Assignment)
        .join(Comparison, Comparison.id == Assignment.comparison_id)
        .where(Assignment.participant_id == participant.id, _lapsed_with_room())
        .order_by(Assignment.position)
    ).all()
    for assignment in lapsed:
        if take_place(session, assignment.comparison_id):
            assignment.state = "open"
            assignment.expires_at = now + LEASE
            session.flush()
            return assignment
    return None


def _assign(session: Session, participant: Participant, now: datetime) -> Assignment | None:
    candidates = _candidates(participant).limit(1)
    # pass by what others are taking right now, and never wait while holding a row: that could be a deadlock
    unlocked = candidates.with_for_update(skip_locked=True, key_share=True, of=Comparison)
    for _ in range(TRIES):
        attempt = session.begin_nested()
        found = session.execute(unlocked).first()
        if found is not None and take_place(session, found.id):
            attempt.commit()
            return _insert(session, participant, found.id, now)
        attempt.rollback()
        if session.execute(candidates).first() is None:
            return None
        time.sleep(PAUSE_SECONDS)
    raise DatabaseError("all places were being taken by others at this moment; try again")


def _candidates(participant: Participant) -> Select[int]:
    """Return the query of all comparisons with room that the participant was never given, the next one first."""
    mine = exists().where(Assignment.comparison_id == Comparison.id, Assignment.participant_id == participant.id)
    # the priorities in an order of the participant's own: squares modulo the prime p = 2^31 - 1 of m * priority + c, where the
    # participant's seed draws m and c; the products stay below 2^63, and every database computes the same
    prime = 2_147_483_647
    drawn = hashlib.sha256(f"order {participant.seed}".encode()).digest()
    factor, shift = (int.from_bytes(drawn[start : start + 8]) % (prime - 1) + 1 for start in (0, 8))
    line = (Comparison.priority.cast(BigInteger) * factor + shift) % prime
    order = (line * line) % prime
    return (
        select(Comparison.id)
        .where(Comparison.study_id == participant.study_id, Comparison.filled < Comparison.target, ~mine)
        .order_by(Comparison.filled, order, Comparison.priority)
    )


def _insert(session: Session, participant: Participant, comparison_id: int, now: datetime) -> Assignment:
    last = session.scalar(select(func.max(Assignment.position)).where(Assignment.participant_id == participant.id))
    arrangement = _arrange(session, participant, comparison_id)
    assignment = Assignment(
        comparison_id=comparison_id,
        participant_id=participant.id,
        position=0 if last is None else last + 1,
        left=_choose_left(session, participant, comparison_id) if arrangement is None else _first_is_later(arrangement),
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


def _choose_left(session: Session, participant: Participant, comparison_id: int) -> int:
    """Return which image goes left: what balances the comparison, then the participant, then the plan's or a seeded choice.

    So a comparison's places differ by at most one between the sides, and five people give 3 and 2.
    """
    comparison = session.get_one(Comparison, comparison_id)
    here = _sides(session, Assignment.comparison_id == comparison_id)
    if here[0] != here[1]:
        return 0 if here[0] < here[1] else 1
    own = _sides(session, Assignment.participant_id == participant.id)
    # some slack, or a participant's sides would follow a pattern they could learn
    if abs(own[0] - own[1]) >= 2:
        return 0 if own[0] < own[1] else 1
    if here[0] == 0:
        return comparison.first_left
    return hashlib.sha256(f"side {participant.seed} {comparison.priority}".encode()).digest()[0] % 2


def _sides(session: Session, condition: Any) -> Counter[int]:  # noqa: ANN401 -- an SQL condition
    live = Assignment.state.in_(("open", "done"))
    rows = session.execute(select(Assignment.left, func.count()).where(condition, live).group_by(Assignment.left))
    return Counter({left: count for left, count in rows})


def _update(session: Session, statement: Any) -> int:  # noqa: ANN401 -- an SQL update
    """Run an update and return how many rows it changed; objects in the session are read anew when next used."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount
