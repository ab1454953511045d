"""What a participant does next: a further question, a check, or a comparison; found anew from the database every time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Literal

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from db.models import Answer, Assignment, Check, Judgment, Participant
from study_app import stimuli
from study_app.arrangement import standing
from study_app.assignment import next_candidate, remaining, reserve
from study_app.checks import due, next_check
from study_app.design import Design, Sessions

# The pace is reckoned from this many judgments, and not before there are a few; who is away longer than this rests.
PACE_JUDGMENTS = 21
FEWEST_GAPS = 4
LONGEST_SECONDS = 300
# The queries of every page turn, built once.
_JUDGED = (
    select(func.count())
    .select_from(Judgment)
    .join(Assignment, Assignment.id == Judgment.assignment_id)
    .where(Assignment.participant_id == bindparam("who"))
)
_RECENT = (
    select(Judgment.judged_at)
    .join(Assignment, Assignment.id == Judgment.assignment_id)
    .where(Assignment.participant_id == bindparam("who"))
    .order_by(Judgment.judged_at.desc())
    .limit(PACE_JUDGMENTS)
)


@dataclass(frozen=True)
class Task:
    """One question put to a participant; `id` is the assignment's or the check's, `since` when it was handed out."""

    kind: Literal["comparison", "check"]
    id: int
    question: str
    shown: stimuli.Shown
    since: datetime


def next_task(session: Session, design: Design, participant_id: int, now: datetime) -> Task | None:
    """Return what the participant is asked now, None when nothing is left for them. Call it inside `write`."""
    asked = _further_question(session, design, participant_id)
    if asked is not None:
        return asked
    if design.checks.any() and not has_open(session, participant_id):
        participant = session.get_one(Participant, participant_id)
        check = next_check(session, design, participant, count_judged(session, participant_id), now)
        if check is not None:
            return _of_check(session, check)
    assignment = reserve(session, participant_id, now)
    return None if assignment is None else _of_assignment(session, assignment, "overall")


def has_open(session: Session, participant_id: int) -> bool:
    """Tell whether a comparison is reserved for the participant just now."""
    mine = select(Assignment.id).where(Assignment.participant_id == participant_id, Assignment.state == "open")
    return session.scalar(mine) is not None


def open_tasks(session: Session, design: Design, participant_id: int) -> list[Task]:
    """Return what is on the participant's page now, without changing anything."""
    tasks = []
    asked = _further_question(session, design, participant_id)
    if asked is not None:
        tasks.append(asked)
    check = session.scalar(select(Check).where(Check.participant_id == participant_id, Check.choice.is_(None)))
    if check is not None:
        tasks.append(_of_check(session, check))
    assignment = session.scalar(
        select(Assignment).where(Assignment.participant_id == participant_id, Assignment.state == "open")
    )
    if assignment is not None:
        tasks.append(_of_assignment(session, assignment, "overall"))
    return tasks


def upcoming(session: Session, design: Design, participant_id: int) -> stimuli.Shown | None:
    """Return the comparison the participant would be given after the present one, if nobody else took its place first."""
    comparison_id = next_candidate(session, session.get_one(Participant, participant_id))
    if comparison_id is None:
        return None
    return stimuli.of_comparison(session, participant_id, comparison_id, range(design.at_once))


def count_judged(session: Session, participant_id: int) -> int:
    """Return how many comparisons the participant has judged."""
    return session.scalar(_JUDGED, {"who": participant_id}) or 0


def progress(session: Session, design: Design, participant_id: int) -> tuple[int, int]:
    """Return how much the participant has done and how much there is for them, checks included, so that none stands out."""
    participant = session.get_one(Participant, participant_id)
    judged = count_judged(session, participant_id)
    mine = Check.participant_id == participant_id
    answered = select(func.count(Check.id)).where(mine, Check.choice.is_not(None))
    checks = (session.scalar(answered) or 0) if design.checks.any() else 0
    expected = judged + remaining(session, participant)
    return judged + checks, expected + max(checks, sum(due(design, participant.seed, expected).values()))


def minutes_left(session: Session, participant_id: int, tasks: int) -> int | None:
    """Return how many minutes so many pages take at the participant's pace; None before there is one.

    The pace is the median time between their last judgments, of which a longer rest says nothing.
    """
    recent = session.scalars(_RECENT, {"who": participant_id}).all()
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(recent)]
    worked = [gap for gap in gaps if gap < LONGEST_SECONDS]
    if len(worked) < FEWEST_GAPS or tasks <= 0:
        return None
    return max(1, round(median(worked) * tasks / 60))


def resting_until(session: Session, sessions: Sessions, participant_id: int, now: datetime) -> datetime | None:
    """Return when a participant who has judged as many as the design allows may go on, None for one who may now."""
    if sessions.most is None:
        return None
    span = timedelta(hours=sessions.hours)
    mine = select(Judgment.judged_at).join(Assignment, Assignment.id == Judgment.assignment_id)
    recent = session.scalars(
        mine.where(Assignment.participant_id == participant_id, Judgment.judged_at > now - span)
        .order_by(Judgment.judged_at.desc())
        .limit(sessions.most)
    ).all()
    return recent[-1] + span if len(recent) == sessions.most else None


def _further_question(session: Session, design: Design, participant_id: int) -> Task | None:
    """Return the first unanswered further question about the comparison judged last."""
    if not design.also_ask:
        return None
    last = session.execute(
        select(Assignment, Judgment.judged_at)
        .join(Judgment, Judgment.assignment_id == Assignment.id)
        .where(Assignment.participant_id == participant_id)
        .order_by(Judgment.id.desc())
        .limit(1)
    ).first()
    if last is None:
        return None
    assignment, judged_at = last
    answered = set(session.scalars(select(Answer.question).where(Answer.assignment_id == assignment.id)))
    for question in design.questions(len(assignment.comparison.case.concepts))[1:]:
        if question not in answered:
            task = _of_assignment(session, assignment, question)
            return Task(task.kind, task.id, question, task.shown, judged_at)
    return None


def _of_assignment(session: Session, assignment: Assignment, question: str) -> Task:
    stand = standing(assignment.left, assignment.arrangement)
    shown = stimuli.of_comparison(session, assignment.participant_id, assignment.comparison_id, stand)
    return Task("comparison", assignment.id, question, shown, assignment.assigned_at)


def _of_check(session: Session, check: Check) -> Task:
    return Task("check", check.id, "overall", stimuli.of_check(session, check), check.given_at)
