"""The analysis, written down before there is anything to analyze: what is tested, against which margin, for whom it shall hold.

A frozen plan carries the sha256 of its content, so that a later change is detected.
"""

import json
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from analysis.contrast import Contrast
from analysis.database_rows import RunData
from analysis.findings import Findings
from analysis.metrics.simultaneous import corrected_together
from analysis.results import Result
from analysis.votes.preference import check_margin
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, write_atomic
from evalkit.plural import plural
from evalkit.run.file_record import Name, Record, first_mistake

VOTES = "votes"
# Key under which a study's design stores the plan it began with.
IN_DESIGN = "plan_sha256"
Level = Literal["seeds", "pairs", "concepts", "participants"]
LEVELS: tuple[Level, ...] = ("seeds", "pairs", "concepts", "participants")


class Exclusions(Record):
    """Which judgments are left out. Those that came after their place was taken always are."""

    simulated: bool = True
    # judgments given sooner than this after both images were shown; those without a measured time stay
    faster_than_ms: int | None = Field(default=None, ge=1)
    # all judgments of participants who gave fewer than this, after the rules above
    fewer_votes_than: int | None = Field(default=None, ge=2)


class FrozenPlan(Record):
    """Which results are tests that were planned; every other result of a run is exploratory."""

    format: Literal[1] = 1
    arms: tuple[Name, ...] = Field(min_length=2)
    # `votes` and names of metrics; each is tested between all pairs of the arms
    measures: tuple[str, ...] = Field(min_length=1)
    margin: float | None = None
    margin_scale: str = VOTES
    # what the results shall hold for other ones of
    scope: tuple[Level, ...] = LEVELS
    exclusions: Exclusions = Exclusions()
    test: Literal["t, dyadic + participant, max-rule, at 5 %"] = "t, dyadic + participant, max-rule, at 5 %"
    correction: Literal["holm over pairs of arms"] = "holm over pairs of arms"
    # concepts, seeds, participants, ... as planned; for the reader, not checked
    design: dict[str, int | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_margin(self.margin, self.margin_scale)
        for name, values in (("arms", self.arms), ("measures", self.measures)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: one of them occurs twice")
        return self

    @property
    def takes_simulated(self) -> bool | None:
        """Return how `read_run` treats simulated judgments: excluded, or used if there are no others."""
        return False if self.exclusions.simulated else None

    def sha256(self) -> str:
        """Return the sha256 of the plan's content, as 64 hex digits."""
        return sha256_bytes(json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode())


def check_target(path: Path) -> None:
    """Raise a UserError if a plan can't be written there, since something exists already."""
    if path.exists():
        raise UserError(f"{path}: exists already, and a frozen plan is not rewritten; choose another name")


def freeze(plan: FrozenPlan, path: Path) -> str:
    """Write the plan with its sha256 and return that; a plan that was frozen before is never overwritten."""
    check_target(path)
    sha256 = plan.sha256()
    write_atomic(path, json.dumps({**plan.model_dump(mode="json"), "sha256": sha256}, indent=2) + "\n")
    return sha256


def read_plan(path: Path) -> FrozenPlan:
    """Return a frozen plan; raise UserError for anything else, including a plan that was changed after it was frozen."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}; freeze one with `evalkit plan --freeze`") from error
    except ValueError as error:
        raise UserError(f"{path}: is not a frozen plan (not JSON); make one with `evalkit plan --freeze`") from error
    if not isinstance(held, dict) or "sha256" not in held:
        raise UserError(f"{path}: is not a frozen plan (it has no sha256); make one with `evalkit plan --freeze`")
    sha256 = held.pop("sha256")
    try:
        plan = FrozenPlan.model_validate(held)
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}; make a new one with `evalkit plan --freeze`") from error
    if plan.sha256() != sha256:
        raise UserError(
            f"{path}: was changed after it was frozen (sha256 {plan.sha256()[:12]}…, frozen as {str(sha256)[:12]}…)"
            "; restore the frozen file, or freeze a new plan and say so"
        )
    return plan


def apply_plan(
    plan: FrozenPlan, data: RunData, asked: tuple[float | None, str] | None = None
) -> tuple[RunData, tuple[float | None, str]]:
    """Return the run without the judgments that the plan leaves out, and the plan's margin with its scale.

    Raises UserError where another margin was asked for, the judgments are not of the kind that was planned, or the study was
    begun with another plan.
    """
    begun_with = data.design.get(IN_DESIGN)
    if begun_with not in (None, plan.sha256()):
        raise UserError(
            f"plan: the study was begun with the plan {begun_with[:12]}…, and this is {plan.sha256()[:12]}…; give the one "
            "it was begun with, or analyze without a plan"
        )
    held = (plan.margin, plan.margin_scale)
    if asked is not None and asked != held:
        raise UserError(f"plan: its margin is {held[0]} on {held[1]}, not {asked[0]} on {asked[1]}; leave the option out")
    if data.simulated and plan.exclusions.simulated:
        raise UserError("plan: it leaves simulated judgments out; leave --simulated out, or analyze without the plan")
    if data.real and data.simulated:
        raise UserError("plan: it is one of simulated participants, but people judged as well; analyze without the plan")
    return exclude(data, plan.exclusions), held


def exclude(data: RunData, rules: Exclusions) -> RunData:
    """Return the run without the judgments that were given too soon, and without participants who then have too few."""
    votes = data.judgments
    valid, notes = votes, []
    if rules.faster_than_ms is not None:
        valid = valid[~(pd.to_numeric(valid["reaction_ms"]) < rules.faster_than_ms)]
        notes.append(f"{plural(len(votes) - len(valid), 'vote')} given within {rules.faster_than_ms} ms, as planned.")
    if rules.fewer_votes_than is not None:
        before = len(valid)
        valid = valid[valid.groupby("participant")["choice"].transform("size") >= rules.fewer_votes_than]
        notes.append(
            f"{plural(before - len(valid), 'vote')} of participants who gave fewer than {rules.fewer_votes_than}, as planned."
        )
    left = len(votes) - len(valid)
    return replace(
        data,
        excluded=tuple(notes),
        judgments=valid.reset_index(drop=True),
        real=data.real - left if data.real else 0,
        simulated=data.simulated - left if data.simulated else 0,
    )


@dataclass(frozen=True, slots=True)
class PlannedResult(Result):
    """One tested difference of a run, and whether it was planned."""

    planned: bool
    measure: str
    first: str
    second: str
    verdict: str


def with_plan(findings: Findings, plan: FrozenPlan | None) -> Findings:
    """Return the findings under a plan: the metrics it names are corrected together, all others are marked exploratory."""
    if plan is None:
        return findings
    primary = _titled(plan, findings).measures
    return replace(findings, plan=plan, metrics=corrected_together(findings.metrics, findings.measured, primary))


def planned_results(findings: Findings, plan: FrozenPlan) -> tuple[PlannedResult, ...]:
    """Return every tested difference, planned ones first; raise UserError if the plan doesn't fit the findings."""
    tested = list(_tested(findings))
    plan = _titled(plan, findings)
    wanted = {(measure, frozenset(pair)) for measure in plan.measures for pair in combinations(plan.arms, 2)}
    _check_fit(findings, plan, tested)
    rows = [
        PlannedResult(
            (measure, frozenset((contrast.first, contrast.second))) in wanted,
            measure,
            contrast.first,
            contrast.second,
            contrast.verdict,
        )
        for measure, contrast in tested
    ]
    return tuple(sorted(rows, key=lambda row: not row.planned))


def _titled(plan: FrozenPlan, findings: Findings) -> FrozenPlan:
    """Return the plan with the titles that the findings have in place of ids."""
    titles = findings.titles
    arms = tuple(titles.arms.get(arm, arm) for arm in plan.arms)
    return plan.model_copy(update={"arms": arms, "measures": tuple(titles.metrics.get(name, name) for name in plan.measures)})


def _tested(findings: Findings) -> list[tuple[str, Contrast]]:
    of_votes = [(VOTES, preference.clustered) for preference in findings.preferences]
    return of_votes + [(metric.metric, contrast) for metric in findings.metrics for contrast in metric.contrasts]


def _check_fit(findings: Findings, plan: FrozenPlan, tested: list[tuple[str, Contrast]]) -> None:
    labels = findings.data.labels
    for arm in plan.arms:
        if arm not in labels:
            raise UserError(f"plan: it compares an arm {arm!r}, which this run has not; it has {', '.join(labels)}")
    for measure in plan.measures:
        known = {frozenset((result.first, result.second)): result for name, result in tested if name == measure}
        for first, second in combinations(plan.arms, 2):
            contrast = known.get(frozenset((first, second)))
            if contrast is None:
                what = "judgments" if measure == VOTES else f"scores of {measure}"
                raise UserError(
                    f"plan: it tests {measure} between {first} and {second}, but this run has no {what} for them"
                    "; score them, or collect votes, first"
                )
            missing = _out_of_scope(contrast, plan, measure)
            if missing:
                raise UserError(
                    f"plan: {measure} of {first} and {second} shall hold for other {', '.join(missing)}, but this run's design "
                    f"lets it hold for other {', '.join(contrast.scope) or 'nothing'} alone"
                    "; change the plan's scope, or the design"
                )


def _out_of_scope(contrast: Contrast, plan: FrozenPlan, measure: str) -> list[str]:
    held = {"pairs" if level == "concept sets" else level for level in contrast.scope}
    wanted = set(plan.scope) - (set() if measure == VOTES else {"participants"})
    return [level for level in LEVELS if level in wanted - held]
