"""The tables: a run, its study and its judgments, with constraints that make wrong states impossible."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from db.moments import UtcDateTime, utc_now

# SQLite only counts up by itself in a column typed INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")

# Constraints have names, so that migrations can change them on every database.
NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    """What every table shares."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {dict[str, Any]: JSON, datetime: UtcDateTime, str: Text}  # noqa: RUF012 -- SQLAlchemy's own hook


class Run(Table):
    """A run folder that was loaded."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    experiment_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    # of the score file loaded last; None where there was none
    scores_sha256: Mapped[str | None] = mapped_column(String(64))
    source: Mapped[str]
    loaded_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("source IN ('generated', 'imported')", name="source"),)


class Concept(Table):
    """What a LoRA was trained on."""

    __tablename__ = "concepts"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str]
    words: Mapped[str]
    class_word: Mapped[str]
    references: Mapped[list["Reference"]] = relationship(order_by="Reference.position")
    __table_args__ = (UniqueConstraint("run_id", "name"),)


class Reference(Table):
    """A real picture of a concept; the path is relative to the run folder."""

    __tablename__ = "concept_references"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    concept_id: Mapped[int] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    position: Mapped[int]
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    __table_args__ = (UniqueConstraint("concept_id", "position"),)


class Arm(Table):
    """A merge method with its parameters fixed; `position` is its column in every table."""

    __tablename__ = "arms"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    label: Mapped[str]
    method: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    position: Mapped[int]
    __table_args__ = (UniqueConstraint("run_id", "label"), UniqueConstraint("run_id", "position"))


class Case(Table):
    """One question put to every arm."""

    __tablename__ = "cases"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    key: Mapped[str]
    prompt: Mapped[str]
    plain_prompt: Mapped[str]
    concepts: Mapped[list["CaseConcept"]] = relationship(order_by="CaseConcept.position")
    __table_args__ = (UniqueConstraint("run_id", "key"),)


class CaseConcept(Table):
    """The concepts of a case, in the order of the prompt."""

    __tablename__ = "case_concepts"
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    concept_id: Mapped[int] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    concept: Mapped[Concept] = relationship()


class Image(Table):
    """The image of a case, arm and seed, bound to its bytes."""

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"))
    arm_id: Mapped[int] = mapped_column(ForeignKey("arms.id", ondelete="CASCADE"))
    seed: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    latents_sha256: Mapped[str | None] = mapped_column(String(64))
    case: Mapped[Case] = relationship()
    arm: Mapped[Arm] = relationship()
    __table_args__ = (
        UniqueConstraint("case_id", "arm_id", "seed"),
        # what a comparison refers to, so that the database itself holds it to one case and one seed
        UniqueConstraint("id", "case_id", "seed"),
    )


class Metric(Table):
    """A metric under one recipe: another signature is another row, so scores of two recipes can't mix."""

    __tablename__ = "metrics"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str]
    signature: Mapped[str]
    direction: Mapped[str]
    # when its scores last came in: the recipe used last is the newest
    loaded_at: Mapped[datetime] = mapped_column(default=utc_now)
    __table_args__ = (
        UniqueConstraint("run_id", "name", "signature"),
        CheckConstraint("direction IN ('higher', 'lower', 'none')", name="direction"),
    )


class Score(Table):
    """The value of a metric for an image, against one concept or another arm's image where the metric compares."""

    __tablename__ = "scores"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    metric_id: Mapped[int] = mapped_column(ForeignKey("metrics.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    concept_id: Mapped[int | None] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    other_image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    value: Mapped[float] = mapped_column(Float(53))
    __table_args__ = (
        # NULLs differ from each other in a plain unique constraint
        Index(
            "uq_scores_one_value",
            "metric_id",
            "image_id",
            func.coalesce(concept_id, 0),
            func.coalesce(other_image_id, 0),
            unique=True,
        ),
    )


class Study(Table):
    """The one study of a run: its design, frozen before the first judgment."""

    __tablename__ = "studies"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="RESTRICT"), unique=True)
    design: Mapped[dict[str, Any]]
    design_sha256: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Comparison(Table):
    """Two images of one case and seed from two arms; `filled` counts open and done assignments and can't pass `target`."""

    __tablename__ = "comparisons"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id", ondelete="RESTRICT"))
    seed: Mapped[int] = mapped_column(BigInteger)
    # the images in the order of their arms: a's arm comes first in every table
    image_a_id: Mapped[int] = mapped_column(Id)
    image_b_id: Mapped[int] = mapped_column(Id)
    # a seeded shuffle; ties between equally filled comparisons go by it
    priority: Mapped[int]
    target: Mapped[int]
    filled: Mapped[int] = mapped_column(default=0)
    # 0 or 1: which image the first participant sees on the left; the next ones alternate
    first_left: Mapped[int]
    image_a: Mapped[Image] = relationship(primaryjoin="foreign(Comparison.image_a_id) == Image.id", viewonly=True)
    image_b: Mapped[Image] = relationship(primaryjoin="foreign(Comparison.image_b_id) == Image.id", viewonly=True)
    case: Mapped[Case] = relationship()
    __table_args__ = (
        ForeignKeyConstraint(
            ["image_a_id", "case_id", "seed"], ["images.id", "images.case_id", "images.seed"], name="fk_comparisons_a"
        ),
        ForeignKeyConstraint(
            ["image_b_id", "case_id", "seed"], ["images.id", "images.case_id", "images.seed"], name="fk_comparisons_b"
        ),
        UniqueConstraint("study_id", "image_a_id", "image_b_id"),
        CheckConstraint("image_a_id <> image_b_id", name="two_images"),
        CheckConstraint("filled >= 0 AND filled <= target", name="never_over_filled"),
        CheckConstraint("target >= 1", name="target"),
        CheckConstraint("first_left IN (0, 1)", name="first_left"),
        Index("ix_comparisons_least_filled", "study_id", "filled", "priority"),
    )


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
    arrived_at: Mapped[datetime]
    consented_at: Mapped[datetime | None]
    instructed_at: Mapped[datetime | None]
    practiced_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Assignment(Table):
    """A comparison handed to a participant, with its sides and place in the order."""

    __tablename__ = "assignments"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparisons.id", ondelete="RESTRICT"))
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="RESTRICT"))
    position: Mapped[int]
    # 0: image a is on the left; 1: image b is
    left: Mapped[int]
    state: Mapped[str]
    assigned_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    comparison: Mapped[Comparison] = relationship()
    __table_args__ = (
        UniqueConstraint("comparison_id", "participant_id"),
        UniqueConstraint("participant_id", "position"),
        CheckConstraint("state IN ('open', 'done', 'expired')", name="state"),
        # a reserved word on PostgreSQL, so it stands in quotes
        CheckConstraint('"left" IN (0, 1)', name="left"),
        Index("ix_assignments_state_expires_at", "state", "expires_at"),
        Index(
            "uq_assignments_one_open",
            "participant_id",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
    )


class Judgment(Table):
    """The answer to an assignment. Never rewritten: one per assignment, held by the database."""

    __tablename__ = "judgments"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignments.id", ondelete="RESTRICT"), unique=True)
    choice: Mapped[str]
    # came after its reservation had lapsed and the place was taken: kept, but outside the target
    surplus: Mapped[bool] = mapped_column(Boolean)
    # measured in the participant's browser from the moment both images were shown; None where it could not be
    reaction_ms: Mapped[int | None]
    judged_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("choice IN ('left', 'right', 'cannot_tell')", name="choice"),
        CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name="reaction_ms"),
    )
