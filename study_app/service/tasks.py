"""The next task of a participant: a further question, a check, or a comparison, derived from the database."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Literal

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from db.models import Answer, Assignment, Check, CheckAnswer, Judgment
from study_app.plan.check_schedule import checks_before
from study_app.plan.design import Design, Sessions
from study_app.plan.page_layout import standing
from study_app.service import stimuli
from study_app.service.assignment import Handed, Held, hand_out, next_candidate, quota
from study_app.service.check_answers import answered_questions, latest_answered
from study_app.service.checks import agrees, count_checks, judged_list, next_check, open_check, plan_check
from study_app.service.participant_state import ASSIGNMENTS, JUDGMENTS, Person, find_person, past_of
from study_app.service.undo import is_undoable

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
_A, _J = ASSIGNMENTS.c, JUDGMENTS.c
_LATEST = (
    select(_A.id, _A.state, _J.judged_at)
    .join(JUDGMENTS, _J.assignment_id == _A.id)
    .where(_A.participant_id == bindparam("who"))
    .order_by(_J.id.desc())
    .limit(PACE_JUDGMENTS)
)


@dataclass(frozen=True)
class ParticipantTask:
    """One question put to a participant; `id` is the assignment's or the check's, `since` when it was handed out."""

    kind: Literal["comparison", "check"]
    id: int
    question: str
    shown: stimuli.PageStimuli
    since: datetime


@dataclass(frozen=True)
class ParticipantPage:
    """A question put to a participant, and what else their page tells: how far they are, and what may come next."""

    task: ParticipantTask
    done: int
    total: int
    ahead: stimuli.PageStimuli | None
    # the assignment whose judgment may still be taken back
    undoable: int | None
    # at their own pace; None before there is one
    minutes_left: int | None


def next_task(session: Session, design: Design, participant_id: int, now: datetime) -> ParticipantTask | None:
    """Return what the participant is asked now, None when nothing is left for them. Call it inside `write`."""
    return _next(session, design, find_person(session, participant_id), now)[0]


def next_page(session: Session, design: Design, person: Person, now: datetime) -> ParticipantPage | None:
    """Return the participant's page, None when nothing is left for them. Call it inside `write`."""
    task, handed = _next(session, design, person, now)
    if task is None:
        return None
    questions = len(design.question_names(len(task.shown.words)))
    done, total = _progress(session, design, person, handed, questions)
    latest = session.execute(_LATEST, {"who": person.id}).all()
    fresh = bool(latest) and is_undoable(latest[0].state, latest[0].judged_at, now)
    return ParticipantPage(
        task=task,
        done=done,
        total=total,
        ahead=_upcoming(session, design, person, handed.position, task),
        undoable=latest[0].id if fresh else None,
        # the pace is that of comparisons, each with all its questions
        minutes_left=minutes_left([row.judged_at for row in latest], math.ceil((total - done) / questions)),
    )


def _next(session: Session, design: Design, person: Person, now: datetime) -> tuple[ParticipantTask | None, Handed]:
    """Return what a participant is asked now, and the assignment they hold."""
    task = _further_question(session, design, person.id)
    if task is None and _takes_checks(session, design, person, now):
        check = next_check(session, design, person, count_judged(session, person.id), now)
        task = None if check is None else _of_check(session, check)
    if task is not None:
        past = past_of(session, person, now)
        return task, Handed(None, past, quota(session, person, past))
    handed = hand_out(session, person, now)
    return (None if handed.held is None else _of_assignment(session, handed.held, "overall")), handed


def _takes_checks(session: Session, design: Design, person: Person, now: datetime) -> bool:
    """Return whether a check may be shown: not in the middle of a comparison, nor to a participant with nothing to judge."""
    if not design.checks.any() or person.excluded_at is not None or has_open(session, person.id):
        return False
    past = past_of(session, person, now)
    return past.judged > 0 or (past.could_judge > 0 and quota(session, person, past) != 0)


def has_open(session: Session, participant_id: int) -> bool:
    """Return whether a comparison is reserved for the participant just now."""
    mine = select(Assignment.id).where(Assignment.participant_id == participant_id, Assignment.state == "open")
    return session.scalar(mine) is not None


def open_tasks(session: Session, design: Design, participant_id: int) -> list[ParticipantTask]:
    """Return what is on the participant's page now, without changing anything."""
    tasks = []
    asked = _further_question(session, design, participant_id)
    if asked is not None:
        tasks.append(asked)
    check = open_check(session, participant_id)
    if check is not None:
        tasks.append(_of_check(session, check))
    assignment = session.scalar(
        select(Assignment).where(Assignment.participant_id == participant_id, Assignment.state == "open")
    )
    if assignment is not None:
        tasks.append(_of_assignment(session, assignment, "overall"))
    return tasks


def upcoming(session: Session, design: Design, participant_id: int, now: datetime) -> stimuli.PageStimuli | None:
    """Return the page the participant would be given after the present one, if its place is still free then."""
    person = find_person(session, participant_id, alone=False)
    tasks = open_tasks(session, design, participant_id)
    position = past_of(session, person, now).position
    return _upcoming(session, design, person, position, tasks[0]) if tasks else None


def _upcoming(
    session: Session, design: Design, person: Person, position: int, task: ParticipantTask
) -> stimuli.PageStimuli | None:
    """Return what follows a task: the check that is due once it is answered, or the next comparison."""
    if design.checks.any():
        earlier: list[tuple[Assignment, str | None]] = [*judged_list(session, person.id)]
        if task.kind == "comparison" and task.question == "overall":
            earlier.append((session.get_one(Assignment, task.id), None))
        number = count_checks(session, person.id)
        planned = plan_check(session, design, person, number, len(earlier), earlier)
        if planned is not None:
            return stimuli.of_planned_check(
                session, person.id, number, planned.images, planned.references, planned.concept, planned.case_id
            )
    comparison_id = next_candidate(session, person, position)
    return None if comparison_id is None else stimuli.of_comparison(session, person.id, comparison_id, range(design.at_once))


def count_judged(session: Session, participant_id: int) -> int:
    """Return how many comparisons the participant has judged."""
    return session.scalar(_JUDGED, {"who": participant_id}) or 0


def _progress(session: Session, design: Design, person: Person, handed: Handed, questions: int) -> tuple[int, int]:
    """Return how many pages the participant has answered and how many there are for them.

    Checks count, so that none stands out, and so does every further question; `questions` are those of a comparison.
    """
    checks = 0
    if design.checks.any():
        answered = select(func.count(Check.id)).where(Check.participant_id == person.id, Check.choice.is_not(None))
        checks = session.scalar(answered) or 0
    judged = handed.past.judged
    expected = judged + handed.remaining
    answered_all, all_pages = judged + checks, expected + max(checks, len(checks_before(design, person.seed, expected)))
    if questions == 1:
        return answered_all, all_pages
    own = select(func.count(Answer.id)).join(Assignment, Assignment.id == Answer.assignment_id)
    further = session.scalar(own.where(Assignment.participant_id == person.id)) or 0
    own_checks = select(func.count(CheckAnswer.id)).join(Check, Check.id == CheckAnswer.check_id)
    further += session.scalar(own_checks.where(Check.participant_id == person.id)) or 0
    done = answered_all + further
    return done, max(done, all_pages * questions)


def minutes_left(judged_at: Sequence[datetime], tasks: int) -> int | None:
    """Return how many minutes so many pages take at the pace of the last judgments; None before there is one.

    `judged_at` holds the times of the last judgments, the latest first. The pace is the median gap; rests and clock changes
    are ignored.
    """
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(judged_at)]
    worked = [gap for gap in gaps if 0 <= gap < LONGEST_SECONDS]
    if len(worked) < FEWEST_GAPS or tasks <= 0:
        return None
    return max(1, round(median(worked) * tasks / 60))


def is_ended_by_checks(session: Session, design: Design, participant_id: int) -> bool:
    """Return whether the design ends the session of a participant, because they failed too many checks."""
    rules = design.rules
    if not rules.end_session or rules.failed_checks is None:
        return False
    failed = session.scalar(
        select(func.count(Check.id)).where(
            Check.participant_id == participant_id, Check.kind.in_(("attention", "gold")), Check.choice.is_not(None), ~agrees()
        )
    )
    return (failed or 0) > rules.failed_checks


def resting_until(session: Session, sessions: Sessions, participant_id: int, now: datetime) -> datetime | None:
    """Return when a participant who reached the session limit may continue, None if they may now."""
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


def _further_question(session: Session, design: Design, participant_id: int) -> ParticipantTask | None:
    """Return the first unanswered further question about the check or comparison answered last.

    They are asked about checks too: a page that is followed by none would be recognised as a check.
    """
    if not design.also_ask and not design.questions:
        return None
    check = latest_answered(session, participant_id, count_judged(session, participant_id)) if design.checks.any() else None
    if check is not None:
        task, answered = _of_check(session, check), answered_questions(session, check.id)
        for question in design.question_names(len(task.shown.words))[1:]:
            if question not in answered:
                return replace(task, question=question, since=check.answered_at or task.since)
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
    for question in design.question_names(len(assignment.comparison.case.concepts))[1:]:
        if question not in answered:
            task = _of_assignment(session, assignment, question)
            return ParticipantTask(task.kind, task.id, question, task.shown, judged_at)
    return None


def _of_assignment(session: Session, assignment: Assignment | Held, question: str) -> ParticipantTask:
    stand = standing(assignment.left, assignment.arrangement)
    shown = stimuli.of_comparison(session, assignment.participant_id, assignment.comparison_id, stand)
    return ParticipantTask("comparison", assignment.id, question, shown, assignment.assigned_at)


def _of_check(session: Session, check: Check) -> ParticipantTask:
    earlier = select(func.count(Check.id)).where(Check.participant_id == check.participant_id, Check.id < check.id)
    shown = stimuli.of_check(session, check, session.scalar(earlier) or 0)
    return ParticipantTask("check", check.id, "overall", shown, check.given_at)
