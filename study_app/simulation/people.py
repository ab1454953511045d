"""Simulated participants: a known preference answered through the same functions as people's, and marked as simulated."""

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Assignment, Check, Judgment, Participant, StoredArm, Study
from db.session import Database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.plan.design import Design
from study_app.plan.page_layout import CANNOT_TELL, places, standing
from study_app.service.check_answers import record_check_answer
from study_app.service.checks import answer_check
from study_app.service.participant_state import find_person
from study_app.service.participants import Mark, add_participant, mark
from study_app.service.record_judgment import Choice, Timing, record_answer, record_judgment
from study_app.service.stimuli import images_of
from study_app.service.tasks import ParticipantTask, count_judged, next_task

# Judgments per transaction: one disk flush for all of them.
BATCH = 100


@dataclass(frozen=True)
class Behaviour:
    """How simulated participants answer.

    `effects` is each arm's appeal in logits (arms not named: 0): an arm is chosen over another with probability
    1 / (1 + exp(other - own)), as in Bradley and Terry (1952), and ranked among several as in Plackett (1975). `side_bias`
    (logits) is added to whatever is on the left, or comes first. With probability `lapse` an answer is a fair coin's. Where
    the study offers "cannot tell", it is the answer with probability `cannot_tell`.
    """

    effects: Mapping[str, float] = field(default_factory=dict)
    side_bias: float = 0.0
    lapse: float = 0.02
    cannot_tell: float = 0.1

    def __post_init__(self) -> None:
        for name, share in (("lapse", self.lapse), ("cannot_tell", self.cannot_tell)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} {share}: is a share, from 0 to 1")
        for name, logit in (*self.effects.items(), ("side bias", self.side_bias)):
            if not math.isfinite(logit):
                raise UserError(f"effect {name}={logit}: is a number of logits, such as 0.8")

    def chance_of_left(self, left_arm: str, right_arm: str) -> float:
        """Return the probability that the left image is chosen, given that a side is chosen."""
        logit = self.effects.get(left_arm, 0.0) - self.effects.get(right_arm, 0.0) + self.side_bias
        preferred = 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))
        return (1 - self.lapse) * preferred + self.lapse / 2

    def answer(self, rng: random.Random, left_arm: str, right_arm: str, may_decline: bool) -> Choice:
        """Return one answer; every call takes the same two numbers from `rng`."""
        declines, side = rng.random(), rng.random()
        if may_decline and declines < self.cannot_tell:
            return "cannot_tell"
        return "left" if side < self.chance_of_left(left_arm, right_arm) else "right"

    def rank(self, rng: random.Random, arms: Sequence[str], ranks: int, may_decline: bool) -> Choice:
        """Return an answer about more than two images, as arranged on the page: its best places, so many of them."""
        declines, lapses = rng.random(), rng.random() < self.lapse
        left, chosen = list(range(len(arms))), []
        for _ in range(ranks):
            logits = [0.0 if lapses else self.effects.get(arms[n], 0.0) + (self.side_bias if n == 0 else 0.0) for n in left]
            best = max(logits)
            pick = rng.choices(left, [math.exp(logit - best) for logit in logits])[0]
            left.remove(pick)
            chosen.append(str(pick + 1))
        return CANNOT_TELL if may_decline and declines < self.cannot_tell else " ".join(chosen)


@dataclass(frozen=True)
class Simulated:
    """How many simulated participants gave how many judgments."""

    participants: int
    judgments: int


def simulate(
    database: Database,
    study_id: int,
    participants: int,
    behaviour: Behaviour,
    seed: int,
    tell: Callable[[], None] | None = None,
) -> Simulated:
    """Let simulated participants judge all that is left of a study, turn by turn; `tell` is called after each judgment.

    The same study and seeds give the same judgments.

    Raises:
        UserError: an effect names no arm of the run, or people have judged in this study.
    """
    if participants < 1:
        raise UserError(f"participants {participants}: give 1 or more")
    with write(database) as session:
        check_simulation(session, study_id, behaviour)
        design = Design.of(session.get_one(Study, study_id))
        waiting = deque(add_simulated(session, study_id, number, seed) for number in range(participants))
    judged = 0
    while waiting:
        with write(database) as session:
            for _ in range(BATCH):
                if not waiting:
                    break
                number, participant_id = waiting.popleft()
                task = next_task(session, design, participant_id, utc_now())
                if task is None:
                    mark(session, participant_id, "finished_at", utc_now())
                    continue
                answer_task(session, design, participant_id, task, behaviour, f"{seed} {number}", utc_now())
                waiting.append((number, participant_id))
                if task.kind == "comparison" and task.question == "overall":
                    judged += 1
                    if tell is not None:
                        tell()
    return Simulated(participants, judged)


def has_simulated(database: Database, study_id: int) -> bool:
    """Return whether simulated participants have judged in a study."""
    with read(database) as session:
        return _judged(session, study_id, simulated=True)


def _judged(session: Session, study_id: int, simulated: bool) -> bool:
    judgment_id = session.scalar(
        select(Judgment.id)
        .join(Assignment, Assignment.id == Judgment.assignment_id)
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id, Participant.simulated.is_(simulated))
        .limit(1)
    )
    return judgment_id is not None


def check_simulation(session: Session, study_id: int, behaviour: Behaviour) -> None:
    """Raise a UserError if simulation is not allowed: the study is closed, or people have judged in it."""
    study = session.get_one(Study, study_id)
    if study.paused_at is not None or study.locked_at is not None:
        raise UserError("the study is paused or locked; simulate in another database, with --db")
    run_id = study.run_id
    arms = session.scalars(select(StoredArm.label).where(StoredArm.run_id == run_id).order_by(StoredArm.position)).all()
    for name in behaviour.effects:
        if name not in arms:
            raise UserError(f"effect {name!r}: no such arm; known: {', '.join(arms)}")
    if _judged(session, study_id, simulated=False):
        raise UserError("people have judged in this study; simulate in another database, with --db")


def seed_of(seed: int, number: int) -> int:
    """Return the seed of a simulated participant's own order and sides."""
    return random.Random(f"participant {seed} {number}").getrandbits(62)


def add_simulated(session: Session, study_id: int, number: int, seed: int) -> tuple[int, int]:
    """Add a participant whose own order and sides come from the seed, past all pages but the comparisons.

    Return their number in the simulation and their id.
    """
    now = utc_now()
    participant, _ = add_participant(session, study_id, now, seed=seed_of(seed, number), simulated=True)
    steps: tuple[Mark, ...] = ("consented_at", "instructed_at", "practiced_at")
    for step in steps:
        mark(session, participant.id, step, now)
    return number, participant.id


def answer_task(
    session: Session,
    design: Design,
    participant_id: int,
    task: ParticipantTask,
    behaviour: Behaviour,
    seed: str,
    now: datetime,
) -> None:
    """Answer one question with a simulated choice and reaction time."""
    choice = choose(session, design, task, behaviour, seed)
    rng = random.Random(f"{seed} time {task.kind} {choice} {count_judged(session, participant_id)}")
    timing = Timing(reaction_ms=reaction_ms(rng))
    if task.kind == "check" and task.question != "overall":
        record_check_answer(session, design, participant_id, task.id, task.question, choice, now, timing)
    elif task.kind == "check":
        answer_check(session, design, participant_id, task.id, choice, now, timing)
    elif task.question == "overall":
        record_judgment(session, find_person(session, participant_id), task.id, choice, now, timing)
    else:
        record_answer(session, participant_id, task.id, task.question, choice, now, timing)


def reaction_ms(rng: random.Random) -> int:
    """Return a reaction time in milliseconds: a normal and an exponential part, as people's are (Luce 1986, Response Times)."""
    return max(200, round(rng.gauss(1500, 300) + rng.expovariate(1 / 1500)))


def choose(session: Session, design: Design, task: ParticipantTask, behaviour: Behaviour, seed: str) -> Choice:
    """Return the simulated answer to one question, from a separate seeded generator."""
    if task.kind == "check":
        check = session.get_one(Check, task.id)
        rng = random.Random(f"{seed} {check.kind} {check.after}")
        shown = [check.left_image, check.right_image, *(picture.image for picture in check.further)]
        arms = [image.arm.label for image in shown if image is not None]
        asked = design.question(task.question)
        if asked is not None:
            effects = [behaviour.effects.get(arm, 0.0) for arm in arms] or [0.0] * len(shown)
            return asked.answer_kind.simulate(rng, places(len(shown)), effects, asked.scale)
        if arms:
            return _choose(rng, design, behaviour, arms)
        # the reference of the concept is recognised unless the participant lapses
        slots = places(len(shown))
        first = rng.choice(slots) if rng.random() < behaviour.lapse else str(check.expected)
        rest = [slot for slot in slots if slot != first]
        return " ".join([first, *rest]) if design.answer == "ranking" and len(slots) > 2 else first
    assignment = session.get_one(Assignment, task.id)
    # what names a comparison in every database of the same run and seed: its place in the shuffled order
    key = f"{seed} {assignment.comparison.priority}"
    stand = standing(assignment.left, assignment.arrangement)
    arms = [image.arm.label for image in images_of(assignment.comparison, stand)]
    rng = random.Random(key if task.question == "overall" else f"{key} {task.question}")
    asked = design.question(task.question)
    if asked is not None:
        effects = [behaviour.effects.get(arm, 0.0) for arm in arms]
        return asked.answer_kind.simulate(rng, places(len(arms)), effects, asked.scale)
    return _choose(rng, design, behaviour, arms)


def _choose(rng: random.Random, design: Design, behaviour: Behaviour, arms: Sequence[str]) -> Choice:
    """Return an answer about images of these arms, as arranged on the page."""
    if len(arms) == 2:
        return behaviour.answer(rng, arms[0], arms[1], design.cannot_tell)
    return behaviour.rank(rng, arms, len(arms) if design.answer == "ranking" else 1, design.cannot_tell)
