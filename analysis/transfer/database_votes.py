"""All votes of a run in the database as tidy votes, flagged instead of filtered."""

from collections.abc import Mapping

from sqlalchemy import literal, select
from sqlalchemy.orm import Session, aliased

from analysis.database_rows import EXTERNAL
from analysis.transfer.answer_rows import StoredAnswer, row_flags, tidy_votes
from analysis.transfer.tidy_vote import OVERALL, TidyVote
from db import models
from db.session import Database, read


def database_votes(database: Database, run_id: int) -> list[TidyVote]:
    """Return the judgments of a run and then the answers to further questions, each in the order in which they came."""
    with read(database) as session:
        study = session.scalar(select(models.Study).where(models.Study.run_id == run_id))
        if study is None:
            return []
        return tidy_votes(_answers(session, study), sides_known=study.design.get("sides") != "unknown")


def _answers(session: Session, study: models.Study) -> list[StoredAnswer]:
    arms = _arms(session, study.id)
    is_external = study.design.get("source") == EXTERNAL
    judged = {
        assignment: surplus
        for assignment, surplus in session.execute(
            select(models.Judgment.assignment_id, models.Judgment.surplus)
            .join(models.Assignment, models.Assignment.id == models.Judgment.assignment_id)
            .join(models.Comparison, models.Comparison.id == models.Assignment.comparison_id)
            .where(models.Comparison.study_id == study.id)
        )
    }
    answers = []
    for table, question in ((models.Judgment, literal(OVERALL)), (models.Answer, models.Answer.question)):
        rows = session.execute(
            select(
                models.Assignment.id, models.Participant.id, models.Participant.simulated, models.Participant.excluded_at,
                models.Comparison.id, models.StoredCase.key, models.Comparison.seed, models.Assignment.left,
                models.Assignment.arrangement, question, table.choice, table.reaction_ms,
            )
            .join(models.Assignment, models.Assignment.id == table.assignment_id)
            .join(models.Participant, models.Participant.id == models.Assignment.participant_id)
            .join(models.Comparison, models.Comparison.id == models.Assignment.comparison_id)
            .join(models.StoredCase, models.StoredCase.id == models.Comparison.case_id)
            .where(models.Comparison.study_id == study.id)
            .order_by(table.id)
        )  # fmt: skip
        for assignment, who, simulated, excluded, comparison, case, seed, left, arrangement, name, choice, reaction in rows:
            if assignment not in judged:
                continue
            marks = {
                "external": is_external, "simulated": simulated, "excluded": excluded is not None,
                "surplus": judged[assignment],
            }  # fmt: skip
            answers.append(
                StoredAnswer(
                    assignment, who, case, seed, arms[comparison], left, arrangement or "", name, choice, reaction,
                    row_flags(marks),
                )
            )  # fmt: skip
    return answers


def _arms(session: Session, study_id: int) -> Mapping[int, tuple[str, ...]]:
    """Return the arms of every comparison in the order of the experiment."""
    image_a, image_b = aliased(models.StoredImage), aliased(models.StoredImage)
    arm_a, arm_b = aliased(models.StoredArm), aliased(models.StoredArm)
    arms: dict[int, tuple[str, ...]] = {
        comparison: (first, second)
        for comparison, first, second in session.execute(
            select(models.Comparison.id, arm_a.label, arm_b.label)
            .join(image_a, image_a.id == models.Comparison.image_a_id)
            .join(image_b, image_b.id == models.Comparison.image_b_id)
            .join(arm_a, arm_a.id == image_a.arm_id)
            .join(arm_b, arm_b.id == image_b.arm_id)
            .where(models.Comparison.study_id == study_id)
        )
    }
    further = session.execute(
        select(models.FurtherImage.comparison_id, models.StoredArm.label)
        .join(models.Comparison, models.Comparison.id == models.FurtherImage.comparison_id)
        .join(models.StoredImage, models.StoredImage.id == models.FurtherImage.image_id)
        .join(models.StoredArm, models.StoredArm.id == models.StoredImage.arm_id)
        .where(models.Comparison.study_id == study_id)
        .order_by(models.FurtherImage.comparison_id, models.FurtherImage.place)
    )
    for comparison, label in further:
        arms[comparison] = (*arms[comparison], label)
    return arms
