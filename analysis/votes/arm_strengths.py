"""Strengths of all arms of a run from all votes, and one-sided bounds for arms that never lost or never won."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special
from scipy.sparse import csgraph

from analysis.contrast import Contrast, holm
from analysis.inference.bradley_terry import Strengths, contrasts, fit_strengths
from analysis.inference.concept_sets import Codes, ConceptSets, Floats, codes_of
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.inference.paired_comparisons import Comparisons, Counts
from analysis.inference.quasi_standard_errors import QuasiErrors, quasi_errors
from analysis.results import Result, reason_of
from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class StrengthBound(Result):
    """An arm without a finite strength: at 95 %, its log strength is beyond `bound` on the scale of the fitted arms.

    It has one sign only: `at_least` for an arm that never lost against them, else at most. None where no vote compares it with
    them. The bound has the project's default error, at the limit of unanimous votes.
    """

    arm: str
    at_least: bool
    bound: float | None
    votes: int
    scope: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArmStrengths(Result):
    """Strengths of all arms on one scale, from all votes together; without a fit, `note` gives the reason.

    The differences have the project's default errors, and so have the quasi errors, one per arm. Arms that never lost, or never
    won, against the fitted ones are in `bounds`.
    """

    fit: Strengths | None
    quasi: QuasiErrors | None
    differences: tuple[Contrast, ...]
    note: str = ""
    bounds: tuple[StrengthBound, ...] = ()


def arm_strengths(judgments: pd.DataFrame, concepts: dict[str, tuple[str, ...]], labels: Sequence[str]) -> ArmStrengths | None:
    """Return the strengths of all arms that were judged; None if there are fewer than three.

    `judgments` as in `RunData`. With two arms the preference is sufficient. Arms that won or lost all their votes against the
    others have no finite strength: the largest group that has is fitted, the others get a bound.
    """
    judged = set(judgments["first"]) | set(judgments["second"])
    arms = tuple(label for label in labels if label in judged)
    if len(arms) < 3:
        return None
    counts = _comparisons(judgments, arms).counts()
    core = [arms[place] for place in _largest_group(counts)]
    inside = judgments[judgments["first"].isin(core) & judgments["second"].isin(core)]
    votes = _comparisons(inside, tuple(core))
    try:
        fit = fit_strengths(votes.counts(), side=0 < float((inside["left"] == inside["first"]).mean()) < 1)
        found = contrasts(fit, votes, *_dependence(inside, concepts))
    except UserError as error:
        return ArmStrengths(None, None, (), reason_of(error))
    found = holm(found)
    bounds = tuple(_bound(arm, fit, judgments, concepts) for arm in arms if arm not in core)
    note = ""
    if bounds:
        names = ", ".join(bound.arm for bound in bounds)
        note = f"{names}: all votes against the other arms agree, so the strength is a bound at 95 % on one side."
    errors = [each.standard_error for each in found if each.standard_error is not None]
    if len(errors) < len(found):
        why = "The design gives no error, so there are no quasi standard errors."
        return ArmStrengths(fit, None, found, f"{note} {why}".strip(), bounds)
    return ArmStrengths(fit, quasi_errors(fit, errors) if len(core) > 2 else None, found, note, bounds)


def _comparisons(judgments: pd.DataFrame, arms: tuple[str, ...]) -> Comparisons:
    place = {arm: number for number, arm in enumerate(arms)}
    first_left = (judgments["left"] == judgments["first"]).to_numpy(bool)
    first = judgments["first"].map(place).to_numpy(np.int64)
    second = judgments["second"].map(place).to_numpy(np.int64)
    choice = judgments["choice"].to_numpy(np.float64)
    left, right = np.where(first_left, first, second), np.where(first_left, second, first)
    return Comparisons(arms, left, right, np.where(first_left, choice, 1.0 - choice))


def _dependence(judgments: pd.DataFrame, concepts: dict[str, tuple[str, ...]]) -> tuple[Codes, ConceptSets, Codes]:
    """Return what recurs among the votes: comparisons, concepts and participants."""
    cases = judgments["case"].tolist()
    sets = ConceptSets.of([concepts[case] for case in cases], names=cases)
    return codes_of(judgments["comparison"].tolist()), sets, codes_of(judgments["participant"].tolist())


def _largest_group(counts: Counts) -> list[int]:
    """Return the arms of the group with the most votes in which every arm won or tied, perhaps through others, against every.

    All arms if there is no such group of two or more, or if some arms were never compared: then the fit names the reason.
    """
    ties = counts.tied + counts.tied.T
    graph = (counts.beats + ties > 0).astype(np.float64)
    groups, group = csgraph.connected_components(graph, directed=True, connection="strong")
    whole = list(range(len(counts.arms)))
    if groups == 1 or csgraph.connected_components(graph, directed=False)[0] > 1:
        return whole
    members = [np.flatnonzero(group == place) for place in range(groups)]
    return max(
        (inside.tolist() for inside in members if len(inside) > 1),
        key=lambda inside: float(counts.total[np.ix_(inside, inside)].sum()),
        default=whole,
    )


def _bound(arm: str, fit: Strengths, judgments: pd.DataFrame, concepts: dict[str, tuple[str, ...]]) -> StrengthBound:
    """Return the bound of one arm: where its expected share of its votes against the fitted arms is the share's own bound."""
    is_first, is_second = judgments["first"] == arm, judgments["second"] == arm
    rows = judgments[(is_first & judgments["second"].isin(fit.arms)) | (is_second & judgments["first"].isin(fit.arms))]
    if rows.empty:
        lost = float(judgments["choice"][is_first].sum() + (1.0 - judgments["choice"][is_second]).sum()) == 0.0
        return StrengthBound(arm, not lost, None, 0, ())
    own = (rows["first"] == arm).to_numpy(bool)
    won = np.where(own, rows["choice"], 1.0 - rows["choice"]).astype(np.float64)
    opponents = np.where(own, rows["second"], rows["first"])
    share = contrast_of_mean(
        won, *_dependence(rows, concepts), first=arm, second="", measure="votes", scale="share of votes", null=0.5,
        bounds=(0.0, 1.0),
    )  # fmt: skip
    ahead = bool(won[0] > 0.5)
    if share.narrow_interval is None:
        return StrengthBound(arm, ahead, None, len(rows), ())
    strengths = fit.estimates[[fit.arms.index(name) for name in opponents]]
    edge = share.narrow_interval[0 if ahead else 1]

    def excess(strength: float) -> float:
        return float(np.mean(_expected_share(strength - strengths, fit))) - edge

    return StrengthBound(arm, ahead, float(optimize.brentq(excess, -60.0, 60.0)), len(rows), share.scope)


def _expected_share(gap: Floats, fit: Strengths) -> Floats:
    """Return the expected share of votes at these differences of log strengths, a tie being half a vote."""
    if not fit.with_ties:
        return np.asarray(special.expit(gap), np.float64)
    tie = math.exp(fit.log_tie[0])
    won, lost = np.exp(gap / 2.0), np.exp(-gap / 2.0)
    return np.asarray((won + tie / 2.0) / (won + tie + lost), np.float64)
