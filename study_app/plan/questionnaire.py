"""Questionnaire: items, validation and storage of replies."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Participant, Reply
from evalkit.errors import UserError
from evalkit.plural import plural
from evalkit.run.file_record import Name, Record
from study_app.plan.audit_log import append
from study_app.plan.log_start import new_salt, reply_commitment

MOST_SIGNS = 2000


class Translation(Record):
    """A question in another language, its options in the same order."""

    text: str = Field(min_length=1)
    options: tuple[str, ...] = ()


class Question(Record):
    """A question: one of its options, a number, or free text. In any language the option is stored as it is written here."""

    name: Name
    text: str = Field(min_length=1)
    kind: Literal["choice", "number", "text"] = "choice"
    options: tuple[str, ...] = ()
    # the smallest and largest number taken
    least: float | None = None
    most: float | None = None
    required: bool = False
    # before the instructions, or after the last comparison
    when: Literal["before", "after"] = "after"
    # options that end the study for a participant, before it
    screen_out: tuple[str, ...] = ()
    translations: dict[str, Translation] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> "Question":
        if (self.kind == "choice") != (len(self.options) >= 2) or len(set(self.options)) < len(self.options):
            raise ValueError("options: a choice needs two different ones or more, other kinds none")
        if self.screen_out and (self.when != "before" or not set(self.screen_out) < set(self.options)):
            raise ValueError('screen_out: names some options of a choice with when = "before"; correct them')
        if self.kind != "number" and (self.least, self.most) != (None, None):
            raise ValueError("least, most: are for numbers")
        for language, translation in self.translations.items():
            if len(translation.options) != len(self.options):
                raise ValueError(f"translations.{language}: needs {plural(len(self.options), 'option')}, in the same order")
        return self

    def in_language(self, language: str) -> Translation:
        """Return the question as it is shown."""
        return self.translations.get(language) or Translation(text=self.text, options=self.options)

    def problem(self, reply: str) -> str | None:
        """Return what is wrong with a reply, or None; an empty string means that the reply is missing."""
        if not reply:
            return "is required" if self.required else None
        if self.kind == "choice" and reply not in self.options:
            return f"is one of {', '.join(self.options)}"
        if self.kind == "text" and len(reply) > MOST_SIGNS:
            return f"has {MOST_SIGNS} signs at most"
        if self.kind == "number":
            return self._problem_of_number(reply)
        return None

    def _problem_of_number(self, reply: str) -> str | None:
        try:
            value = float(reply)
        except ValueError:
            return "is a number"
        if not math.isfinite(value) or (self.least is not None and value < self.least):
            return f"is {self.least} or more"
        return f"is {self.most} or less" if self.most is not None and value > self.most else None


def store_replies(
    session: Session, questions: Sequence[Question], participant_id: int, given: Mapping[str, str], now: datetime
) -> list[str]:
    """Store a participant's replies and end their questionnaire; return the names of questions whose reply can't be.

    If there is any, nothing is stored. The first replies count. Replies can be erased, so the log commits to
    them without their content. Call it inside `write`.

    Raises:
        UserError: a reply to a question the design does not have.
    """
    known = {question.name for question in questions}
    for name in given:
        if name not in known:
            raise UserError(f"question {name!r}: is not in this study's questionnaire; known: {', '.join(sorted(known))}")
    participant = session.get_one(Participant, participant_id, with_for_update=True)
    wrong = [question.name for question in questions if question.problem(given.get(question.name, "").strip())]
    if wrong or participant.questioned_at is not None:
        return wrong
    commitments: dict[str, str] = {}
    for question in questions:
        reply = given.get(question.name, "").strip()
        if reply:
            row = Reply(participant_id=participant_id, question=question.name, reply=reply, replied_at=now, salt=new_salt())
            session.add(row)
            commitments[question.name] = reply_commitment(row)
    participant.questioned_at = now
    session.flush()
    content = {"participant": participant_id, "commitments": commitments}
    append(session, participant.study_id, "replied", content, now)
    return []


def store_comment(session: Session, participant_id: int, question: str, text: str, now: datetime) -> None:
    """Store a comment as a reply, which can be erased; a later one on the same images is stored next to it."""
    earlier = session.scalars(
        select(Reply.question).where(Reply.participant_id == participant_id, Reply.question.startswith(f"{question} "))
    ).all()
    numbers = [int(name.rpartition(" ")[2]) for name in earlier]
    key = f"{question} {max(numbers, default=0) + 1}"
    row = Reply(participant_id=participant_id, question=key, reply=text.strip(), replied_at=now, salt=new_salt())
    session.add(row)
    session.flush()
    content = {"participant": participant_id, "commitments": {key: reply_commitment(row)}}
    append(session, session.get_one(Participant, participant_id).study_id, "commented", content, now)
