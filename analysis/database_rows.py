"""The database -> what the analysis works on: judgments, scores and what they are of, each in its own table of rows."""

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from analysis.amendments import read_amendments
from analysis.further_answers import ANSWER_COLUMNS, no_answers, read_answers
from analysis.machine_judgments import no_machine_judgments, read_machine_judgments
from db import models
from db.session import Database, read
from evalkit.errors import UserError
from evalkit.metric_spec.signature import displayed
from evalkit.plural import plural

JUDGMENT_COLUMNS = ("comparison", "case", "seed", "first", "second", "participant", "left", "choice", "reaction_ms")
SEVERAL_COLUMNS = ("comparison", "case", "seed", "participant", "order", "offered", "reaction_ms")
# the source in the design of a study whose votes another tool collected
EXTERNAL = "external"
SCORE_COLUMNS = ("metric", "signature", "direction", "case", "seed", "arm", "concept", "other_arm", "value")


@dataclass(frozen=True, slots=True)
class ArmInfo:
    """An arm as the experiment describes it."""

    label: str
    method: str
    parameters: str


@dataclass(frozen=True, slots=True)
class CaseInfo:
    """A case: its key, its prompt and its concepts in the order of the prompt."""

    key: str
    prompt: str
    concepts: tuple[str, ...]


@dataclass(frozen=True)
class RunData:
    """All the database holds of one run. `judgments` and `scores` have one row each per judgment and score.

    In `judgments`, `first` and `second` are arms in the order of the experiment, `choice` is 1 if the first arm's image was
    chosen, 0 where the second's was, and .5 for `cannot tell`; `left` is the arm that was shown on the left, or None if the
    sides are not known.
    """

    name: str
    experiment_sha256: str
    source: str
    arms: tuple[ArmInfo, ...]
    cases: tuple[CaseInfo, ...]
    references: dict[str, tuple[str, ...]]
    """Paths of each concept's references, relative to the run folder."""
    images: dict[tuple[str, str, int], str]
    """Path of the image of each (case, arm, seed), relative to the run folder."""
    judgments: pd.DataFrame
    scores: pd.DataFrame
    planned: int
    """Comparisons the study consists of; 0 without a study."""
    target: int
    """Judgments wanted in all."""
    simulated: int
    """Judgments of simulated participants among `judgments`."""
    real: int
    surplus: int
    """Judgments kept in the database but left out here, because they came after their place was taken."""
    simulated_left_out: int
    """Judgments of simulated participants that were left out because that was asked for."""
    design: dict[str, Any]
    """What the study fixed beforehand; empty without a study."""
    people_left_out: int = 0
    """Participants whom the study's own rules left out, their judgments with them."""
    excluded: tuple[str, ...] = ()
    """What a frozen plan left out, in sentences."""
    amendments: tuple[str, ...] = ()
    """What was changed while the study ran, and when, in sentences."""
    several: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SEVERAL_COLUMNS)))
    """One row per judgment of more than two images: arms in `offered`, the chosen in `order`, best first; () is undecided."""
    machine_judgments: pd.DataFrame = field(default_factory=no_machine_judgments)
    """Answers of machine judges, as of `analysis.machine_judgments`; in no contrast about people."""
    answers: pd.DataFrame = field(default_factory=no_answers)
    """One row per answer to a further question, as stored; `shown` has the arms in the order of the page."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the arms' labels in the order of the experiment."""
        return tuple(arm.label for arm in self.arms)

    @property
    def external(self) -> str:
        """Return the file that the judgments were imported from, with its sha256; empty for a study by evalkit."""
        if self.design.get("source") != EXTERNAL:
            return ""
        rule = f"; {self.design['ratings']}" if self.design.get("ratings") else ""
        return f"{self.design.get('file')} (sha256 {str(self.design.get('file_sha256'))[:12]}…{rule})"

    @property
    def sides_known(self) -> bool:
        """Return whether the votes state which image was on the left."""
        return self.design.get("sides") != "unknown"

    @property
    def arm_pairs(self) -> tuple[tuple[str, str], ...]:
        """Return all pairs of arms, the earlier one first."""
        return tuple(combinations(self.labels, 2))

    @property
    def concepts_of(self) -> dict[str, tuple[str, ...]]:
        """Return the concepts of each case."""
        return {case.key: case.concepts for case in self.cases}


def read_run(database: Database, run_id: int, simulated: bool | None = None) -> RunData:
    """Return what the database holds of a run.

    `simulated`: True takes judgments of simulated participants in, False leaves them out, None takes them only if there are
    no others.

    Raises:
        UserError: there are real and simulated judgments, and `simulated` does not say what to do.
    """
    with read(database) as session:
        run = session.get_one(models.Run, run_id)
        arms = session.scalars(
            select(models.StoredArm).where(models.StoredArm.run_id == run_id).order_by(models.StoredArm.position)
        ).all()
        design = session.scalar(select(models.Study.design).where(models.Study.run_id == run_id)) or {}
        judgments, surplus = _judgments(session, run_id, design.get("sides") != "unknown")
        several, late = _several(session, run_id)
        answers = read_answers(session, run_id)
        planned = session.execute(
            select(models.Comparison.target).join(models.Study).where(models.Study.run_id == run_id)
        ).all()
        # a study asks about pairs or about several at once, so one of the two is empty
        pairwise, kept_several = _choose(judgments, simulated), _choose(several, simulated)
        from_simulation = int(pairwise["simulated"].sum() + kept_several["simulated"].sum())
        return RunData(
            name=run.name,
            experiment_sha256=run.experiment_sha256,
            source=run.source,
            arms=tuple(ArmInfo(arm.label, arm.method, _parameters(arm.parameters)) for arm in arms),
            cases=_cases(session, run_id),
            references=_references(session, run_id),
            images=_images(session, run_id),
            judgments=pairwise[list(JUDGMENT_COLUMNS)].reset_index(drop=True),
            scores=read_scores(session, run_id),
            planned=len(planned),
            target=sum(target for (target,) in planned),
            simulated=from_simulation,
            real=len(pairwise) + len(kept_several) - from_simulation,
            surplus=surplus + late,
            simulated_left_out=len(judgments) + len(several) - len(pairwise) - len(kept_several),
            people_left_out=_people_left_out(session, run_id),
            amendments=read_amendments(session, run_id),
            design=design,
            several=kept_several[list(SEVERAL_COLUMNS)].reset_index(drop=True),
            machine_judgments=read_machine_judgments(session, run_id),
            answers=_choose(answers, simulated)[list(ANSWER_COLUMNS)].reset_index(drop=True),
        )


def _people_left_out(session: Session, run_id: int) -> int:
    out = models.Participant.excluded_at.is_not(None)
    return len(
        session.scalars(select(models.Participant.id).join(models.Study).where(models.Study.run_id == run_id, out)).all()
    )


def _parameters(parameters: dict[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in sorted(parameters.items()))


def _choose(judgments: pd.DataFrame, simulated: bool | None) -> pd.DataFrame:
    made_up = judgments["simulated"].astype(bool)
    if simulated is None and made_up.any() and not made_up.all():
        raise UserError(
            f"judgments: the study holds {plural(int((~made_up).sum()), 'judgment')} of people and "
            f"{int(made_up.sum())} of simulated participants; "
            "use --no-simulated to leave the simulated ones out, or --simulated to analyze all together, marked as such"
        )
    return judgments[~made_up] if simulated is False else judgments


def _cases(session: Session, run_id: int) -> tuple[CaseInfo, ...]:
    rows = session.execute(
        select(models.StoredCase.key, models.StoredCase.prompt, models.StoredConcept.name)
        .outerjoin(models.CaseConcept, models.CaseConcept.case_id == models.StoredCase.id)
        .outerjoin(models.StoredConcept, models.StoredConcept.id == models.CaseConcept.concept_id)
        .where(models.StoredCase.run_id == run_id)
        .order_by(models.StoredCase.id, models.CaseConcept.position)
    ).all()
    prompts: dict[str, str] = {}
    concepts: dict[str, list[str]] = {}
    for key, prompt, concept in rows:
        prompts[key] = prompt
        # the outer join gives None for a case without concepts
        concepts.setdefault(key, []).extend([concept] if concept is not None else [])
    return tuple(CaseInfo(key, prompt, tuple(concepts[key])) for key, prompt in prompts.items())


def _references(session: Session, run_id: int) -> dict[str, tuple[str, ...]]:
    rows = session.execute(
        select(models.StoredConcept.name, models.Reference.path)
        .join(models.Reference, models.Reference.concept_id == models.StoredConcept.id)
        .where(models.StoredConcept.run_id == run_id)
        .order_by(models.StoredConcept.id, models.Reference.position)
    ).all()
    by_name: dict[str, list[str]] = {}
    for name, path in rows:
        by_name.setdefault(name, []).append(path)
    return {name: tuple(paths) for name, paths in by_name.items()}


def _images(session: Session, run_id: int) -> dict[tuple[str, str, int], str]:
    rows = session.execute(
        select(models.StoredCase.key, models.StoredArm.label, models.StoredImage.seed, models.StoredImage.path)
        .join(models.StoredImage.case)
        .join(models.StoredImage.arm)
        # votes without images have placeholders without a path
        .where(models.StoredCase.run_id == run_id, models.StoredImage.path != "")
        .order_by(models.StoredImage.id)
    ).all()
    return {(case, arm, seed): path for case, arm, seed, path in rows}


def _judgments(session: Session, run_id: int, sides_known: bool) -> tuple[pd.DataFrame, int]:
    """Return the judgments within the target, one row each, arms in the experiment's order; and how many were surplus.

    `left` is None if the sides are not known.
    """
    image_a, image_b = aliased(models.StoredImage), aliased(models.StoredImage)
    arm_a, arm_b = aliased(models.StoredArm), aliased(models.StoredArm)
    rows = session.execute(
        select(
            models.Comparison.id, models.StoredCase.key, models.Comparison.seed,
            arm_a.label, arm_a.position, arm_b.label, arm_b.position,
            models.Assignment.participant_id, models.Participant.simulated, models.Assignment.left,
            models.Judgment.choice, models.Judgment.surplus, models.Judgment.reaction_ms,
        )
        .join(models.Assignment, models.Assignment.id == models.Judgment.assignment_id)
        .join(models.Participant, models.Participant.id == models.Assignment.participant_id)
        .join(models.Comparison, models.Comparison.id == models.Assignment.comparison_id)
        .join(models.Study, models.Study.id == models.Comparison.study_id)
        .join(models.StoredCase, models.StoredCase.id == models.Comparison.case_id)
        .join(image_a, image_a.id == models.Comparison.image_a_id)
        .join(image_b, image_b.id == models.Comparison.image_b_id)
        .join(arm_a, arm_a.id == image_a.arm_id)
        .join(arm_b, arm_b.id == image_b.arm_id)
        # whom the study left out stays out here too
        .where(models.Study.run_id == run_id, models.Participant.excluded_at.is_(None), models.Assignment.arrangement.is_(None))
        .order_by(models.Judgment.id)
    ).all()  # fmt: skip
    records: list[tuple[object, ...]] = []
    surplus = 0
    for comparison, case, seed, a, place_a, b, place_b, who, made_up, left, choice, late, reaction_ms in rows:
        if late:
            surplus += 1
            continue
        first, second = (a, b) if place_a < place_b else (b, a)
        on_left, on_right = (b, a) if left else (a, b)
        chosen = {"left": on_left, "right": on_right}.get(choice)
        value = 0.5 if chosen is None else float(chosen == first)
        shown_left = on_left if sides_known else None
        records.append((comparison, case, seed, first, second, who, shown_left, value, reaction_ms, made_up))
    return pd.DataFrame(records, columns=[*JUDGMENT_COLUMNS, "simulated"]), surplus


def _several(session: Session, run_id: int) -> tuple[pd.DataFrame, int]:
    """Return the judgments of more than two images within the target, one row each; and how many were surplus."""
    arms = _arms_of_comparisons(session, run_id)
    rows = session.execute(
        select(
            models.Comparison.id, models.StoredCase.key, models.Comparison.seed, models.Assignment.participant_id,
            models.Participant.simulated, models.Assignment.arrangement, models.Judgment.choice, models.Judgment.surplus,
            models.Judgment.reaction_ms,
        )
        .join(models.Assignment, models.Assignment.id == models.Judgment.assignment_id)
        .join(models.Participant, models.Participant.id == models.Assignment.participant_id)
        .join(models.Comparison, models.Comparison.id == models.Assignment.comparison_id)
        .join(models.Study, models.Study.id == models.Comparison.study_id)
        .join(models.StoredCase, models.StoredCase.id == models.Comparison.case_id)
        .where(
            models.Study.run_id == run_id, models.Participant.excluded_at.is_(None), models.Assignment.arrangement.is_not(None)
        )
        .order_by(models.Judgment.id)
    ).all()  # fmt: skip
    records = []
    for comparison, case, seed, who, made_up, arrangement, choice, late, reaction_ms in rows:
        if late or arrangement is None:
            continue
        stood = [arms[comparison][int(image)] for image in arrangement.split()]
        # an answer names places of the page, from 1
        order = () if choice == "cannot_tell" else tuple(stood[int(position) - 1] for position in choice.split())
        records.append((comparison, case, seed, who, order, arms[comparison], reaction_ms, made_up))
    return pd.DataFrame(records, columns=[*SEVERAL_COLUMNS, "simulated"]), len(rows) - len(records)


def _arms_of_comparisons(session: Session, run_id: int) -> dict[int, tuple[str, ...]]:
    """Return the arms of every comparison of more than two images, in the experiment's order."""
    label = (
        select(models.StoredImage.id, models.StoredArm.label)
        .join(models.StoredImage.arm)
        .where(models.StoredArm.run_id == run_id)
    )
    labels: dict[int, str] = {image: name for image, name in session.execute(label)}
    rows = session.execute(
        select(models.Comparison.id, models.Comparison.image_a_id, models.Comparison.image_b_id, models.FurtherImage.image_id)
        .join(models.FurtherImage, models.FurtherImage.comparison_id == models.Comparison.id)
        .join(models.Study, models.Study.id == models.Comparison.study_id)
        .where(models.Study.run_id == run_id)
        .order_by(models.Comparison.id, models.FurtherImage.place)
    )
    arms: dict[int, tuple[str, ...]] = {}
    for comparison, first, second, further in rows:
        arms[comparison] = (*arms.get(comparison, (labels[first], labels[second])), labels[further])
    return arms


def read_scores(session: Session, run_id: int) -> pd.DataFrame:
    """Return all scores of a run, one row each, in the columns `SCORE_COLUMNS`."""
    image, other, other_arm = aliased(models.StoredImage), aliased(models.StoredImage), aliased(models.StoredArm)
    rows = session.execute(
        select(
            models.Metric.name, models.Metric.signature, models.Metric.direction,
            models.StoredCase.key, image.seed, models.StoredArm.label, models.StoredConcept.name, other_arm.label,
            models.StoredScore.value,
        )
        .join(models.Metric, models.Metric.id == models.StoredScore.metric_id)
        .join(image, image.id == models.StoredScore.image_id)
        .join(models.StoredCase, models.StoredCase.id == image.case_id)
        .join(models.StoredArm, models.StoredArm.id == image.arm_id)
        .outerjoin(models.StoredConcept, models.StoredConcept.id == models.StoredScore.concept_id)
        .outerjoin(other, other.id == models.StoredScore.other_image_id)
        .outerjoin(other_arm, other_arm.id == other.arm_id)
        .where(models.Metric.run_id == run_id)
        .order_by(models.Metric.id, models.StoredScore.id)
    ).all()  # fmt: skip
    frame = pd.DataFrame([tuple(row) for row in rows], columns=list(SCORE_COLUMNS))
    frame["signature"] = frame["signature"].map(displayed)
    return frame.astype({"concept": object, "other_arm": object}).fillna({"concept": "", "other_arm": ""})
