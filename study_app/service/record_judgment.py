"""Recording of judgments, exactly once; no other module writes judgments."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from analysis.questions.comment import EMPTY, WRITTEN
from db.models import Answer, Assignment, Judgment, Study
from evalkit.errors import UserError
from study_app.plan.audit_log import append
from study_app.plan.design import Design, design_of
from study_app.plan.page_layout import CANNOT_TELL, is_answer, places, standing
from study_app.plan.questionnaire import store_comment
from study_app.service.assignment import take_place
from study_app.service.participant_state import ASSIGNMENTS, JUDGMENTS, Person

# A place of the page (left, right, or 1, 2, ... of more than two images), all of them ranked (3 1 2), or cannot_tell.
Choice = str
# The queries of every judgment, built once.
_LOCKED = select(Assignment).where(Assignment.id == bindparam("assignment")).with_for_update()
_A, _J = ASSIGNMENTS.c, JUDGMENTS.c
_ASKED = (
    select(_A.participant_id, _A.comparison_id, _A.left, _A.arrangement, _A.state, _J.id.label("judged"))
    .outerjoin(JUDGMENTS, _J.assignment_id == _A.id)
    .where(_A.id == bindparam("assignment"))
    .with_for_update(of=ASSIGNMENTS)
)
_DONE = update(ASSIGNMENTS).where(_A.id == bindparam("assignment")).values(state="done")
_STORE = {
    dialect.__name__.rpartition(".")[2]: dialect.insert(JUDGMENTS)
    .on_conflict_do_nothing(index_elements=["assignment_id"])
    .returning(_J.id)
    for dialect in (sqlite, postgresql)
}
# A page left open overnight is plausible; more than a day is an error or forged.
_MOST_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Timing:
    """Times measured by the participant's browser, as in `db.study_tables.BrowserTimings`; None if not measured."""

    reaction_ms: int | None = None
    loaded_ms: int | None = None
    hidden_ms: int | None = None
    focus_losses: int | None = None

    @classmethod
    def told(cls, given: Mapping[str, object]) -> "Timing":
        """Return what a browser claims, without anything that can't be true."""
        fields: dict[str, int | None] = {}
        for name in cls.__dataclass_fields__:
            value = given.get(name)
            whole = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST_MS
            fields[name] = round(value) if whole and isinstance(value, int | float) else None
        return cls(**fields)

    def columns(self) -> dict[str, int | None]:
        """Return the values by the names of their columns."""
        return asdict(self)


class Recorded(StrEnum):
    """What became of an answer."""

    STORED = "stored"
    # the same assignment was answered before: nothing changed, so the participant sees no notice
    ALREADY = "already"
    # its place was given to another meanwhile: kept, outside the target
    SURPLUS = "surplus"
    # sooner than the design's minimum: not taken
    TOO_SOON = "too soon"
    # the study was locked meanwhile: not taken
    LOCKED = "locked"


def record_judgment(
    session: Session,
    person: Person,
    assignment_id: int,
    choice: Choice,
    now: datetime,
    timing: Timing | None = None,
) -> Recorded:
    """Store a participant's answer to an assignment and return what became of it; the first answer counts.

    An answer that comes after its reservation lapsed still counts where the comparison has room, and is kept as surplus where
    it has none. Call it inside the `write` that found the person: once that returns, the judgment is on disk.

    Raises:
        UserError: the assignment is not this participant's, or the study does not offer this choice.
    """
    assignment = session.execute(_ASKED, {"assignment": assignment_id}).first()
    if assignment is None or assignment.participant_id != person.id:
        raise UserError(f"assignment {assignment_id}: is not this participant's; only the one on the page can be judged")
    stand = standing(assignment.left, assignment.arrangement)
    offered(design_of(session, person.study_id), choice, len(stand))
    if assignment.judged is not None:
        return Recorded.ALREADY
    if person.locked_at is not None:
        return Recorded.LOCKED
    surplus = person.excluded_at is not None or (
        assignment.state == "expired" and not take_place(session, assignment.comparison_id)
    )
    judgment = {"assignment_id": assignment_id, "choice": choice, "surplus": surplus, "judged_at": now}
    judgment |= (timing or Timing()).columns()
    stored = session.execute(_STORE[session.get_bind().dialect.name], judgment).first()
    if stored is None:
        raise RuntimeError(f"assignment {assignment_id} was locked and yet judged by another")
    if not surplus:
        session.execute(_DONE, {"assignment": assignment_id})
    content: dict[str, object] = {
        "assignment": assignment_id, "comparison": assignment.comparison_id, "participant": person.id,
        "left": assignment.left, "choice": choice, "judgment": stored.id, "surplus": surplus,
        **(timing or Timing()).columns(),
    }  # fmt: skip
    if assignment.arrangement is not None:
        content["arrangement"] = assignment.arrangement
    append(session, person.study_id, "judged", content, now)
    return Recorded.SURPLUS if surplus else Recorded.STORED


def record_answer(
    session: Session,
    participant_id: int,
    assignment_id: int,
    question: str,
    choice: Choice,
    now: datetime,
    timing: Timing | None = None,
) -> Recorded:
    """Store the answer to a further question about an assignment that was judged; the first answer counts.

    Raises:
        UserError: the assignment is not this participant's or not judged yet, or the study does not ask or offer this.
    """
    assignment = session.scalar(_LOCKED, {"assignment": assignment_id})
    judged = session.scalar(select(Judgment.id).where(Judgment.assignment_id == assignment_id))
    if assignment is None or assignment.participant_id != participant_id or judged is None:
        raise UserError(f"assignment {assignment_id}: is not one this participant has judged; answer what is on the page")
    study = session.get_one(Study, assignment.comparison.study_id)
    if study.locked_at is not None:
        return Recorded.LOCKED
    design = design_of(session, study.id)
    asked = design.question_names(len(assignment.comparison.case.concepts))[1:]
    if question not in asked:
        raise UserError(f"question {question!r}: this study asks {', '.join(asked) or 'no further ones'}; answer one of them")
    stored = stored_choice(design, question, choice, len(standing(assignment.left, assignment.arrangement)))
    query = select(Answer.id).where(Answer.assignment_id == assignment_id, Answer.question == question)
    if session.scalar(query) is not None:
        return Recorded.ALREADY
    timings = (timing or Timing()).columns()
    answer = Answer(assignment_id=assignment_id, question=question, choice=stored, answered_at=now, **timings)
    session.add(answer)
    session.flush()
    content = {"answer": answer.id, "assignment": assignment_id, "question": question, "choice": stored, **timings}
    append(session, study.id, "answered", content, now)
    if stored == WRITTEN:
        store_comment(session, participant_id, f"{question} assignment {assignment_id}", choice, now)
    return Recorded.STORED


def stored_choice(design: Design, question: str, choice: Choice, count: int) -> str:
    """Return how an answer to a further question is stored; a comment's text is stored as a reply instead.

    Raises:
        UserError: the question does not take this answer.
    """
    asked = design.question(question)
    if asked is None:
        offered(design, choice, count)
        return choice
    problem = asked.answer_kind.problem(choice, places(count), asked.scale)
    if problem is not None:
        raise UserError(f"question {question!r}: the answer {problem}; answer what the page offers")
    if asked.kind == "comment":
        return WRITTEN if choice.strip() else EMPTY
    return choice


def offered(design: Design, choice: str, count: int) -> None:
    """Raise a UserError for a choice the study does not offer on a page of so many images."""
    if choice == CANNOT_TELL and design.cannot_tell:
        return
    if not is_answer(choice, count, design.answer):
        allowed = [*places(count), *([CANNOT_TELL] if design.cannot_tell else [])]
        ranked = ", all ranked, the best first" if design.answer == "ranking" and count > 2 else ""
        raise UserError(f"choice {choice!r}: this study offers {', '.join(allowed)}{ranked}; choose among them")
