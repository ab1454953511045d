"""Live statistics of a running study: pace, expected end, sides, checks, unusual participants; blind to arms."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session

from db.models import Assignment, Check, Judgment, Participant, Study
from db.session import Database, read
from study_app.conduct.careless_rules import Conduct, breaches, conduct_of_all
from study_app.conduct.progress import study_status
from study_app.plan.design import Design
from study_app.plan.page_layout import CANNOT_TELL, best_first, standing
from study_app.service.checks import agrees


@dataclass(frozen=True)
class Proportion:
    """A share with its 95 % Wilson interval (1927); None for an empty total."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the interval's ends."""
        if self.of == 0:
            return None
        from scipy.stats import binomtest

        ends = binomtest(self.count, self.of).proportion_ci(0.95, "wilson")
        return float(ends.low), float(ends.high)


@dataclass(frozen=True)
class LiveStatistics:
    """What the researcher may see while the study is blind. `left`: choices of the left among choices of a side."""

    paused: bool
    locked_at: datetime | None
    last_hour: int
    active: int
    finish_at: datetime | None
    left: Proportion
    null_left: Proportion
    # null pairs in which a side was chosen although there was nothing to choose
    null_sided: Proportion
    # what agrees with what was expected, by kind of check
    passed: dict[str, Proportion]
    people: tuple[tuple[Conduct, tuple[str, ...]], ...]
    # pairs of answers to one comparison that are equal, and Krippendorff's alpha (None where it is undefined)
    agreed: Proportion
    alpha: float | None


def watch(database: Database, study_id: int, now: datetime) -> LiveStatistics:
    """Return how a study goes. The finish is reckoned from the judgments of the last day, at their pace while people judged."""
    status = study_status(database, study_id)
    with read(database) as session:
        study = session.get_one(Study, study_id)
        design = Design.of(study)
        mine = (
            select(Judgment.judged_at, Assignment.participant_id)
            .join(Assignment, Assignment.id == Judgment.assignment_id)
            .join(Participant, Participant.id == Assignment.participant_id)
            .where(Participant.study_id == study_id)
        )
        recent = session.execute(mine.where(Judgment.judged_at > now - timedelta(days=1))).all()
        conduct = [person for person in conduct_of_all(session, study_id) if person.excluded is None]
        checks = session.execute(
            select(
                Check.kind,
                func.count(),
                func.sum(case((agrees(), 1), else_=0)),
                func.sum(case((or_(Check.choice == "left", Check.choice.startswith("1")), 1), else_=0)),
                func.sum(case((Check.choice == "cannot_tell", 0), else_=1)),
            )
            .join(Participant, Participant.id == Check.participant_id)
            .where(Participant.study_id == study_id, Check.choice.is_not(None), Participant.excluded_at.is_(None))
            .group_by(Check.kind)
        ).all()
        answers = _answers(session, study_id)
    agreed, alpha = _agreement(answers)
    counted = {kind: (int(n), int(right), int(left), int(sided)) for kind, n, right, left, sided in checks}
    hour = [row for row in recent if row.judged_at > now - timedelta(hours=1)]
    null = counted.get("null_pair", (0, 0, 0, 0))
    left, right = sum(person.left for person in conduct), sum(person.right for person in conduct)
    return LiveStatistics(
        paused=study.paused_at is not None,
        locked_at=study.locked_at,
        last_hour=len(hour),
        active=len({row.participant_id for row in hour}),
        finish_at=_finish(status.places - status.judged, [row.judged_at for row in recent], now),
        left=Proportion(left, left + right),
        null_left=Proportion(null[2], null[3]),
        null_sided=Proportion(null[3], null[0]),
        passed={kind: Proportion(right, n) for kind, (n, right, _, _) in sorted(counted.items()) if kind != "null_pair"},
        people=tuple((person, tuple(breaches(person, design))) for person in conduct),
        agreed=agreed,
        alpha=alpha,
    )


def _answers(session: Session, study_id: int) -> list[tuple[int, str]]:
    """Return every answer that counts as its comparison and what it names: the number of an image, or that nothing was told."""
    rows = session.execute(
        select(Assignment.comparison_id, Judgment.choice, Assignment.left, Assignment.arrangement)
        .join(Judgment, Judgment.assignment_id == Assignment.id)
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id, Participant.excluded_at.is_(None), ~Judgment.surplus)
    )
    return [
        (comparison, str(next(iter(best_first(choice, standing(left, arrangement))), CANNOT_TELL)))
        for comparison, choice, left, arrangement in rows
    ]


def _agreement(answers: list[tuple[int, str]]) -> tuple[Proportion, float | None]:
    from analysis.votes.agreement import agreement, counts_of

    if not answers:
        return Proportion(0, 0), None
    import numpy as np

    units, names = (np.unique([answer[column] for answer in answers], return_inverse=True)[1] for column in (0, 1))
    counts = counts_of(units, names)
    sizes = counts.sum(axis=1)
    pairs = (counts * (counts - 1)).sum(), (sizes * (sizes - 1)).sum()
    return Proportion(int(pairs[0]) // 2, int(pairs[1]) // 2), agreement(counts).alpha


def _finish(missing: int, times: list[datetime], now: datetime) -> datetime | None:
    """Return when the rest will be judged, at the pace of the last day; None without a pace, or with nothing missing."""
    if missing <= 0 or len(times) < 2:
        return None
    span = now - min(times)
    return now + missing * span / len(times)
