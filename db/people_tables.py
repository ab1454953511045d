"""The tables of participants: who judges, on what screen, what they said of themselves, and who a recruiter says they are."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Float, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.declarative import DatabaseTable, Id


class Participant(DatabaseTable):
    """Who judges. Only the hash of the token that opens the study is kept."""

    __tablename__ = "participants"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    # the seed of this participant's own randomness (order, sides)
    seed: Mapped[int] = mapped_column(BigInteger)
    simulated: Mapped[bool] = mapped_column(Boolean)
    completion_code: Mapped[str] = mapped_column(String(16), unique=True)
    # of their pages, where they came by a link that says one
    language: Mapped[str | None]
    arrived_at: Mapped[datetime]
    consented_at: Mapped[datetime | None]
    screened_at: Mapped[datetime | None]
    instructed_at: Mapped[datetime | None]
    practiced_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    questioned_at: Mapped[datetime | None]
    # left out by a rule or the researcher; the judgments stay, and analysis passes them by
    excluded_at: Mapped[datetime | None]
    excluded_because: Mapped[str | None]


class Identity(DatabaseTable):
    """The id under which a recruiter knows a participant, apart from everything else so that it alone can be erased."""

    __tablename__ = "identities"
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="CASCADE"), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    # "prolific" or "mturk"
    source: Mapped[str]
    external_id: Mapped[str]
    # the recruiter's name for this visit (Prolific's session, MTurk's assignment)
    session_id: Mapped[str | None]
    __table_args__ = (UniqueConstraint("study_id", "source", "external_id"),)


class Screen(DatabaseTable):
    """What a participant's screen showed before they began: the size of the page, and how many colour plates were read."""

    __tablename__ = "screens"
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="CASCADE"), primary_key=True)
    # of the page in CSS pixels, which zooming in makes fewer; None where the browser did not say
    width: Mapped[int | None]
    height: Mapped[int | None]
    # device pixels per CSS pixel, zoom included
    pixel_ratio: Mapped[float | None] = mapped_column(Float(53))
    plates: Mapped[int]
    plates_read: Mapped[int]
    attempts: Mapped[int]
    # what the design's rule found wanting; None where nothing was
    failure: Mapped[str | None]
    checked_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("plates_read BETWEEN 0 AND plates", name="plates_read"),
        CheckConstraint("failure IN ('size', 'colour')", name="failure"),
    )


class Reply(DatabaseTable):
    """A participant's answer to a question of the questionnaire; erased with who they are."""

    __tablename__ = "replies"
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="CASCADE"), primary_key=True)
    question: Mapped[str] = mapped_column(primary_key=True)
    reply: Mapped[str]
    replied_at: Mapped[datetime]
