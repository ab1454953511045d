"""Checks of how a participant judges: null pairs, repeats, gold comparisons, attention; which are due, and their answers."""

import hashlib
import math
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Arm, Assignment, Case, Check, Comparison, Image, Judgment, Participant, Study
from evalkit.errors import UserError
from study_app.chain import append
from study_app.design import Design
from study_app.judge import Choice, Recorded, Timing, offered
from study_app.stimuli import concepts_with_references

Kind = Literal["null_pair", "repeat", "gold", "attention"]
# A repeat asks about nothing that was seen just before.
REPEAT_DISTANCE = 3
_OTHER_SIDE = {"left": "right", "right": "left", "cannot_tell": "cannot_tell"}


def due(design: Design, seed: int, judged: int) -> dict[Kind, int]:
    """Return how many checks of each kind a participant should have had after so many comparisons judged.

    One after every 1 / rate comparisons, from a starting point that the participant's seed draws.
    """
    rates: dict[Kind, float] = {
        "null_pair": design.checks.null_pairs,
        "repeat": design.checks.repeats,
        "gold": design.checks.gold,
        "attention": design.checks.attention,
    }
    counts: dict[Kind, int] = {}
    for kind, rate in rates.items():
        phase = hashlib.sha256(f"checks {kind} {seed}".encode()).digest()[0] / 256
        counts[kind] = math.floor(rate * judged + phase) if rate > 0 else 0
    # one that was seen before would be recognised
    counts["gold"] = min(counts["gold"], len(design.gold))
    return counts


def next_check(session: Session, design: Design, participant: Participant, judged: int, now: datetime) -> Check | None:
    """Return the check the participant is to answer now, the open one or one that is due. Call it inside `write`."""
    if not design.checks.any():
        return None
    still_open = session.scalar(select(Check).where(Check.participant_id == participant.id, Check.choice.is_(None)))
    if still_open is not None:
        return still_open
    given: Mapping[str, int] = {
        kind: count
        for kind, count in session.execute(
            select(Check.kind, func.count()).where(Check.participant_id == participant.id).group_by(Check.kind)
        )
    }
    for kind, wanted in due(design, participant.seed, judged).items():
        number = given.get(kind, 0)
        if number < wanted:
            rng = random.Random(f"{kind} {participant.seed} {number}")
            check = _MAKERS[kind](session, design, participant, number, rng)
            if check is not None:
                check.participant_id, check.kind, check.after, check.given_at = participant.id, kind, judged, now
                session.add(check)
                session.flush()
                return check
    return None


def answer_check(
    session: Session, design: Design, participant_id: int, check_id: int, choice: Choice, now: datetime, timing: Timing
) -> Recorded:
    """Store the answer to a check; the first answer stands. Call it inside `write`.

    Raises:
        UserError: the check is not this participant's, or the study does not offer this choice.
    """
    check = session.scalar(select(Check).where(Check.id == check_id).with_for_update())
    if check is None or check.participant_id != participant_id:
        raise UserError(f"check {check_id}: is not this participant's; only what is on the page can be judged")
    offered(design, choice, 2)
    if check.choice is not None:
        return Recorded.ALREADY
    study = session.get_one(Study, session.get_one(Participant, participant_id).study_id)
    if study.locked_at is not None:
        return Recorded.LOCKED
    check.choice, check.answered_at = choice, now
    for name, value in timing.columns().items():
        setattr(check, name, value)
    session.flush()
    append(session, study.id, "checked", {"check": check_id, "kind": check.kind, "choice": choice}, now)
    return Recorded.STORED


def _null_pair(session: Session, _design: Design, participant: Participant, _number: int, rng: random.Random) -> Check | None:
    """Return an image of the study beside itself."""
    mine = Comparison.study_id == participant.study_id
    count = session.scalar(select(func.count()).select_from(Comparison).where(mine)) or 0
    comparison = session.scalars(
        select(Comparison).where(mine).order_by(Comparison.priority).offset(rng.randrange(count)).limit(1)
    ).one()
    image_id = rng.choice((comparison.image_a_id, comparison.image_b_id))
    return Check(left_image_id=image_id, right_image_id=image_id)


def _repeat(session: Session, _design: Design, participant: Participant, _number: int, rng: random.Random) -> Check | None:
    """Return something the participant judged a while ago, its sides swapped; None where there is nothing yet."""
    judged = session.execute(
        select(Assignment, Judgment.choice)
        .join(Judgment, Judgment.assignment_id == Assignment.id)
        .where(Assignment.participant_id == participant.id)
        .order_by(Judgment.id)
    ).all()
    before = select(Check.assignment_id).where(Check.participant_id == participant.id, Check.kind == "repeat")
    repeated = set(session.scalars(before))
    candidates = [row for row in judged[: max(0, len(judged) - REPEAT_DISTANCE)] if row[0].id not in repeated]
    if not candidates:
        return None
    assignment, choice = rng.choice(candidates)
    images = (assignment.comparison.image_a_id, assignment.comparison.image_b_id)
    return Check(
        left_image_id=images[1 - assignment.left],
        right_image_id=images[assignment.left],
        assignment_id=assignment.id,
        expected=_OTHER_SIDE[choice],
    )


def _gold(session: Session, design: Design, participant: Participant, number: int, rng: random.Random) -> Check | None:
    """Return a comparison whose answer the design knows, each once, in an order of the participant's own."""
    order = list(design.gold)
    random.Random(f"gold {participant.seed}").shuffle(order)
    gold = order[number]
    run_id = select(Study.run_id).where(Study.id == participant.study_id).scalar_subquery()
    images = {
        label: image_id
        for label, image_id in session.execute(
            select(Arm.label, Image.id)
            .join(Image.arm)
            .join(Image.case)
            .where(Case.run_id == run_id, Case.key == gold.case, Image.seed == gold.seed)
        )
    }
    left, right = (gold.better, gold.worse) if rng.random() < 0.5 else (gold.worse, gold.better)
    return Check(left_image_id=images[left], right_image_id=images[right], expected="left" if left == gold.better else "right")


def _attention(session: Session, _design: Design, participant: Participant, _number: int, rng: random.Random) -> Check | None:
    """Return a concept's own picture beside one of another concept."""
    asked, other = rng.sample(concepts_with_references(session, participant.study_id), 2)
    pictures = [asked.references[-1], rng.choice(other.references)]
    expected = "left"
    if rng.random() < 0.5:
        pictures.reverse()
        expected = "right"
    return Check(left_reference_id=pictures[0].id, right_reference_id=pictures[1].id, concept_id=asked.id, expected=expected)


_MAKERS = {"null_pair": _null_pair, "repeat": _repeat, "gold": _gold, "attention": _attention}
