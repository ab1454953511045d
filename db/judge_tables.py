"""Models of machine judges and their calls, separate from people: no row here is an assignment, a judgment or an event.

A judge's call refers to a comparison, never to a participant. So it takes no place of a comparison, and nothing that reads
judgments can meet it.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Float, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.declarative import DatabaseTable, Id
from db.study_tables import Comparison


class MachineJudge(DatabaseTable):
    """A model that answers a study's comparisons; everything here is frozen at its first call."""

    __tablename__ = "machine_judges"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    name: Mapped[str]
    # of the registry of judge types
    kind: Mapped[str]
    # without user, password and query
    endpoint: Mapped[str]
    model: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    template: Mapped[str]
    template_sha256: Mapped[str] = mapped_column(String(64))
    # of the study's sentences as the judge reads them
    wording_sha256: Mapped[str] = mapped_column(String(64))
    # the hash of the people's log when the judge began, and how many events it had
    people_events: Mapped[int]
    people_sha256: Mapped[str] = mapped_column(String(64))
    began_at: Mapped[datetime]
    # the start of the chain of its calls
    sha256: Mapped[str] = mapped_column(String(64))
    __table_args__ = (UniqueConstraint("study_id", "name"),)


class JudgeCall(DatabaseTable):
    """One question about one comparison put to a judge in one order.

    `swapped` is 0 if image a comes first, 1 if image b does; a judge that sees one image at a time sees image a or b. A call
    is `open` from before its request until its answer is stored, so that a resumed run counts it against the budget.
    """

    __tablename__ = "judge_calls"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    judge_id: Mapped[int] = mapped_column(ForeignKey("machine_judges.id", ondelete="CASCADE"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparisons.id", ondelete="RESTRICT"))
    question: Mapped[str]
    swapped: Mapped[int]
    repetition: Mapped[int]
    state: Mapped[str]
    # the place that was chosen, or None; of a judge that sees one image, None
    choice: Mapped[str | None]
    score: Mapped[float | None] = mapped_column(Float(53))
    # why there is no answer
    reason: Mapped[str | None]
    # requests sent, the failed ones included
    requests: Mapped[int]
    request_sha256: Mapped[str] = mapped_column(String(64))
    # the answer's text, the model and fingerprint the server states, its request id, the reason it stopped, probabilities
    response: Mapped[dict[str, Any]]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    latency_ms: Mapped[int | None]
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    # 1, 2, ... in the judge's chain; None while open
    number: Mapped[int | None]
    sha256: Mapped[str | None] = mapped_column(String(64))
    judge: Mapped[MachineJudge] = relationship()
    comparison: Mapped[Comparison] = relationship()
    __table_args__ = (
        UniqueConstraint("judge_id", "comparison_id", "question", "swapped", "repetition", name="uq_judge_calls_once"),
        UniqueConstraint("judge_id", "number"),
        CheckConstraint("swapped IN (0, 1)", name="swapped"),
        CheckConstraint("repetition >= 0", name="repetition"),
        CheckConstraint("requests >= 0", name="requests"),
        CheckConstraint("state IN ('open', 'answered', 'refused', 'unreadable', 'failed')", name="state"),
        CheckConstraint("choice IS NULL OR choice IN ('first', 'second', 'cannot_tell')", name="choice"),
        CheckConstraint("(state = 'answered') = (choice IS NOT NULL OR score IS NOT NULL)", name="answered"),
        CheckConstraint("(state = 'open') = (number IS NULL)", name="numbered"),
    )
