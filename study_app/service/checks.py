"""Quality checks of a participant: null pairs, repeats, gold comparisons, attention checks."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db.models import (
    Assignment,
    CaseConcept,
    Check,
    Comparison,
    FurtherPicture,
    Judgment,
    Participant,
    Reference,
    StoredArm,
    StoredCase,
    StoredImage,
    Study,
)
from db.session import keep
from evalkit.errors import UserError
from study_app.plan.audit_log import append
from study_app.plan.check_schedule import REPEAT_DISTANCE, Kind, checks_before
from study_app.plan.design import Design
from study_app.plan.page_layout import CANNOT_TELL, best_first, places, standing
from study_app.service.participant_state import Person
from study_app.service.record_judgment import Choice, Recorded, Timing, offered
from study_app.service.stimuli import PicturedConcept, concepts_with_references, images_of


@dataclass(frozen=True)
class PlannedCheck:
    """A check before it is stored: ids of its images, or of a concept's references, in the order of the page.

    `number` counts the participant's checks from 0.
    """

    kind: Kind
    images: tuple[int, ...] = ()
    references: tuple[int, ...] = ()
    expected: str | None = None
    concept: PicturedConcept | None = None
    # of references: the case whose concepts are shown above them
    case_id: int | None = None
    assignment_id: int | None = None
    number: int = 0


def open_check(session: Session, participant_id: int) -> Check | None:
    """Return the check that the participant has not answered yet."""
    return session.scalar(select(Check).where(Check.participant_id == participant_id, Check.choice.is_(None)))


def next_check(session: Session, design: Design, person: Person, judged: int, now: datetime) -> Check | None:
    """Return the check the participant is to answer now, the open one or one that is due. Call it inside `write`."""
    if not design.checks.any():
        return None
    still_open = open_check(session, person.id)
    if still_open is not None:
        return still_open
    number = count_checks(session, person.id)
    planned = plan_check(session, design, person, number, judged, judged_list(session, person.id))
    if planned is None:
        return None
    check = _store(session, planned, person, judged, now)
    content = {
        "check": check.id, "participant": person.id, "kind": planned.kind, "after": judged,
        "assignment": planned.assignment_id, "concept": None if planned.concept is None else planned.concept.name,
        "shown": _shown(session, planned), "expected": planned.expected,
        "case": None if planned.case_id is None else session.get_one(StoredCase, planned.case_id).key,
    }  # fmt: skip
    append(session, person.study_id, "check", content, now)
    return check


def count_checks(session: Session, participant_id: int) -> int:
    """Return how many checks the participant was given."""
    return session.scalar(select(func.count(Check.id)).where(Check.participant_id == participant_id)) or 0


def judged_list(session: Session, participant_id: int) -> list[tuple[Assignment, str | None]]:
    """Return the participant's judged assignments with their choices, in order."""
    rows = session.execute(
        select(Assignment, Judgment.choice)
        .join(Judgment, Judgment.assignment_id == Assignment.id)
        .where(Assignment.participant_id == participant_id)
        .order_by(Judgment.id)
    )
    return [(assignment, choice) for assignment, choice in rows]


def plan_check(
    session: Session,
    design: Design,
    person: Person,
    number: int,
    judged: int,
    earlier: Sequence[tuple[Assignment, str | None]],
) -> PlannedCheck | None:
    """Return the participant's check of this number if it is due after so many judgments, without storing it.

    The result depends on seeds and on what was judged before alone, so a page can be prepared before the one before it is
    answered. `earlier` holds the judged assignments, the last of which may lack its choice.
    """
    kinds = checks_before(design, person.seed, judged)
    if number >= len(kinds):
        return None
    kind = kinds[number]
    rng = random.Random(f"{kind} {person.seed} {number}")
    planned = _PLANNERS[kind](session, design, person, kinds[:number].count(kind), rng, earlier)
    # if the judgment to repeat was withdrawn, another check takes its turn, so that the schedule holds
    return replace(planned or _null_pair(session, design, person, 0, rng, earlier), number=number)


def answer_check(
    session: Session, design: Design, participant_id: int, check_id: int, choice: Choice, now: datetime, timing: Timing
) -> Recorded:
    """Store the answer to a check; the first answer counts. Call it inside `write`.

    Raises:
        UserError: the check is not this participant's, or the study does not offer this choice.
    """
    check = session.scalar(select(Check).where(Check.id == check_id).with_for_update())
    if check is None or check.participant_id != participant_id:
        raise UserError(f"check {check_id}: is not this participant's; answer the page that is shown")
    offered(design, choice, 2 + len(check.further))
    if check.choice is not None:
        return Recorded.ALREADY
    study = session.get_one(Study, session.get_one(Participant, participant_id).study_id)
    if study.locked_at is not None:
        return Recorded.LOCKED
    check.choice, check.answered_at = choice, now
    timings = timing.columns()
    for name, value in timings.items():
        setattr(check, name, value)
    session.flush()
    append(session, study.id, "checked", {"check": check_id, "kind": check.kind, "choice": choice, **timings}, now)
    return Recorded.STORED


def agrees() -> Any:  # noqa: ANN401 -- an SQL condition
    """Return the condition that a check was answered as expected; of a ranking the best place counts."""
    return or_(Check.choice == Check.expected, Check.choice.startswith(Check.expected + " "))


def _null_pair(
    session: Session, design: Design, person: Person, _occurrence: int, rng: random.Random, _earlier: object
) -> PlannedCheck:
    """Plan an image of the study next to itself."""
    mine = Comparison.study_id == person.study_id
    count = session.scalar(select(func.count()).select_from(Comparison).where(mine)) or 0
    comparison = session.scalars(
        select(Comparison).where(mine).order_by(Comparison.priority).offset(rng.randrange(count)).limit(1)
    ).one()
    image_id = rng.choice((comparison.image_a_id, comparison.image_b_id))
    return PlannedCheck("null_pair", images=(image_id,) * design.at_once)


def _repeat(
    session: Session,
    _design: Design,
    person: Person,
    _occurrence: int,
    rng: random.Random,
    earlier: Sequence[tuple[Assignment, str | None]],
) -> PlannedCheck | None:
    """Plan something the participant judged a while ago, sides swapped or places shifted; None if there is none yet."""
    before = select(Check.assignment_id).where(Check.participant_id == person.id, Check.kind == "repeat")
    repeated = set(session.scalars(before))
    candidates = [row for row in earlier[: max(0, len(earlier) - REPEAT_DISTANCE)] if row[0].id not in repeated]
    if not candidates:
        return None
    assignment, choice = rng.choice(candidates)
    stood = standing(assignment.left, assignment.arrangement)
    turn = 1 if len(stood) == 2 else rng.randrange(1, len(stood))
    shifted = stood[turn:] + stood[:turn]
    best = best_first(str(choice), stood)
    expected = places(len(shifted))[shifted.index(best[0])] if best else CANNOT_TELL
    images = tuple(image.id for image in images_of(assignment.comparison, shifted))
    return PlannedCheck("repeat", images=images, expected=expected, assignment_id=assignment.id)


def _gold(
    session: Session, design: Design, person: Person, occurrence: int, rng: random.Random, _earlier: object
) -> PlannedCheck:
    """Plan a comparison whose answer the design states, each once, in a seeded order per participant.

    Of more than two, images of further arms are shown with the better and the worse one.
    """
    order = list(design.gold)
    random.Random(f"gold {person.seed}").shuffle(order)
    gold = order[occurrence]
    run_id = select(Study.run_id).where(Study.id == person.study_id).scalar_subquery()
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
    expected = places(len(shown))[shown.index(gold.better)]
    return PlannedCheck("gold", images=tuple(images[label] for label in shown), expected=expected)


def _attention(
    session: Session, design: Design, person: Person, _occurrence: int, rng: random.Random, _earlier: object
) -> PlannedCheck:
    """Plan a reference of a concept of some case next to references of concepts that are not in the case.

    The page has the case's concepts and question, so it looks like any comparison. If no case leaves enough pictures outside,
    the page has one concept.
    """
    pictured = {concept.id: concept for concept in concepts_with_references(session, person.study_id)}
    cases = _cases(session, person.study_id)
    # a page with fewer places than any other would be recognised
    eligible = [case for case in sorted(cases) if _has_distractors(pictured, cases[case], design.at_once - 1)]
    case_id = rng.choice(eligible) if eligible else None
    if case_id is None:
        asked, *others = rng.sample(list(pictured.values()), len(pictured))
    else:
        asked = rng.choice([pictured[concept] for concept in cases[case_id] if concept in pictured])
        others = [concept for concept in pictured.values() if concept.id not in cases[case_id]]
        rng.shuffle(others)
    pool = [rng.choice(other.references) for other in others]
    pool += [picture for other in others for picture in other.references if picture not in pool]
    while len(pool) < design.at_once - 1:
        pool += pool
    shown = [asked.references[-1], *pool[: design.at_once - 1]]
    rng.shuffle(shown)
    expected = places(len(shown))[shown.index(asked.references[-1])]
    references = tuple(picture.id for picture in shown)
    return PlannedCheck("attention", references=references, expected=expected, concept=asked, case_id=case_id)


def _has_distractors(pictured: Mapping[int, PicturedConcept], case: Collection[int], wanted: int) -> bool:
    """Return whether a case has a pictured concept, and the concepts outside it have so many pictures."""
    outside = sum(len(concept.references) for concept in pictured.values() if concept.id not in case)
    return outside >= wanted and any(concept in pictured for concept in case)


def _cases(session: Session, study_id: int) -> dict[int, tuple[int, ...]]:
    """Return the concepts of every case of a study."""
    return keep(session, ("concepts of cases", study_id), lambda: _read_cases(session, study_id))


def _read_cases(session: Session, study_id: int) -> dict[int, tuple[int, ...]]:
    rows = session.execute(
        select(CaseConcept.case_id, CaseConcept.concept_id)
        .where(CaseConcept.case_id.in_(select(Comparison.case_id).where(Comparison.study_id == study_id)))
        .order_by(CaseConcept.case_id, CaseConcept.position)
    )
    cases: dict[int, tuple[int, ...]] = {}
    for case_id, concept_id in rows:
        cases[case_id] = (*cases.get(case_id, ()), concept_id)
    return cases


_PLANNERS: dict[Kind, Callable[..., PlannedCheck | None]] = {
    "null_pair": _null_pair, "repeat": _repeat, "gold": _gold, "attention": _attention,
}  # fmt: skip


def _store(session: Session, planned: PlannedCheck, person: Person, judged: int, now: datetime) -> Check:
    column, ids = ("image_id", planned.images) if planned.images else ("reference_id", planned.references)
    check = Check(
        participant_id=person.id, kind=planned.kind, after=judged, given_at=now, expected=planned.expected,
        assignment_id=planned.assignment_id, case_id=planned.case_id,
        concept_id=None if planned.concept is None else planned.concept.id,
        further=[FurtherPicture(place=position, **{column: picture}) for position, picture in enumerate(ids[2:], 2)],
        **{f"left_{column}": ids[0], f"right_{column}": ids[1]},
    )  # fmt: skip
    session.add(check)
    session.flush()
    return check


def _shown(session: Session, planned: PlannedCheck) -> list[str]:
    """Return the sha256 of every image of a check, in the order of the page."""
    table, ids = (StoredImage, planned.images) if planned.images else (Reference, planned.references)
    digests: dict[int, str] = {
        row[0]: row[1] for row in session.execute(select(table.id, table.sha256).where(table.id.in_(ids)))
    }
    return [digests[identifier] for identifier in ids]
