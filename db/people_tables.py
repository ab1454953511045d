"""The tables of participants: who judges, and, apart from that, who a recruiter says they are."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.table import Id, Table


class Participant(Table):
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
    instructed_at: Mapped[datetime | None]
    practiced_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # left out by a rule or the researcher; the judgments stay, and analysis passes them by
    excluded_at: Mapped[datetime | None]
    excluded_because: Mapped[str | None]


class Identity(Table):
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
