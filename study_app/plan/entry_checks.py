"""Checks before the comparisons: screening questions, comprehension questions with tries, a pass mark of practice."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Participant, Reply
from evalkit.plural import plural
from evalkit.run.file_record import Name, Record
from study_app.plan.audit_log import append
from study_app.plan.log_start import new_salt, reply_commitment
from study_app.plan.questionnaire import Question, Translation

# practice comparisons of a participant
PRACTICES = 2
Check = Literal["before", "comprehension", "practice"]
Result = Literal["passed", "failed", "out"]
# the replies that hold results: a space, so that no question has such a name
PREFIX = "entry "


class ComprehensionQuestion(Record):
    """A question about the instructions with one right answer."""

    name: Name
    text: str = Field(min_length=1)
    options: tuple[str, ...] = Field(min_length=2)
    right: str
    translations: dict[str, Translation] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> "ComprehensionQuestion":
        if self.right not in self.options:
            raise ValueError(f"right: {self.right!r} is not among the options; name one of them")
        if len(set(self.options)) < len(self.options):
            raise ValueError("options: has one twice; name each once")
        for language, translation in self.translations.items():
            if len(translation.options) != len(self.options):
                raise ValueError(f"translations.{language}: needs {plural(len(self.options), 'option')}, in the same order")
        return self

    def as_question(self) -> Question:
        """Return it as an item of a questionnaire."""
        return Question(name=self.name, text=self.text, options=self.options, required=True, translations=self.translations)


class Comprehension(Record):
    """Questions after the instructions; those who do not answer all rightly in so many tries take no part."""

    tries: int = Field(default=2, ge=1, le=10)
    questions: tuple[ComprehensionQuestion, ...] = ()


class Practice(Record):
    """How many practice comparisons must be answered rightly, in how many tries; without a pass mark they only teach."""

    pass_mark: int | None = Field(default=None, ge=1, le=PRACTICES)
    tries: int = Field(default=2, ge=1, le=10)


def results_of(session: Session, participant_id: int) -> dict[str, str]:
    """Return the results of a participant's checks so far, by `before`, `comprehension 1`, `practice 2`, ..."""
    rows = session.execute(
        select(Reply.question, Reply.reply).where(
            Reply.participant_id == participant_id, Reply.question.startswith(PREFIX, autoescape=True)
        )
    )
    return {question.removeprefix(PREFIX): reply for question, reply in rows}


def state_of(results: Mapping[str, str], check: Check) -> Result | None:
    """Return the result of a check, None before it; `failed` means that another try is left."""
    values = [value for name, value in sorted(results.items()) if name.split()[0] == check]
    return next((state for state in ("passed", "out", "failed") if state in values), None)


def store_before(
    session: Session, questions: Sequence[Question], participant_id: int, given: Mapping[str, str], now: datetime
) -> list[str]:
    """Store the replies before the study and whether they let the participant in; return the questions not answered well.

    If there is any of those, nothing is stored. The first replies count. Call it inside `write`.
    """
    replies = {question.name: given.get(question.name, "").strip() for question in questions}
    wrong = [question.name for question in questions if question.problem(replies[question.name])]
    _lock(session, participant_id)
    if wrong or state_of(results_of(session, participant_id), "before") is not None:
        return wrong
    out = any(replies[question.name] in question.screen_out for question in questions)
    rows = {name: reply for name, reply in replies.items() if reply}
    _store(session, participant_id, {**rows, f"{PREFIX}before": "out" if out else "passed"}, now)
    return []


def store_comprehension(
    session: Session, comprehension: Comprehension, participant_id: int, given: Mapping[str, str], now: datetime
) -> list[str]:
    """Store a try at the comprehension questions, and return the names of those not answered rightly.

    Call it inside `write`.
    """
    wrong = [question.name for question in comprehension.questions if given.get(question.name, "") != question.right]
    _store_try(session, "comprehension", comprehension.tries, participant_id, not wrong, now)
    return wrong


def store_practice(session: Session, practice: Practice, participant_id: int, right: int, now: datetime) -> Result:
    """Store a round of practice with so many right answers, and return what becomes of it. Call it inside `write`."""
    passed = practice.pass_mark is None or right >= practice.pass_mark
    return _store_try(session, "practice", practice.tries, participant_id, passed, now)


def _store_try(session: Session, check: Check, tries: int, participant_id: int, passed: bool, now: datetime) -> Result:
    _lock(session, participant_id)
    results = results_of(session, participant_id)
    earlier = state_of(results, check)
    if earlier in ("passed", "out"):
        return earlier
    number = 1 + sum(name.split()[0] == check for name in results)
    result: Result = "passed" if passed else "failed" if number < tries else "out"
    _store(session, participant_id, {f"{PREFIX}{check} {number}": result}, now)
    return result


def _lock(session: Session, participant_id: int) -> None:
    session.get_one(Participant, participant_id, with_for_update=True)


def _store(session: Session, participant_id: int, replies: Mapping[str, str], now: datetime) -> None:
    """Store replies, which can be erased: the log commits to them without their content."""
    commitments = {}
    for name, reply in replies.items():
        row = Reply(participant_id=participant_id, question=name, reply=reply, replied_at=now, salt=new_salt())
        session.add(row)
        commitments[name] = reply_commitment(row)
    session.flush()
    content = {"participant": participant_id, "commitments": commitments}
    append(session, session.get_one(Participant, participant_id).study_id, "commented", content, now)
