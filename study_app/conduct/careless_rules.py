"""Exclusion rules for careless participants, fixed in the design; independent of arms."""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from db.models import Assignment, Check, Judgment, Participant, Study
from study_app.plan.design import Design
from study_app.service.checks import agrees


@dataclass(frozen=True)
class Conduct:
    """Counts of a participant's choices and checks, and their median reaction time in milliseconds (None: not measured)."""

    participant_id: int
    simulated: bool
    excluded: str | None
    judged: int
    left: int
    right: int
    passed: Counter[str]
    checked: Counter[str]
    median_ms: float | None

    @property
    def one_side(self) -> float:
        """Return the share of the side chosen more often, among choices of a side; 0 without any."""
        sided = self.left + self.right
        return max(self.left, self.right) / sided if sided else 0.0


def conduct_of_all(session: Session, study_id: int) -> list[Conduct]:
    """Return the conduct of every participant who judged."""
    sides = session.execute(
        select(
            Participant.id,
            Participant.simulated,
            Participant.excluded_because,
            func.count(Judgment.id),
            func.sum(case((Judgment.choice == "left", 1), else_=0)),
            func.sum(case((Judgment.choice == "right", 1), else_=0)),
        )
        .join(Assignment, Assignment.participant_id == Participant.id)
        .join(Judgment, Judgment.assignment_id == Assignment.id)
        .where(Participant.study_id == study_id)
        .group_by(Participant.id, Participant.simulated, Participant.excluded_because)
        .order_by(Participant.id)
    ).all()
    checks = session.execute(
        select(Check.participant_id, Check.kind, func.sum(case((agrees(), 1), else_=0)), func.count())
        .join(Participant, Participant.id == Check.participant_id)
        .where(Participant.study_id == study_id, Check.expected.is_not(None), Check.choice.is_not(None))
        .group_by(Check.participant_id, Check.kind)
    ).all()
    passed: dict[int, Counter[str]] = {}
    checked: dict[int, Counter[str]] = {}
    for who, kind, right, count in checks:
        checked.setdefault(who, Counter())[kind] = count
        passed.setdefault(who, Counter())[kind] = int(right)
    times: dict[int, list[int]] = {}
    measured = session.execute(
        select(Assignment.participant_id, Judgment.reaction_ms)
        .join(Judgment, Judgment.assignment_id == Assignment.id)
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id, Judgment.reaction_ms.is_not(None))
    )
    for who, reaction_ms in measured:
        if reaction_ms is not None:
            times.setdefault(who, []).append(reaction_ms)
    return [
        Conduct(who, made_up, out, judged, int(left), int(right), passed.get(who, Counter()), checked.get(who, Counter()),
                _median(times.get(who, [])))
        for who, made_up, out, judged, left, right in sides
    ]  # fmt: skip


def breaches(conduct: Conduct, design: Design) -> list[str]:
    """Return a description of every rule of the design that a participant breaks."""
    rules, broken = design.rules, []
    if conduct.judged < rules.after:
        return []
    tested = conduct.checked["attention"] + conduct.checked["gold"]
    failed = tested - conduct.passed["attention"] - conduct.passed["gold"]
    if rules.failed_checks is not None and failed > rules.failed_checks:
        broken.append(f"failed {failed} of {tested} attention and gold checks (allowed: {rules.failed_checks})")
    if rules.one_side is not None and conduct.one_side > rules.one_side:
        broken.append(f"chose one side in {conduct.one_side:.0%} of {conduct.judged} (allowed: {rules.one_side:.0%})")
    if rules.median_seconds is not None and conduct.median_ms is not None and conduct.median_ms < 1000 * rules.median_seconds:
        broken.append(f"median time {conduct.median_ms / 1000:.2f} s (allowed: {rules.median_seconds} s or more)")
    return broken


def broken_rules(session: Session, study_id: int) -> list[tuple[int, str]]:
    """Return the participants who break a rule of the design and are not excluded yet, with the reasons."""
    design = Design.of(session.get_one(Study, study_id))
    people = conduct_of_all(session, study_id)
    pilot = {conduct.participant_id for conduct in people[: design.rules.pilot or 0]}
    reason = f"was one of the first {design.rules.pilot}, a pilot"
    breaking = [
        (conduct, [*([reason] if conduct.participant_id in pilot else []), *breaches(conduct, design)])
        for conduct in people
        if conduct.excluded is None
    ]
    return [(conduct.participant_id, "; ".join(broken)) for conduct, broken in breaking if broken]


def _median(values: list[int]) -> float | None:
    ordered, middle = sorted(values), len(values) // 2
    if not ordered:
        return None
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
