"""Models of participants, their screens, questionnaire replies and recruiter ids."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Float, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.declarative import DatabaseTable, Id


class Participant(DatabaseTable):
    """A participant. The database stores the hash of their access token, never the token."""

    __tablename__ = "participants"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    # seeds this participant's order, sides and checks
    seed: Mapped[int] = mapped_column(BigInteger)
    simulated: Mapped[bool] = mapped_column(Boolean)
    completion_code: Mapped[str] = mapped_column(String(16), unique=True)
    # of their pages, if their link names one
    language: Mapped[str | None]
    arrived_at: Mapped[datetime]
    consented_at: Mapped[datetime | None]
    screened_at: Mapped[datetime | None]
    instructed_at: Mapped[datetime | None]
    practiced_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    questioned_at: Mapped[datetime | None]
    # excluded by a rule or the researcher; the judgments stay, and analysis ignores them
    excluded_at: Mapped[datetime | None]
    excluded_because: Mapped[str | None]


class Identity(DatabaseTable):
    """The recruiter's id of a participant, in a separate table so that it can be erased alone."""

    __tablename__ = "identities"
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="CASCADE"), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    # "prolific" or "mturk"
    source: Mapped[str]
    external_id: Mapped[str]
    # the recruiter's id of this visit (Prolific's session, MTurk's assignment)
    session_id: Mapped[str | None]
    __table_args__ = (UniqueConstraint("study_id", "source", "external_id"),)


class Screen(DatabaseTable):
    """A participant's screen check: page size and how many colour plates were read correctly."""

    __tablename__ = "screens"
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="CASCADE"), primary_key=True)
    # of the page in CSS pixels (zooming in reduces it); None if the browser did not report it
    width: Mapped[int | None]
    height: Mapped[int | None]
    # device pixels per CSS pixel, zoom included
    pixel_ratio: Mapped[float | None] = mapped_column(Float(53))
    plates: Mapped[int]
    plates_read: Mapped[int]
    attempts: Mapped[int]
    # which requirement of the design failed; None if none did
    failure: Mapped[str | None]
    checked_at: Mapped[datetime]
    # of the log's commitment to this row; None in rows made before there were commitments
    salt: Mapped[str | None]
    __table_args__ = (
        CheckConstraint("plates_read BETWEEN 0 AND plates", name="plates_read"),
        CheckConstraint("failure IN ('size', 'colour')", name="failure"),
    )


class Reply(DatabaseTable):
    """A participant's reply to a questionnaire item; deleted when they are erased."""

    __tablename__ = "replies"
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="CASCADE"), primary_key=True)
    question: Mapped[str] = mapped_column(primary_key=True)
    reply: Mapped[str]
    replied_at: Mapped[datetime]
    salt: Mapped[str | None]


class ErasedPerson(DatabaseTable):
    """Salted hash of a recruiter's id or cookie of an erased participant, to recognise them if they return; names no one."""

    __tablename__ = "erasures"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    salt: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64))
