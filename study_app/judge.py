"""Record a judgment, once. Nothing else in the project writes judgments."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db.models import Assignment, Comparison, Judgment, Study
from evalkit.errors import UserError
from study_app.assignment import take_place
from study_app.design import Design

Choice = Literal["left", "right", "cannot_tell"]


class Recorded(StrEnum):
    """What became of an answer."""

    STORED = "stored"
    # the same assignment was answered before: nothing changed, and the participant need not know
    ALREADY = "already"
    # its place was given to another meanwhile: kept, outside the target
    SURPLUS = "surplus"


def record_judgment(
    session: Session,
    participant_id: int,
    assignment_id: int,
    choice: Choice,
    now: datetime,
    reaction_ms: int | None = None,
) -> Recorded:
    """Store the participant's answer to an assignment and tell what became of it; the first answer stands.

    An answer that comes after its reservation lapsed still counts where the comparison has room, and is kept as surplus where
    it has none. Call it inside `write`: once that returns, the judgment is on disk.

    Raises:
        UserError: the assignment is not this participant's, or the study does not offer this choice.
    """
    assignment = session.scalar(select(Assignment).where(Assignment.id == assignment_id).with_for_update())
    if assignment is None or assignment.participant_id != participant_id:
        raise UserError(f"assignment {assignment_id}: is not this participant's; only the one on the page can be judged")
    study = session.scalars(
        select(Study).join(Comparison, Comparison.study_id == Study.id).where(Comparison.id == assignment.comparison_id)
    ).one()
    allowed = ("left", "right", "cannot_tell") if Design.of(study).cannot_tell else ("left", "right")
    if choice not in allowed:
        raise UserError(f"choice {choice!r}: this study offers {', '.join(allowed)}")
    answered = session.scalar(select(Judgment.id).where(Judgment.assignment_id == assignment_id))
    if answered is not None:
        return Recorded.ALREADY
    surplus = assignment.state == "expired" and not take_place(session, assignment.comparison_id)
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert
    stored = session.execute(
        insert(Judgment)
        .values(assignment_id=assignment_id, choice=choice, surplus=surplus, reaction_ms=reaction_ms, judged_at=now)
        .on_conflict_do_nothing(index_elements=["assignment_id"])
        .returning(Judgment.id)
    ).first()
    if stored is None:
        raise RuntimeError(f"assignment {assignment_id} was locked and yet judged by another")
    if not surplus:
        assignment.state = "done"
    session.flush()
    return Recorded.SURPLUS if surplus else Recorded.STORED
