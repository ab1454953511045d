"""Undo of a participant's last judgment: it moves unchanged to the withdrawals, and its page is shown again."""

from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from db.models import Answer, Assignment, Judgment, Participant, Withdrawal
from study_app.plan.audit_log import append
from study_app.service.assignment import LEASE, free_place
from study_app.service.record_judgment import Timing

_LAST = (
    select(Assignment.id, Assignment.state, Judgment.judged_at)
    .join(Judgment, Judgment.assignment_id == Assignment.id)
    .where(Assignment.participant_id == bindparam("who"))
    .order_by(Judgment.id.desc())
    .limit(1)
)


def is_undoable(state: str, judged_at: datetime, now: datetime) -> bool:
    """Return whether the participant may still take back the judgment they gave last: while it is fresh and fills its place."""
    return state == "done" and judged_at >= now - LEASE


def undo(session: Session, participant_id: int, assignment_id: int, now: datetime) -> bool:
    """Take back the judgment of an assignment, and return whether it was taken back.

    Nothing happens if it is not the participant's last one or no longer fresh, so a second click has no effect. The
    place stays the participant's; what had been handed out since is given back. Call it inside `write`.
    """
    # the participant's other tabs wait here
    session.get_one(Participant, participant_id, with_for_update=True)
    last = session.execute(_LAST, {"who": participant_id}).first()
    if last is None or last.id != assignment_id or not is_undoable(last.state, last.judged_at, now):
        return False
    since = session.scalar(select(Assignment).where(Assignment.participant_id == participant_id, Assignment.state == "open"))
    if since is not None:
        free_place(session, since)
    judgment = session.scalars(select(Judgment).where(Judgment.assignment_id == assignment_id)).one()
    answers = session.scalars(select(Answer).where(Answer.assignment_id == assignment_id).order_by(Answer.id)).all()
    taken: list[tuple[Judgment | Answer, str, datetime]] = [(judgment, "overall", judgment.judged_at)]
    taken += [(answer, answer.question, answer.answered_at) for answer in answers]
    withdrawals = []
    for row, question, judged_at in taken:
        timing = {name: getattr(row, name) for name in Timing.__dataclass_fields__}
        withdrawal = Withdrawal(
            assignment_id=assignment_id, question=question, choice=row.choice, judged_at=judged_at, withdrawn_at=now, **timing
        )
        session.add(withdrawal)
        session.flush()
        withdrawals.append([withdrawal.id, question])
        session.delete(row)
    assignment = session.get_one(Assignment, assignment_id)
    assignment.state, assignment.expires_at = "open", now + LEASE
    session.flush()
    content = {"assignment": assignment_id, "freed": None if since is None else since.id, "withdrawals": withdrawals}
    append(session, assignment.comparison.study_id, "withdrawn", content, now)
    return True
