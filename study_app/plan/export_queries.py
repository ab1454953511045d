"""Queries of the tables of an export."""

from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from db.models import (
    Answer,
    Assignment,
    Check,
    CheckAnswer,
    Comparison,
    FurtherImage,
    FurtherPicture,
    Judgment,
    Participant,
    Reference,
    Reply,
    Screen,
    StoredArm,
    StoredCase,
    StoredConcept,
    StoredImage,
    Study,
    Withdrawal,
)
from study_app.plan.export_tables import COLUMNS, cell, free_text, reply_cell


def read_tables(session: Session, study_id: int) -> dict[str, list[list[str]]]:
    """Return the rows of every table of an export as cells, in the columns and order of an export."""
    queries = export_queries(study_id)
    tables = {}
    for name, columns in COLUMNS.items():
        if tuple(queries[name].selected_columns.keys()) != columns:
            raise RuntimeError(f"the query of {name} does not select its columns")
        tables[name] = [[cell(value) for value in row] for row in session.execute(queries[name])]
    because = COLUMNS["participants"].index("excluded_because")
    for row in tables["participants"]:
        row[because] = free_text(row[because])
    options = _options(session.scalar(select(Study.design).where(Study.id == study_id)))
    question, reply = (COLUMNS["replies"].index(name) for name in ("question", "reply"))
    for row in tables["replies"]:
        row[reply] = reply_cell(row[reply], options.get(row[question], ()))
    return tables


def _options(design: dict[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Return the options of every question of a design's questionnaire."""
    questions = (design or {}).get("questionnaire", ())
    return {str(question["name"]): tuple(question.get("options", ())) for question in questions}


def export_queries(study_id: int) -> dict[str, Select[*tuple[object, ...]]]:
    """Return the query of each exported table."""
    arm_a, arm_b = aliased(StoredArm), aliased(StoredArm)
    image_a, image_b = aliased(StoredImage), aliased(StoredImage)
    comparisons = (
        select(
            Comparison.id, StoredCase.key.label("case"), Comparison.seed,
            arm_a.label.label("arm_a"), arm_b.label.label("arm_b"),
            image_a.sha256.label("image_a_sha256"), image_b.sha256.label("image_b_sha256"),
            Comparison.priority, Comparison.target, Comparison.filled, Comparison.first_left,
        )
        .join(StoredCase, StoredCase.id == Comparison.case_id)
        .join(image_a, image_a.id == Comparison.image_a_id)
        .join(image_b, image_b.id == Comparison.image_b_id)
        .join(arm_a, arm_a.id == image_a.arm_id)
        .join(arm_b, arm_b.id == image_b.arm_id)
        .where(Comparison.study_id == study_id)
        .order_by(Comparison.id)
    )  # fmt: skip
    further = (
        select(
            FurtherImage.comparison_id, FurtherImage.place, StoredArm.label.label("arm"),
            StoredImage.sha256.label("image_sha256"),
        )
        .join(Comparison, Comparison.id == FurtherImage.comparison_id)
        .join(StoredImage, StoredImage.id == FurtherImage.image_id)
        .join(StoredArm, StoredArm.id == StoredImage.arm_id)
        .where(Comparison.study_id == study_id)
        .order_by(FurtherImage.comparison_id, FurtherImage.place)
    )  # fmt: skip
    participants = (
        select(
            Participant.id, Participant.simulated, Participant.seed, Participant.arrived_at,
            Participant.consented_at, Participant.screened_at, Participant.instructed_at, Participant.practiced_at,
            Participant.finished_at, Participant.questioned_at, Participant.language, Participant.excluded_at,
            Participant.excluded_because,
        )
        .where(Participant.study_id == study_id)
        .order_by(Participant.id)
    )  # fmt: skip
    assignments = (
        select(
            Assignment.id, Assignment.comparison_id, Assignment.participant_id, Assignment.position, Assignment.left,
            Assignment.arrangement, Assignment.state, Assignment.assigned_at,
        )
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(Assignment.id)
    )  # fmt: skip
    judgments = _timed(study_id, Judgment, Judgment.choice, Judgment.surplus, Judgment.judged_at)
    answers = _timed(study_id, Answer, Answer.question, Answer.choice, Answer.answered_at)
    withdrawals = _timed(
        study_id, Withdrawal, Withdrawal.question, Withdrawal.choice, Withdrawal.judged_at, Withdrawal.withdrawn_at
    )
    left_image, right_image, left_reference, right_reference = (
        aliased(StoredImage), aliased(StoredImage), aliased(Reference), aliased(Reference),
    )  # fmt: skip
    checks = (
        select(
            Check.id, Check.participant_id, Check.kind, Check.after, Check.assignment_id,
            StoredConcept.name.label("concept"), StoredCase.key.label("case"),
            func.coalesce(left_image.sha256, left_reference.sha256).label("left_sha256"),
            func.coalesce(right_image.sha256, right_reference.sha256).label("right_sha256"),
            Check.expected, Check.choice, Check.given_at, Check.answered_at,
            Check.reaction_ms, Check.loaded_ms, Check.hidden_ms, Check.focus_losses,
        )
        .join(Participant, Participant.id == Check.participant_id)
        .outerjoin(StoredConcept, StoredConcept.id == Check.concept_id)
        .outerjoin(StoredCase, StoredCase.id == Check.case_id)
        .outerjoin(left_image, left_image.id == Check.left_image_id)
        .outerjoin(right_image, right_image.id == Check.right_image_id)
        .outerjoin(left_reference, left_reference.id == Check.left_reference_id)
        .outerjoin(right_reference, right_reference.id == Check.right_reference_id)
        .where(Participant.study_id == study_id)
        .order_by(Check.id)
    )  # fmt: skip
    pictures = (
        select(
            FurtherPicture.check_id, FurtherPicture.place, func.coalesce(StoredImage.sha256, Reference.sha256).label("sha256")
        )
        .join(Check, Check.id == FurtherPicture.check_id)
        .join(Participant, Participant.id == Check.participant_id)
        .outerjoin(StoredImage, StoredImage.id == FurtherPicture.image_id)
        .outerjoin(Reference, Reference.id == FurtherPicture.reference_id)
        .where(Participant.study_id == study_id)
        .order_by(FurtherPicture.check_id, FurtherPicture.place)
    )
    check_answers = (
        select(
            CheckAnswer.id, CheckAnswer.check_id, CheckAnswer.question, CheckAnswer.choice, CheckAnswer.answered_at,
            CheckAnswer.reaction_ms, CheckAnswer.loaded_ms, CheckAnswer.hidden_ms, CheckAnswer.focus_losses,
        )
        .join(Check, Check.id == CheckAnswer.check_id)
        .join(Participant, Participant.id == Check.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(CheckAnswer.id)
    )  # fmt: skip
    screens = (
        select(
            Screen.participant_id, Screen.width, Screen.height, Screen.pixel_ratio, Screen.plates, Screen.plates_read,
            Screen.attempts, Screen.failure, Screen.checked_at, Screen.salt,
        )
        .join(Participant, Participant.id == Screen.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(Screen.participant_id)
    )  # fmt: skip
    replies = (
        select(Reply.participant_id, Reply.question, Reply.reply, Reply.replied_at, Reply.salt)
        .join(Participant, Participant.id == Reply.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(Reply.participant_id, Reply.question)
    )
    return {
        "comparisons": comparisons,
        "further_images": further,
        "participants": participants,
        "assignments": assignments,
        "judgments": judgments,
        "answers": answers,
        "checks": checks,
        "withdrawals": withdrawals,
        "further_pictures": pictures,
        "check_answers": check_answers,
        "screens": screens,
        "replies": replies,
    }


def _timed(
    study_id: int, table: type[Judgment | Answer | Withdrawal], *columns: InstrumentedAttribute[Any]
) -> Select[*tuple[object, ...]]:
    """Return the query of a table of answers with the times measured by the browser."""
    measured = (table.reaction_ms, table.loaded_ms, table.hidden_ms, table.focus_losses)
    return (
        select(table.id, table.assignment_id, *columns, *measured)
        .join(Assignment, Assignment.id == table.assignment_id)
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(table.id)
    )
