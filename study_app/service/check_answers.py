"""Further questions about checks, asked so that a check looks like any comparison."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from analysis.questions.comment import WRITTEN
from db.models import Check, CheckAnswer, Participant, Study
from evalkit.errors import UserError
from study_app.plan.audit_log import append
from study_app.plan.design import Design
from study_app.plan.questionnaire import store_comment
from study_app.service.record_judgment import Choice, Recorded, Timing, stored_choice


def record_check_answer(
    session: Session,
    design: Design,
    participant_id: int,
    check_id: int,
    question: str,
    choice: Choice,
    now: datetime,
    timing: Timing,
) -> Recorded:
    """Store the answer to a further question about an answered check; the first answer stands. Call it inside `write`.

    Raises:
        UserError: the check is not this participant's or not answered yet, or the study does not offer this choice.
    """
    check = session.scalar(select(Check).where(Check.id == check_id).with_for_update())
    if check is None or check.participant_id != participant_id or check.choice is None:
        raise UserError(f"check {check_id}: is not one this participant has answered; answer the page that is shown")
    stored = stored_choice(design, question, choice, 2 + len(check.further))
    study = session.get_one(Study, session.get_one(Participant, participant_id).study_id)
    if study.locked_at is not None:
        return Recorded.LOCKED
    if question in answered_questions(session, check_id):
        return Recorded.ALREADY
    timings = timing.columns()
    answer = CheckAnswer(check_id=check_id, question=question, choice=stored, answered_at=now, **timings)
    session.add(answer)
    session.flush()
    content = {"answer": answer.id, "check": check_id, "question": question, "choice": stored, **timings}
    append(session, study.id, "check_answered", content, now)
    if stored == WRITTEN:
        store_comment(session, participant_id, f"{question} check {check_id}", choice, now)
    return Recorded.STORED


def latest_answered(session: Session, participant_id: int, judged: int) -> Check | None:
    """Return the check that the participant answered after their last judgment, None without one."""
    latest = select(Check).where(Check.participant_id == participant_id, Check.choice.is_not(None), Check.after >= judged)
    return session.scalar(latest.order_by(Check.id.desc()).limit(1))


def answered_questions(session: Session, check_id: int) -> set[str]:
    """Return the further questions about a check that were answered."""
    return set(session.scalars(select(CheckAnswer.question).where(CheckAnswer.check_id == check_id)))
