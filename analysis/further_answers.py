"""Answers to further questions, one row each, with the arms in the order of the page."""

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from db import models

ANSWER_COLUMNS = ("question", "comparison", "case", "seed", "participant", "shown", "choice")


def no_answers() -> pd.DataFrame:
    """Return the rows of a study without further questions."""
    return pd.DataFrame(columns=list(ANSWER_COLUMNS))


def read_answers(session: Session, run_id: int) -> pd.DataFrame:
    """Return the answers about judgments within the target of participants who are not excluded, with a column `simulated`."""
    image_a, image_b = aliased(models.StoredImage), aliased(models.StoredImage)
    arm_a, arm_b = aliased(models.StoredArm), aliased(models.StoredArm)
    rows = session.execute(
        select(
            models.Answer.question, models.Comparison.id, models.StoredCase.key, models.Comparison.seed,
            models.Assignment.participant_id, models.Assignment.left, models.Assignment.arrangement, arm_a.label, arm_b.label,
            models.Answer.choice, models.Participant.simulated,
        )
        .join(models.Assignment, models.Assignment.id == models.Answer.assignment_id)
        .join(models.Judgment, models.Judgment.assignment_id == models.Assignment.id)
        .join(models.Participant, models.Participant.id == models.Assignment.participant_id)
        .join(models.Comparison, models.Comparison.id == models.Assignment.comparison_id)
        .join(models.Study, models.Study.id == models.Comparison.study_id)
        .join(models.StoredCase, models.StoredCase.id == models.Comparison.case_id)
        .join(image_a, image_a.id == models.Comparison.image_a_id)
        .join(image_b, image_b.id == models.Comparison.image_b_id)
        .join(arm_a, arm_a.id == image_a.arm_id)
        .join(arm_b, arm_b.id == image_b.arm_id)
        .where(
            models.Study.run_id == run_id, models.Participant.excluded_at.is_(None), models.Judgment.surplus.is_(False)
        )
        .order_by(models.Answer.id)
    ).all()  # fmt: skip
    further = _further_arms(session, run_id) if rows else {}
    records = []
    for question, comparison, case, seed, who, left, arrangement, first, second, choice, simulated in rows:
        arms = (first, second, *further.get(comparison, ()))
        order = (left, 1 - left) if arrangement is None else tuple(int(number) for number in arrangement.split())
        records.append((question, comparison, case, seed, who, tuple(arms[number] for number in order), choice, simulated))
    return pd.DataFrame(records, columns=[*ANSWER_COLUMNS, "simulated"])


def _further_arms(session: Session, run_id: int) -> dict[int, tuple[str, ...]]:
    rows = session.execute(
        select(models.FurtherImage.comparison_id, models.StoredArm.label)
        .join(models.StoredImage, models.StoredImage.id == models.FurtherImage.image_id)
        .join(models.StoredArm, models.StoredArm.id == models.StoredImage.arm_id)
        .where(models.StoredArm.run_id == run_id)
        .order_by(models.FurtherImage.comparison_id, models.FurtherImage.place)
    )
    arms: dict[int, tuple[str, ...]] = {}
    for comparison, label in rows:
        arms[comparison] = (*arms.get(comparison, ()), label)
    return arms
