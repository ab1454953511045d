"""Whether a study takes newcomers, and whether a participant without a comparison waits or has finished."""

import math
from enum import StrEnum

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from db.models import Event, Study
from db.utc import utc_now
from study_app.plan.design import Design
from study_app.service.participant_state import (
    ASSIGNMENTS,
    COMPARISONS,
    JUDGMENTS,
    LIVE,
    PARTICIPANTS,
    WITH_PAST,
    Person,
    past_of,
)

# so many people without a judgment may always hold a place
FEWEST_NEWCOMERS = 20
_OWN, _GIVEN = ASSIGNMENTS.alias("own_assignments"), JUDGMENTS.alias("given")
_A, _C, _J, _P = (table.c for table in (ASSIGNMENTS, COMPARISONS, JUDGMENTS, PARTICIPANTS))


class Openness(StrEnum):
    """What a newcomer is told."""

    OPEN = "open"
    PAUSED = "paused"
    # for good: locked, or every comparison has all its judgments
    ENDED = "ended"
    # all places are held at this moment; some may become free
    WAITING = "waiting"


def openness(session: Session, study_id: int, design: Design) -> Openness:
    """Return whether a newcomer would be given a comparison now."""
    study = session.get_one(Study, study_id)
    if study.locked_at is not None:
        return Openness.ENDED
    if study.paused_at is not None:
        return Openness.PAUSED
    if not _is_unfinished(session, study_id, None):
        return Openness.ENDED
    if design.same_people and len(seated(session, study_id)) >= seats(session, study_id):
        return Openness.WAITING
    if newcomers_wait(session, design, study_id):
        return Openness.WAITING
    has_room = select(exists().where(_C.study_id == study_id, _C.filled < _C.target))
    # a place that lapsed is freed when the next comparison is assigned
    lapsed = select(
        exists().where(_A.state == "open", _A.expires_at < utc_now(), _C.id == _A.comparison_id, _C.study_id == study_id)
    )
    return Openness.OPEN if session.scalar(has_room) or session.scalar(lapsed) else Openness.WAITING


def may_get_more(session: Session, design: Design, person: Person) -> bool:
    """Return whether a participant who has nothing to judge now may be given something later.

    Finished are those who judged their own quota, and everyone once all comparisons have their judgments.
    """
    if person.excluded_at is not None:
        return False
    judged = past_of(session, person, utc_now()).judged
    if design.per_participant is not None and judged >= design.per_participant:
        return False
    return _is_unfinished(session, person.study_id, person.id)


def seats(session: Session, study_id: int) -> int:
    """Return how many people judge all of a design with the same people, as the last amendment has it."""
    return session.scalar(select(func.max(_C.target)).where(_C.study_id == study_id)) or 0


def seated(session: Session, study_id: int) -> set[int]:
    """Return who holds a seat of a design with the same people: those who judged or hold something.

    Excluded participants have none, and neither have those whose reservations were voided.
    """
    rows = session.execute(
        select(_A.participant_id)
        .select_from(WITH_PAST.join(PARTICIPANTS, _P.id == _A.participant_id))
        .where(_C.study_id == study_id, _P.excluded_at.is_(None), LIVE | _J.id.is_not(None))
        .distinct()
    )
    voided = session.scalars(select(Event.content).where(Event.study_id == study_id, Event.kind == "voided"))
    return {row.participant_id for row in rows} - {int(content["participant"]) for content in voided}


def newcomers_wait(session: Session, design: Design, study_id: int) -> bool:
    """Return whether people without a judgment hold as many places as they may, so that visitors cannot hold a whole study."""
    has_judged = exists().where(_OWN.c.participant_id == _A.participant_id, _GIVEN.c.assignment_id == _OWN.c.id)
    held = session.scalar(
        select(func.count())
        .select_from(ASSIGNMENTS.join(COMPARISONS, _C.id == _A.comparison_id))
        .where(_C.study_id == study_id, _A.state == "open", _A.expires_at >= utc_now(), ~has_judged)
    )
    if (held or 0) < FEWEST_NEWCOMERS:
        return False
    places = session.scalar(select(func.sum(_C.target)).where(_C.study_id == study_id)) or 0
    done = session.scalar(
        select(func.count())
        .select_from(ASSIGNMENTS.join(COMPARISONS, _C.id == _A.comparison_id))
        .where(_C.study_id == study_id, _A.state == "done")
    )
    return (held or 0) >= max(FEWEST_NEWCOMERS, math.ceil(design.newcomer_share * (places - (done or 0))))


def _is_unfinished(session: Session, study_id: int, participant_id: int | None) -> bool:
    """Return whether a comparison lacks judgments, among those that this participant has not judged."""
    done = select(func.count()).select_from(ASSIGNMENTS).where(_A.comparison_id == _C.id, _A.state == "done").scalar_subquery()
    conditions = [_C.study_id == study_id, done < _C.target]
    if participant_id is not None:
        own, judged = ASSIGNMENTS.alias("own"), JUDGMENTS.alias("own_judgments")
        by_them = exists().where(
            own.c.comparison_id == _C.id, own.c.participant_id == participant_id, judged.c.assignment_id == own.c.id
        )
        conditions.append(~by_them)
    return session.scalar(select(_C.id).where(*conditions).limit(1)) is not None
