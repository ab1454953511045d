"""Answers of machine judges as rows, read apart from people's judgments and never joined with them."""

from collections.abc import Sequence

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from db import models

MACHINE_COLUMNS = (
    "judge", "kind", "model", "question", "comparison", "case", "seed", "first", "second", "a_first", "b_first", "refused",
    "unreadable", "failed",
)  # fmt: skip


def no_machine_judgments() -> pd.DataFrame:
    """Return the frame of a run without judges."""
    return pd.DataFrame(columns=list(MACHINE_COLUMNS))


def read_machine_judgments(session: Session, run_id: int) -> pd.DataFrame:
    """Return one row per judge, question and comparison, in the columns `MACHINE_COLUMNS`.

    `a_first` and `b_first` are the answers in the two orders: 1 where the image of `first` was chosen, 0 where that of `second`
    was, .5 for "cannot tell", NaN without an answer. Repetitions count by majority. A judge that scores one image at a time has
    one answer, which is in both columns. `refused`, `unreadable` and `failed` are numbers of calls.
    """
    image_a, image_b = aliased(models.StoredImage), aliased(models.StoredImage)
    arm_a, arm_b = aliased(models.StoredArm), aliased(models.StoredArm)
    rows = session.execute(
        select(
            models.MachineJudge.name, models.MachineJudge.kind, models.MachineJudge.model, models.JudgeCall.question,
            models.Comparison.id, models.StoredCase.key, models.Comparison.seed, arm_a.label, arm_b.label,
            arm_a.position, arm_b.position,
            models.JudgeCall.swapped, models.JudgeCall.state, models.JudgeCall.choice, models.JudgeCall.score,
        )
        .join(models.MachineJudge, models.MachineJudge.id == models.JudgeCall.judge_id)
        .join(models.Study, models.Study.id == models.MachineJudge.study_id)
        .join(models.Comparison, models.Comparison.id == models.JudgeCall.comparison_id)
        .join(models.StoredCase, models.StoredCase.id == models.Comparison.case_id)
        .join(image_a, image_a.id == models.Comparison.image_a_id)
        .join(image_b, image_b.id == models.Comparison.image_b_id)
        .join(arm_a, arm_a.id == image_a.arm_id)
        .join(arm_b, arm_b.id == image_b.arm_id)
        .where(models.Study.run_id == run_id, models.JudgeCall.state != "open")
        .order_by(models.MachineJudge.id, models.JudgeCall.question, models.Comparison.id, models.JudgeCall.repetition)
    ).all()  # fmt: skip
    if not rows:
        return no_machine_judgments()
    calls = pd.DataFrame(
        [tuple(row) for row in rows],
        columns=["judge", "kind", "model", "question", "comparison", "case", "seed", "a", "b", "place_a", "place_b",
                 "swapped", "state", "choice", "score"],
    )  # fmt: skip
    keys = ["judge", "kind", "model", "question", "comparison", "case", "seed", "a", "b", "place_a", "place_b"]
    records = []
    for key, group in calls.groupby(keys, sort=False):
        *named, a, b, place_a, place_b = key
        straight = int(str(place_a)) < int(str(place_b))
        by_order = _scored(group) if named[1] == "score" else [_majority(group, swapped) for swapped in (0, 1)]
        # of image a; the table is about the arm that comes first in the experiment
        a_first, b_first = by_order if straight else [1 - value for value in reversed(by_order)]
        states = group["state"].tolist()
        records.append(
            (*named, *((a, b) if straight else (b, a)), a_first, b_first,
             *(states.count(state) for state in ("refused", "unreadable", "failed")))
        )  # fmt: skip
    return pd.DataFrame(records, columns=list(MACHINE_COLUMNS))


def _majority(group: pd.DataFrame, swapped: int) -> float:
    """Return 1 if image a was chosen in this order, 0 if b was, .5 for neither, NaN without an answer."""
    wins = {"first": 0.0 if swapped else 1.0, "second": 1.0 if swapped else 0.0, "cannot_tell": 0.5}
    values = [wins[choice] for choice in group.loc[group["swapped"] == swapped, "choice"] if isinstance(choice, str)]
    return _sign(values)


def _scored(group: pd.DataFrame) -> list[float]:
    """Return whether image a has the higher mean score, as the answer in both orders."""
    means = [group.loc[group["swapped"] == swapped, "score"].astype(float).mean() for swapped in (0, 1)]
    if any(pd.isna(mean) for mean in means):
        return [float("nan")] * 2
    return [_sign([0.5 + (means[0] > means[1]) / 2 - (means[0] < means[1]) / 2])] * 2


def _sign(values: Sequence[float]) -> float:
    if not values:
        return float("nan")
    lean = sum(values) / len(values) - 0.5
    return 0.5 if lean == 0 else float(lean > 0)
