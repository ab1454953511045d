"""Models of a run: concepts, references, arms, cases, images, metrics, scores."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.declarative import DatabaseTable, Id
from db.utc import utc_now


class Run(DatabaseTable):
    """A run folder that was loaded."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    experiment_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    # of the score file loaded last; None without one
    scores_sha256: Mapped[str | None] = mapped_column(String(64))
    source: Mapped[str]
    loaded_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("source IN ('generated', 'imported')", name="source"),)


class StoredConcept(DatabaseTable):
    """What a LoRA was trained on."""

    __tablename__ = "concepts"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str]
    words: Mapped[str]
    class_word: Mapped[str]
    references: Mapped[list["Reference"]] = relationship(order_by="Reference.position")
    __table_args__ = (UniqueConstraint("run_id", "name"),)


class Reference(DatabaseTable):
    """A real image of a concept; the path is relative to the run folder."""

    __tablename__ = "concept_references"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    concept_id: Mapped[int] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    position: Mapped[int]
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    __table_args__ = (UniqueConstraint("concept_id", "position"),)


class StoredArm(DatabaseTable):
    """A merge method with its parameters fixed; `position` is its column in every table."""

    __tablename__ = "arms"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    label: Mapped[str]
    method: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    position: Mapped[int]
    __table_args__ = (UniqueConstraint("run_id", "label"), UniqueConstraint("run_id", "position"))


class StoredCase(DatabaseTable):
    """One question put to every arm."""

    __tablename__ = "cases"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    key: Mapped[str]
    prompt: Mapped[str]
    plain_prompt: Mapped[str]
    concepts: Mapped[list["CaseConcept"]] = relationship(order_by="CaseConcept.position")
    __table_args__ = (UniqueConstraint("run_id", "key"),)


class CaseConcept(DatabaseTable):
    """The concepts of a case, in the order of the prompt."""

    __tablename__ = "case_concepts"
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    concept_id: Mapped[int] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    concept: Mapped[StoredConcept] = relationship()


class StoredImage(DatabaseTable):
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
    case: Mapped[StoredCase] = relationship()
    arm: Mapped[StoredArm] = relationship()
    __table_args__ = (
        UniqueConstraint("case_id", "arm_id", "seed"),
        # what a comparison refers to, so that the database itself holds it to one case and one seed
        UniqueConstraint("id", "case_id", "seed"),
    )


class Metric(DatabaseTable):
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


class StoredScore(DatabaseTable):
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
