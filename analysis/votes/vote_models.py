"""A mixed model of the votes on one pair of arms: what makes votes differ."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.inference.concept_sets import Codes, ConceptSets
from analysis.inference.glmm import MixedFit, fit_mixed
from analysis.inference.random_effects import RandomTerm
from analysis.results import Result, reason_of
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


def vote_model(votes: Votes, profiles: bool = True) -> VoteModel:
    """Return the mixed model of a pair of arms: crossed effects of every recurring level, and of the side if known.

    A level that the design lacks, or that coincides with another, gets no term: pairs with one seed, concepts that are
    too few to represent others, participants who voted once. `profiles` is that of `fit_mixed`.
    """
    decided = votes.choice != CANNOT_TELL
    left_out = int(np.count_nonzero(~decided))
    covariates = {}
    if votes.first_left is not None and decided.any() and 0 < votes.first_left[decided].mean() < 1:
        covariates[SIDE] = votes.first_left[decided] - 0.5
    pair = f"{votes.first} vs {votes.second}"
    terms, absent = _terms(votes, decided)
    if not terms and len(np.unique(votes.choice[decided])) > 1:
        why = "No comparison, concept or participant recurs among the votes, so nothing tells what makes them differ."
        return VoteModel(votes.first, votes.second, None, left_out, f"{pair}: {why}")
    try:
        fit = fit_mixed(votes.choice[decided], terms, covariates, profiles=profiles)
    except UserError as error:
        return VoteModel(votes.first, votes.second, None, left_out, f"{pair}: {reason_of(error)}")
    return VoteModel(votes.first, votes.second, fit, left_out, f"{pair}: {' '.join(absent)}" if absent else "")


def _terms(votes: Votes, decided: NDArray[np.bool_]) -> tuple[list[RandomTerm], list[str]]:
    """Return the terms that the design can tell apart, and a sentence for each recurring level that it can't."""
    sets = votes.sets.take(decided)
    comparison, participant = _packed(votes.comparison[decided]), _packed(votes.participant[decided])
    rows, comparisons, people = len(comparison), int(comparison.max(initial=-1)) + 1, int(participant.max(initial=-1)) + 1
    terms, absent = [], []
    if 1 < comparisons < rows:
        terms.append(RandomTerm("comparison", comparison))
    elif comparisons == rows:
        absent.append("Every comparison has one vote, so comparisons have no effect of their own.")
    if 1 < len(sets.members) and max(len(held) for held in sets.members) > 1:
        name = "pair" if sets.word == "pairs" else "concept set"
        if len(sets.members) < comparisons:
            terms.append(RandomTerm(name, sets.codes))
        else:
            absent.append(f"Every {name} has one comparison, so the effect of the comparison holds that of the {name}.")
    if sets.generalises:
        terms.append(RandomTerm("concept", _members(sets)))
    elif sets.concepts > 1 and terms:
        absent.append("The concepts are too few, or recur too little, for an effect of their own.")
    if 1 < people < rows:
        if terms and len(np.unique(participant * comparisons + comparison)) == people == comparisons:
            absent.append("Every participant judged one comparison of their own, so the two share one effect.")
        else:
            terms.append(RandomTerm("participant", participant))
    elif people == rows:
        absent.append("Every participant gave one vote, so participants have no effect of their own.")
    elif people == 1:
        absent.append("One participant judged, so participants have no effect of their own.")
    return terms, absent


def _members(sets: ConceptSets) -> Codes:
    """Return the concepts of each row, one column per concept, -1 for absent ones."""
    names = {name: index for index, name in enumerate(dict.fromkeys(name for held in sets.ordered_members for name in held))}
    table = np.full((len(sets.members), max(len(held) for held in sets.members)), -1, dtype=np.int64)
    for row, held in enumerate(sets.ordered_members):
        table[row, : len(held)] = sorted(names[name] for name in held)
    return table[sets.codes]


def _packed(codes: Codes) -> Codes:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
