"""What people chose among more than two images at once: shares of first choices, and strengths from whole answers."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.contrast import Contrast, holm
from analysis.database_rows import RunData
from analysis.inference.concept_sets import Codes, ConceptSets, codes_of
from analysis.inference.plackett_luce import Rankings, Worths, fit_rankings, worth_contrasts
from analysis.inference.shares import Choices, Share, share_differences, shares
from analysis.results import Result
from evalkit.errors import UserError


@dataclass(frozen=True)
class Several(Result):
    """Shares and strengths of arms in comparisons of more than two images; answers that could not tell are only counted."""

    shares: tuple[Share, ...]
    """Of first choices, if every comparison offered the same arms; otherwise empty."""
    differences: tuple[Contrast, ...]
    """Of every two of those shares, corrected by Holm."""
    strengths: Worths | None
    strength_contrasts: tuple[Contrast, ...]
    """Of every two strengths, corrected by Holm."""
    votes: int
    undecided: int
    ranked: bool
    """Whether the answers are rankings."""
    note: str
    """Why there are no strengths; empty if there are."""


def several_of(data: RunData) -> Several | None:
    """Return the choices among more than two images at once; None if the study has no such comparison."""
    if data.several.empty:
        return None
    decided = data.several[data.several["order"].map(len) > 0]
    undecided = len(data.several) - len(decided)
    ranked = bool((decided["order"].map(len) > 1).any())
    if decided.empty:
        return Several((), (), None, (), 0, undecided, ranked, "no one could tell which image is best")
    choice_shares: tuple[Share, ...] = ()
    differences: tuple[Contrast, ...] = ()
    arms = tuple(label for label in data.labels if any(label in offered for offered in decided["offered"]))
    if all(set(offered) == set(arms) for offered in decided["offered"]):
        choices = Choices(arms, _places(arms, [order[0] for order in decided["order"]]), *_shared(data, decided))
        choice_shares, differences = shares(choices), holm(share_differences(choices))
    strengths, contrasts, note = _strengths(data, decided, arms)
    return Several(choice_shares, differences, strengths, contrasts, len(decided), undecided, ranked, note)


def _strengths(data: RunData, decided: pd.DataFrame, arms: tuple[str, ...]) -> tuple[Worths | None, tuple[Contrast, ...], str]:
    code_of = {arm: number for number, arm in enumerate(arms)}
    longest = max(len(order) for order in decided["order"])
    order = np.full((len(decided), longest), -1, np.int64)
    offered = np.zeros((len(decided), len(arms)), np.bool_)
    for row, (named, shown) in enumerate(zip(decided["order"], decided["offered"], strict=True)):
        order[row, : len(named)] = [code_of[arm] for arm in named]
        offered[row, [code_of[arm] for arm in shown]] = True
    try:
        fit = fit_rankings(Rankings(arms, order, offered))
    except UserError as error:
        return None, (), str(error)
    return fit, holm(worth_contrasts(fit, *_shared(data, decided))), ""


def _shared(data: RunData, rows: pd.DataFrame) -> tuple[Codes, ConceptSets, Codes]:
    """Return what the votes share: comparisons, concepts, participants."""
    cases = rows["case"].tolist()
    sets = ConceptSets.of([data.concepts_of[case] for case in cases], names=cases)
    return codes_of(rows["comparison"].tolist()), sets, codes_of(rows["participant"].tolist())


def _places(arms: Sequence[str], chosen: Sequence[Hashable]) -> Codes:
    code_of: dict[Hashable, int] = {arm: number for number, arm in enumerate(arms)}
    return np.array([code_of[arm] for arm in chosen], np.int64)
