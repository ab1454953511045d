"""Checks of how a participant judges: null pairs, repeats, gold comparisons, attention; which are due, and their answers."""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db.models import (
    Assignment,
    Check,
    Comparison,
    FurtherPicture,
    Judgment,
    Participant,
    StoredArm,
    StoredCase,
    StoredImage,
    Study,
)
from evalkit.errors import UserError
from study_app.plan.audit_log import append
from study_app.plan.design import Design
from study_app.plan.page_layout import CANNOT_TELL, best_first, places, standing
from study_app.service.participant_state import Person
from study_app.service.record_judgment import Choice, Recorded, Timing, offered
from study_app.service.stimuli import concepts_with_references, images_of

Kind = Literal["null_pair", "repeat", "gold", "attention"]
# A repeat asks about nothing that was seen just before.
REPEAT_DISTANCE = 3


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


def next_check(session: Session, design: Design, participant: Person, judged: int, now: datetime) -> Check | None:
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
    offered(design, choice, 2 + len(check.further))
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


def agrees() -> Any:  # noqa: ANN401 -- an SQL condition
    """Return the condition that a check was answered as expected: of a ranking the best place counts."""
    return or_(Check.choice == Check.expected, Check.choice.startswith(Check.expected + " "))


def _null_pair(session: Session, design: Design, participant: Person, _number: int, rng: random.Random) -> Check | None:
    """Return an image of the study next to itself."""
    mine = Comparison.study_id == participant.study_id
    count = session.scalar(select(func.count()).select_from(Comparison).where(mine)) or 0
    comparison = session.scalars(
        select(Comparison).where(mine).order_by(Comparison.priority).offset(rng.randrange(count)).limit(1)
    ).one()
    image_id = rng.choice((comparison.image_a_id, comparison.image_b_id))
    return _of_images([image_id] * design.at_once)


def _repeat(session: Session, _design: Design, participant: Person, _number: int, rng: random.Random) -> Check | None:
    """Return something the participant judged a while ago, sides swapped or places shifted; None if there is none yet."""
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
    stood = standing(assignment.left, assignment.arrangement)
    turn = 1 if len(stood) == 2 else rng.randrange(1, len(stood))
    shifted = stood[turn:] + stood[:turn]
    images = images_of(assignment.comparison, shifted)
    best = best_first(choice, stood)
    check = _of_images([image.id for image in images], places(len(shifted))[shifted.index(best[0])] if best else CANNOT_TELL)
    check.assignment_id = assignment.id
    return check


def _gold(session: Session, design: Design, participant: Person, number: int, rng: random.Random) -> Check | None:
    """Return a comparison whose answer the design knows, each once, in an order of the participant's own.

    Of more than two, images of further arms are shown with the better and the worse one.
    """
    order = list(design.gold)
    random.Random(f"gold {participant.seed}").shuffle(order)
    gold = order[number]
    run_id = select(Study.run_id).where(Study.id == participant.study_id).scalar_subquery()
    rows = session.execute(
        select(StoredArm.label, StoredImage.id)
        .join(StoredImage.arm)
        .join(StoredImage.case)
        .where(StoredCase.run_id == run_id, StoredCase.key == gold.case, StoredImage.seed == gold.seed)
        .order_by(StoredArm.position)
    )
    images: dict[str, int] = {label: image_id for label, image_id in rows}
    chosen = design.comparisons.arms or tuple(images)
    others = [label for label in chosen if label not in (gold.better, gold.worse)]
    shown = [gold.better, gold.worse, *rng.sample(others, design.at_once - 2)]
    rng.shuffle(shown)
    return _of_images([images[label] for label in shown], places(len(shown))[shown.index(gold.better)])


def _attention(session: Session, design: Design, participant: Person, _number: int, rng: random.Random) -> Check | None:
    """Return a reference of a concept next to references of other concepts, as many as available."""
    asked, *others = rng.sample(concepts := concepts_with_references(session, participant.study_id), len(concepts))
    pool = [rng.choice(other.references) for other in others]
    pool += [picture for other in others for picture in other.references if picture not in pool]
    shown = [asked.references[-1], *pool[: design.at_once - 1]]
    rng.shuffle(shown)
    further = [FurtherPicture(place=place, reference_id=picture.id) for place, picture in enumerate(shown[2:], 2)]
    expected = places(len(shown))[shown.index(asked.references[-1])]
    return Check(
        left_reference_id=shown[0].id,
        right_reference_id=shown[1].id,
        concept_id=asked.id,
        expected=expected,
        further=further,
    )


def _of_images(images: Sequence[int], expected: str | None = None) -> Check:
    further = [FurtherPicture(place=place, image_id=image_id) for place, image_id in enumerate(images[2:], 2)]
    return Check(left_image_id=images[0], right_image_id=images[1], expected=expected, further=further)


_MAKERS = {"null_pair": _null_pair, "repeat": _repeat, "gold": _gold, "attention": _attention}
