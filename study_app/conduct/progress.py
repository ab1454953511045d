"""Progress of a study, blind: participants and filled places, never choices."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, case, exists, func, literal, select
from sqlalchemy.orm import aliased

from db.models import (
    Assignment,
    Comparison,
    FurtherImage,
    Judgment,
    Participant,
    Reply,
    Screen,
    StoredArm,
    StoredCase,
    StoredImage,
    Study,
)
from db.session import Database, read
from study_app.plan.entry_checks import PREFIX
from study_app.service.participant_state import how_many


@dataclass(frozen=True)
class Group:
    """All comparisons of the same arms: how many there are, places filled by answers, held just now, and wanted."""

    arms: tuple[str, ...]
    comparisons: int
    complete: int
    judged: int
    held: int
    places: int


@dataclass(frozen=True)
class CaseProgress:
    """All comparisons of a case: how many there are, how many have all their answers, answers given and wanted."""

    case: str
    comparisons: int
    complete: int
    judged: int
    places: int


@dataclass(frozen=True)
class StudyStatus:
    """The state of a study; `surplus` judgments came too late for their place, `lapsed` reservations were not answered."""

    groups: tuple[Group, ...]
    arrived: int
    consented: int
    finished: int
    # judged something, but neither finished nor excluded
    partly: int
    # came to the end of the pages without anything to judge, or failed the screen check
    turned_away: int
    simulated: int
    judgments: int
    surplus: int
    lapsed: int
    latest: datetime | None

    @property
    def places(self) -> int:
        """Return how many judgments the study needs."""
        return sum(group.places for group in self.groups)

    @property
    def judged(self) -> int:
        """Return how many of the places are judged."""
        return sum(group.judged for group in self.groups)


def study_status(database: Database, study_id: int) -> StudyStatus:
    """Return how far a study is; no figure shows any arm's share."""
    arm_a, arm_b = aliased(StoredArm), aliased(StoredArm)
    image_a, image_b = aliased(StoredImage), aliased(StoredImage)
    places = (
        select(
            Assignment.comparison_id.label("comparison_id"),
            func.sum(case((Assignment.state == "done", 1), else_=0)).label("done"),
            func.sum(case((Assignment.state == "open", 1), else_=0)).label("open"),
        )
        .group_by(Assignment.comparison_id)
        .subquery()
    )
    done, held = func.coalesce(places.c.done, 0), func.coalesce(places.c.open, 0)
    # the further arms of a comparison as one number, a bit for each: the same on every database
    bit = literal(1, BigInteger).bitwise_lshift(StoredArm.position)
    more = (
        select(FurtherImage.comparison_id, func.sum(bit).label("bits"))
        .join(StoredImage, StoredImage.id == FurtherImage.image_id)
        .join(StoredArm, StoredArm.id == StoredImage.arm_id)
        .group_by(FurtherImage.comparison_id)
        .subquery()
    )
    further = func.coalesce(more.c.bits, 0)
    groups = (
        select(
            arm_a.label,
            arm_b.label,
            further,
            func.count(Comparison.id),
            func.sum(case((done >= Comparison.target, 1), else_=0)),
            func.sum(done),
            func.sum(held),
            func.sum(Comparison.target),
        )
        .select_from(Comparison)
        .join(image_a, image_a.id == Comparison.image_a_id)
        .join(image_b, image_b.id == Comparison.image_b_id)
        .join(arm_a, arm_a.id == image_a.arm_id)
        .join(arm_b, arm_b.id == image_b.arm_id)
        .outerjoin(places, places.c.comparison_id == Comparison.id)
        .outerjoin(more, more.c.comparison_id == Comparison.id)
        .where(Comparison.study_id == study_id)
        .group_by(arm_a.label, arm_b.label, arm_a.position, arm_b.position, further)
        .order_by(arm_a.position, arm_b.position, further)
    )
    judged = exists().where(Assignment.participant_id == Participant.id, Judgment.assignment_id == Assignment.id)
    has_ended, is_in = Participant.finished_at.is_not(None), Participant.excluded_at.is_(None)
    is_refused = exists().where(Screen.participant_id == Participant.id, Screen.failure.is_not(None))
    is_out = exists().where(Reply.participant_id == Participant.id, Reply.question.startswith(PREFIX), Reply.reply == "out")
    people = select(
        func.count(),
        func.count(Participant.consented_at),
        how_many(has_ended & judged),
        how_many(~has_ended & judged & is_in),
        how_many(~judged & (has_ended | is_out | (is_refused & Participant.instructed_at.is_(None)))),
        how_many(Participant.simulated.is_(True)),
    ).where(Participant.study_id == study_id)
    answers = (
        select(
            func.count(Judgment.id),
            func.coalesce(func.sum(case((Judgment.surplus, 1), else_=0)), 0),
            func.max(Judgment.judged_at),
        )
        .join(Assignment, Assignment.id == Judgment.assignment_id)
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id)
    )
    lapsed = (
        select(func.count())
        .select_from(Assignment)
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id, Assignment.state == "expired")
    )
    with read(database) as session:
        rows = session.execute(groups).all()
        run_id = select(Study.run_id).where(Study.id == study_id).scalar_subquery()
        labels = session.scalars(select(StoredArm.label).where(StoredArm.run_id == run_id).order_by(StoredArm.position)).all()
        arrived, consented, finished, partly, turned_away, simulated = session.execute(people).one()
        judgments, surplus, latest = session.execute(answers).one()
        return StudyStatus(
            groups=tuple(
                Group((a, b, *_named(labels, int(bits))), count, complete, int(n), int(h), int(wanted))
                for a, b, bits, count, complete, n, h, wanted in rows
            ),
            arrived=arrived,
            consented=consented,
            finished=int(finished),
            partly=int(partly),
            turned_away=int(turned_away),
            simulated=int(simulated),
            judgments=judgments,
            surplus=int(surplus),
            lapsed=session.scalar(lapsed) or 0,
            latest=latest,
        )


def _named(labels: Sequence[str], bits: int) -> list[str]:
    """Return the arms whose bits are set."""
    return [label for position, label in enumerate(labels) if bits >> position & 1]


def progress_by_case(database: Database, study_id: int) -> tuple[CaseProgress, ...]:
    """Return how far each case is, in the order of the run."""
    done = (
        select(Assignment.comparison_id, func.count().label("done"))
        .where(Assignment.state == "done")
        .group_by(Assignment.comparison_id)
        .subquery()
    )
    judged = func.coalesce(done.c.done, 0)
    cases = (
        select(
            StoredCase.key,
            func.count(Comparison.id),
            func.sum(case((judged >= Comparison.target, 1), else_=0)),
            func.sum(judged),
            func.sum(Comparison.target),
        )
        .join(Comparison, Comparison.case_id == StoredCase.id)
        .outerjoin(done, done.c.comparison_id == Comparison.id)
        .where(Comparison.study_id == study_id)
        .group_by(StoredCase.id, StoredCase.key)
        .order_by(StoredCase.id)
    )
    with read(database) as session:
        return tuple(
            CaseProgress(key, count, int(complete), int(answers), int(wanted))
            for key, count, complete, answers, wanted in session.execute(cases)
        )
