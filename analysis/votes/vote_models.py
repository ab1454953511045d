"""What models say of a run's votes: what makes votes differ, and how strong every arm is among all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.contrast import Contrast, holm
from analysis.inference.bradley_terry import Strengths, contrasts, fit_strengths
from analysis.inference.concept_sets import Codes, ConceptSets, codes_of
from analysis.inference.glmm import MixedFit, fit_mixed
from analysis.inference.paired_comparisons import Comparisons
from analysis.inference.quasi_standard_errors import QuasiErrors, quasi_errors
from analysis.inference.random_effects import RandomTerm
from analysis.results import Result
from analysis.votes.preference import CANNOT_TELL, Votes
from evalkit.errors import UserError

SIDE = "shown left"


@dataclass(frozen=True, slots=True)
class VoteModel(Result):
    """A logistic mixed model of one pair of arms' decided votes; without a fit, `note` gives the reason."""

    first: str
    second: str
    fit: MixedFit | None
    cannot_tell: int
    """Votes left out, since they decide nothing."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ArmStrengths(Result):
    """Strengths of all arms on one scale, from all votes together; without a fit, `note` gives the reason.

    The differences have the project's default errors, and so have the quasi errors, one per arm.
    """

    fit: Strengths | None
    quasi: QuasiErrors | None
    differences: tuple[Contrast, ...]
    note: str = ""


def vote_model(votes: Votes) -> VoteModel:
    """Return the mixed model of a pair of arms: crossed effects of every recurring level, and of the side if known.

    A level that the design lacks, or that coincides with another, gets no term: pairs with one seed, concepts that are
    too few to represent others, participants who voted once.
    """
    kept = votes.choice != CANNOT_TELL
    left_out = int(np.count_nonzero(~kept))
    covariates = {}
    if votes.first_left is not None and kept.any() and 0 < votes.first_left[kept].mean() < 1:
        covariates[SIDE] = votes.first_left[kept] - 0.5
    try:
        fit = fit_mixed(votes.choice[kept], _terms(votes, kept), covariates)
    except UserError as error:
        return VoteModel(votes.first, votes.second, None, left_out, f"{votes.first} vs {votes.second}: {error}.")
    return VoteModel(votes.first, votes.second, fit, left_out)


def _terms(votes: Votes, kept: NDArray[np.bool_]) -> list[RandomTerm]:
    sets = votes.sets.take(kept)
    comparison, participant = _packed(votes.comparison[kept]), _packed(votes.participant[kept])
    rows, comparisons, people = len(comparison), int(comparison.max(initial=-1)) + 1, int(participant.max(initial=-1)) + 1
    terms = []
    if 1 < comparisons < rows:
        terms.append(RandomTerm("comparison", comparison))
    if 1 < len(sets.members) < comparisons and max(len(held) for held in sets.members) > 1:
        terms.append(RandomTerm("pair" if sets.word == "pairs" else "concept set", sets.codes))
    if sets.generalises:
        terms.append(RandomTerm("concept", _members(sets)))
    if 1 < people < rows:
        terms.append(RandomTerm("participant", participant))
    return terms


def _members(sets: ConceptSets) -> Codes:
    """Return the concepts of each row, one column per concept, -1 for absent ones."""
    names = {name: place for place, name in enumerate(dict.fromkeys(name for held in sets.ordered_members for name in held))}
    table = np.full((len(sets.members), max(len(held) for held in sets.members)), -1, dtype=np.int64)
    for place, held in enumerate(sets.ordered_members):
        table[place, : len(held)] = sorted(names[name] for name in held)
    return table[sets.codes]


def _packed(codes: Codes) -> Codes:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def arm_strengths(judgments: pd.DataFrame, concepts: dict[str, tuple[str, ...]], labels: Sequence[str]) -> ArmStrengths | None:
    """Return the strengths of all arms that were judged; None where they are fewer than three.

    `judgments` as in `RunData`. With two arms the preference is sufficient.
    """
    judged = set(judgments["first"]) | set(judgments["second"])
    arms = tuple(label for label in labels if label in judged)
    if len(arms) < 3:
        return None
    place = {arm: number for number, arm in enumerate(arms)}
    first_left = (judgments["left"] == judgments["first"]).to_numpy(bool)
    first = judgments["first"].map(place).to_numpy(np.int64)
    second = judgments["second"].map(place).to_numpy(np.int64)
    choice = judgments["choice"].to_numpy(np.float64)
    votes = Comparisons(
        arms,
        np.where(first_left, first, second),
        np.where(first_left, second, first),
        np.where(first_left, choice, 1.0 - choice),
    )
    cases = judgments["case"].tolist()
    sets = ConceptSets.of([concepts[case] for case in cases], names=cases)
    try:
        fit = fit_strengths(votes.counts(), side=0 < first_left.mean() < 1)
        found = contrasts(
            fit, votes, codes_of(judgments["comparison"].tolist()), sets, codes_of(judgments["participant"].tolist())
        )
    except UserError as error:
        return ArmStrengths(None, None, (), f"{error}.")
    found = holm(found)
    errors = [each.standard_error for each in found if each.standard_error is not None]
    if len(errors) < len(found):
        return ArmStrengths(fit, None, found, "The design gives no error, so there are no quasi standard errors.")
    return ArmStrengths(fit, quasi_errors(fit, errors), found)
