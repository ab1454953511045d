"""Models of a study: comparisons, assignments, judgments, checks, withdrawals and the audit log."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.declarative import DatabaseTable, Id
from db.run_tables import Reference, StoredCase, StoredConcept, StoredImage

# Of two images a side; of more the numbers of the places on the page, the best first: "3", or "3 1 2" where all are ranked.
CHOICE = "choice IN ('left', 'right', 'cannot_tell') OR substr(choice, 1, 1) IN ('1', '2', '3', '4', '5', '6', '7', '8')"

# Of further questions: a choice, a strength such as `left_2`, a value per place such as `left:4 right:2`, or `written`.
ANSWER = "length(choice) BETWEEN 1 AND 200"


class BrowserTimings:
    """Times measured by the participant's browser, in milliseconds; None if not measured."""

    # from the moment all images were shown to the answer
    reaction_ms: Mapped[int | None]
    # from the page's arrival to the moment all images were shown
    loaded_ms: Mapped[int | None]
    # how long, and how often, the page was hidden or without focus before the answer
    hidden_ms: Mapped[int | None]
    focus_losses: Mapped[int | None]


class Study(DatabaseTable):
    """The one study of a run: its design, frozen before the first judgment."""

    __tablename__ = "studies"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="RESTRICT"), unique=True)
    design: Mapped[dict[str, Any]]
    design_sha256: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    # no comparison is assigned while paused; no answer is accepted once locked
    paused_at: Mapped[datetime | None]
    locked_at: Mapped[datetime | None]


class Comparison(DatabaseTable):
    """Images of one case and seed, each from another arm; `filled` counts open and done assignments and can't pass `target`."""

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
    image_a: Mapped[StoredImage] = relationship(primaryjoin="foreign(Comparison.image_a_id) == StoredImage.id", viewonly=True)
    image_b: Mapped[StoredImage] = relationship(primaryjoin="foreign(Comparison.image_b_id) == StoredImage.id", viewonly=True)
    # where more than two are compared, in the order of their arms
    further: Mapped[list["FurtherImage"]] = relationship(order_by="FurtherImage.place", viewonly=True)
    case: Mapped[StoredCase] = relationship()
    __table_args__ = (
        ForeignKeyConstraint(
            ["image_a_id", "case_id", "seed"], ["images.id", "images.case_id", "images.seed"], name="fk_comparisons_a"
        ),
        ForeignKeyConstraint(
            ["image_b_id", "case_id", "seed"], ["images.id", "images.case_id", "images.seed"], name="fk_comparisons_b"
        ),
        UniqueConstraint("study_id", "priority"),
        # what further images refer to, so that the database itself holds them to one case and one seed
        UniqueConstraint("id", "case_id", "seed"),
        CheckConstraint("image_a_id <> image_b_id", name="two_images"),
        CheckConstraint("filled >= 0 AND filled <= target", name="never_over_filled"),
        CheckConstraint("target >= 1", name="target"),
        CheckConstraint("first_left IN (0, 1)", name="first_left"),
        Index("ix_comparisons_least_filled", "study_id", "filled", "priority"),
    )

    @property
    def images(self) -> tuple[StoredImage, ...]:
        """Return all images, in the order of their arms."""
        return (self.image_a, self.image_b, *(further.image for further in self.further))


class FurtherImage(DatabaseTable):
    """The third, fourth, ... image of a comparison of more than two; `place` counts from 0, so the first of them has 2."""

    __tablename__ = "further_images"
    comparison_id: Mapped[int] = mapped_column(Id, primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(Id)
    case_id: Mapped[int] = mapped_column(Id)
    seed: Mapped[int] = mapped_column(BigInteger)
    image: Mapped[StoredImage] = relationship(primaryjoin="foreign(FurtherImage.image_id) == StoredImage.id", viewonly=True)
    __table_args__ = (
        ForeignKeyConstraint(
            ["comparison_id", "case_id", "seed"],
            ["comparisons.id", "comparisons.case_id", "comparisons.seed"],
            name="fk_further_images_comparison",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["image_id", "case_id", "seed"], ["images.id", "images.case_id", "images.seed"], name="fk_further_images_image"
        ),
        UniqueConstraint("comparison_id", "image_id"),
        CheckConstraint("place BETWEEN 2 AND 7", name="place"),
    )


class Assignment(DatabaseTable):
    """A comparison handed to a participant, with its sides and place in the order."""

    __tablename__ = "assignments"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparisons.id", ondelete="RESTRICT"))
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="RESTRICT"))
    position: Mapped[int]
    # 0: image a is on the left of image b; 1: image b is
    left: Mapped[int]
    # of more than two images: their numbers, from 0 in the order of their arms, as arranged on the page: "2 0 1"
    arrangement: Mapped[str | None]
    state: Mapped[str]
    assigned_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    comparison: Mapped[Comparison] = relationship()
    __table_args__ = (
        UniqueConstraint("comparison_id", "participant_id"),
        UniqueConstraint("participant_id", "position"),
        CheckConstraint("state IN ('open', 'done', 'expired')", name="state"),
        # quoted, since it is a reserved word on PostgreSQL
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


class Judgment(BrowserTimings, DatabaseTable):
    """The answer to an assignment. Never rewritten: one per assignment, held by the database."""

    __tablename__ = "judgments"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignments.id", ondelete="RESTRICT"), unique=True)
    choice: Mapped[str]
    # arrived after its reservation lapsed and the place was taken: stored, but outside the target
    surplus: Mapped[bool] = mapped_column(Boolean)
    judged_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint(CHOICE, name="choice"),
        CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name="reaction_ms"),
    )


class Answer(BrowserTimings, DatabaseTable):
    """The answer to a further question about an assignment; the answer to the first one is the judgment."""

    __tablename__ = "answers"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignments.id", ondelete="RESTRICT"))
    # "quality", or "concept 0", "concept 1", ...: by the order of the case's concepts
    question: Mapped[str]
    choice: Mapped[str]
    answered_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("assignment_id", "question"),
        CheckConstraint(ANSWER, name="choice"),
        CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name="reaction_ms"),
    )


class Check(BrowserTimings, DatabaseTable):
    """A quality check shown to one participant; it fills no place and enters no contrast.

    `kind`: `null_pair` (one image twice), `repeat` (an assignment again, sides swapped), `gold` (the design states which arm
    is better), `attention` (a concept's reference next to another concept's). `expected` is the choice that agrees with the
    design or the earlier judgment, None for null pairs. `choice` is None until it is answered.
    """

    __tablename__ = "checks"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id", ondelete="RESTRICT"))
    kind: Mapped[str]
    # how many comparisons the participant had judged before it
    after: Mapped[int]
    left_image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="RESTRICT"))
    right_image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="RESTRICT"))
    left_reference_id: Mapped[int | None] = mapped_column(ForeignKey("concept_references.id", ondelete="RESTRICT"))
    right_reference_id: Mapped[int | None] = mapped_column(ForeignKey("concept_references.id", ondelete="RESTRICT"))
    # the concept asked for, where references are compared
    concept_id: Mapped[int | None] = mapped_column(ForeignKey("concepts.id", ondelete="RESTRICT"))
    # the case whose concepts are shown above references
    case_id: Mapped[int | None] = mapped_column(ForeignKey("cases.id", ondelete="RESTRICT"))
    # what is asked again
    assignment_id: Mapped[int | None] = mapped_column(ForeignKey("assignments.id", ondelete="RESTRICT"), unique=True)
    expected: Mapped[str | None]
    choice: Mapped[str | None]
    given_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    left_image: Mapped[StoredImage | None] = relationship(foreign_keys=[left_image_id])
    right_image: Mapped[StoredImage | None] = relationship(foreign_keys=[right_image_id])
    left_reference: Mapped[Reference | None] = relationship(foreign_keys=[left_reference_id])
    right_reference: Mapped[Reference | None] = relationship(foreign_keys=[right_reference_id])
    concept: Mapped[StoredConcept | None] = relationship()
    # where more than two are judged at once; left and right are then the first and second place of the page
    further: Mapped[list["FurtherPicture"]] = relationship(order_by="FurtherPicture.place")
    __table_args__ = (
        CheckConstraint("kind IN ('null_pair', 'repeat', 'gold', 'attention')", name="kind"),
        CheckConstraint(CHOICE.replace("choice", "expected"), name="expected"),
        CheckConstraint(CHOICE, name="choice"),
        CheckConstraint("(choice IS NULL) = (answered_at IS NULL)", name="answered"),
        CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name="reaction_ms"),
        Index(
            "uq_checks_one_open",
            "participant_id",
            unique=True,
            sqlite_where=text("choice IS NULL"),
            postgresql_where=text("choice IS NULL"),
        ),
    )


class CheckAnswer(BrowserTimings, DatabaseTable):
    """The answer to a further question about a check, asked so that a check looks like any comparison; it counts nowhere."""

    __tablename__ = "check_answers"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    check_id: Mapped[int] = mapped_column(ForeignKey("checks.id", ondelete="RESTRICT"))
    question: Mapped[str]
    choice: Mapped[str]
    answered_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("check_id", "question"),
        CheckConstraint(ANSWER, name="choice"),
        CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name="reaction_ms"),
    )


class FurtherPicture(DatabaseTable):
    """The third, fourth, ... image of a check, an image or a reference; `place` counts from 0, so the first of them has 2."""

    __tablename__ = "further_pictures"
    check_id: Mapped[int] = mapped_column(ForeignKey("checks.id", ondelete="RESTRICT"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="RESTRICT"))
    reference_id: Mapped[int | None] = mapped_column(ForeignKey("concept_references.id", ondelete="RESTRICT"))
    image: Mapped[StoredImage | None] = relationship()
    reference: Mapped[Reference | None] = relationship()
    __table_args__ = (
        CheckConstraint("place BETWEEN 2 AND 7", name="place"),
        CheckConstraint("(image_id IS NULL) <> (reference_id IS NULL)", name="one"),
    )


class Withdrawal(BrowserTimings, DatabaseTable):
    """An answer that its participant withdrew, stored unchanged."""

    __tablename__ = "withdrawals"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignments.id", ondelete="RESTRICT"), index=True)
    # "overall" for a judgment, or a further question's name
    question: Mapped[str]
    choice: Mapped[str]
    judged_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime]
    __table_args__ = (CheckConstraint(ANSWER, name="choice"),)


class Event(DatabaseTable):
    """An entry of the audit log; its `sha256` covers the entry and the hash of the previous one."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    # 1, 2, ... within the study
    number: Mapped[int]
    kind: Mapped[str]
    content: Mapped[dict[str, Any]]
    happened_at: Mapped[datetime]
    sha256: Mapped[str] = mapped_column(String(64))
    __table_args__ = (UniqueConstraint("study_id", "number"),)
