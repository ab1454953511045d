"""A judge against people on the comparisons that both answered: agreement next to the human ceiling, and shares side by side.

Each person's vote is held against the majority of the other votes, and so is the judge's verdict. The difference is paired and
clustered, so it shows whether the judge agrees with people as people agree with each other. Every comparison lies within one
case, so no correlation over cases enters.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.contrast import Contrast
from analysis.inference.concept_sets import ConceptSets, codes_of
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.judges.alternative_annotator import (
    LEAST_ITEMS,
    AlternativeAnnotatorTest,
    alternative_annotator_test,
    coin_pass_rate,
)
from analysis.judges.two_orders import OrderedAnswers
from analysis.number_format import number, percent

Floats = NDArray[np.float64]
# the price of a person's work, as for crowd workers in the alternative annotator test
EPSILON = 0.1
COINS = 100


@dataclass(frozen=True, slots=True)
class ShareAgainstPeople:
    """Shares of votes for the first of two arms, by the judge and by people, on the same comparisons."""

    judge: Contrast
    people: Contrast
    difference: Contrast


@dataclass(frozen=True, slots=True)
class JudgeAgainstPeople:
    """What a judge answered to one question; the contrasts are None where people did not answer the same comparisons."""

    judge: str
    kind: str
    model: str
    question: str
    comparisons: int
    answered: int
    flips: int
    first_place: float | None
    """Share of decided answers that chose the first image; .5 without position bias."""
    refused: int
    unreadable: int
    failed: int
    agreement: Contrast | None = None
    ceiling: Contrast | None = None
    difference: Contrast | None = None
    alternative: AlternativeAnnotatorTest | None = None
    coin: float | None = None
    """How often a coin passes the alternative annotator test on the same votes."""
    shares: tuple[ShareAgainstPeople, ...] = ()

    @property
    def may_stand_in(self) -> bool:
        """Return whether the judge agrees above chance and not worse than people by more than `EPSILON`."""
        return self._above_chance and self._not_worse

    @property
    def _above_chance(self) -> bool:
        interval = None if self.agreement is None else self.agreement.interval
        return interval is not None and interval[0] > 0.5

    @property
    def _not_worse(self) -> bool:
        interval = None if self.difference is None else self.difference.interval
        return interval is not None and interval[0] > -EPSILON

    @property
    def sentence(self) -> str:
        """Return whether the judge may stand in for people on its question, and why."""
        lead = f"{self.judge} may{'' if self.may_stand_in else ' not'} stand in for people on this question ({self.question})"
        return f"{lead}, because {self._reason}."

    @property
    def _reason(self) -> str:
        agreement, difference = self.agreement, self.difference
        if agreement is None or difference is None or agreement.interval is None or difference.interval is None:
            return "too few comparisons have its verdict and two votes of people, so its agreement has no interval"
        low, high = (percent(end) for end in agreement.interval)
        share = f"it agrees with the majority of people in {percent(agreement.estimate or 0)} [{low}, {high}]"
        worst = number(-100 * difference.interval[0], 1)
        points = number(100 * EPSILON, 0)
        if not self._above_chance:
            return f"{share}, which is not above chance"
        if not self._not_worse:
            return f"it may agree with people up to {worst} points less often than people do, and {points} are allowed"
        least = f"at most {worst} points less often than people do" if difference.interval[0] < 0 else "no less than people do"
        return f"{share}, {least} ({points} are allowed)"


def judges_against_people(
    machine: pd.DataFrame, people: pd.DataFrame, concepts: dict[str, tuple[str, ...]]
) -> tuple[JudgeAgainstPeople, ...]:
    """Return every judge and question; people's judgments answer the question `overall`.

    Args:
        machine: rows as of `analysis.machine_judgments`.
        people: judgments, one row per vote.
        concepts: the concepts of each case.
    """
    results = []
    for (judge, kind, model, question), rows in machine.groupby(["judge", "kind", "model", "question"], sort=False):
        answers = OrderedAnswers(rows["a_first"].to_numpy(float), rows["b_first"].to_numpy(float))
        one_image = kind == "score"
        refused, unreadable, failed = (int(rows[name].sum()) for name in ("refused", "unreadable", "failed"))
        base = JudgeAgainstPeople(
            str(judge), str(kind), str(model), str(question), len(rows), int(answers.answered.sum()),
            int(answers.flips.sum()), None if one_image else answers.first_place_share(), refused, unreadable, failed,
        )  # fmt: skip
        verdicts = rows.assign(verdict=answers.verdicts()).dropna(subset=["verdict"])
        if question == "overall" and len(verdicts) and len(people):
            base = _against(base, verdicts.set_index("comparison")["verdict"], people, concepts)
        results.append(base)
    return tuple(results)


def _against(
    base: JudgeAgainstPeople, verdicts: "pd.Series[float]", people: pd.DataFrame, concepts: dict[str, tuple[str, ...]]
) -> JudgeAgainstPeople:
    from dataclasses import replace

    both = people[people["comparison"].isin(verdicts.index)]
    if both.empty:
        return base
    lean = both["choice"].to_numpy(float) - 0.5
    unit = codes_of(both["comparison"].tolist())
    others = np.sign(np.bincount(unit, weights=lean)[unit] - lean)
    mask = (lean != 0) & (np.bincount(unit)[unit] > 1)
    judge_lean = both["comparison"].map(verdicts).to_numpy(float) - 0.5
    judge, person = (0.5 + 0.5 * np.sign(others * side) for side in (judge_lean, lean))
    alternative, coin = _alternative(both, verdicts)
    return replace(
        base,
        agreement=_contrast(judge[mask], both[mask], concepts, base.judge, "people", "agreement with the majority", 0.5),
        ceiling=_contrast(person[mask], both[mask], concepts, "people", "people", "agreement with the majority", 0.5),
        difference=_contrast(
            (judge - person)[mask], both[mask], concepts, base.judge, "people", "difference of agreement", 0.0
        ),
        alternative=alternative,
        coin=coin,
        shares=tuple(_shares(base.judge, both, verdicts, concepts)),
    )


def _contrast(
    values: Floats, rows: pd.DataFrame, concepts: dict[str, tuple[str, ...]], first: str, second: str, scale: str, null: float
) -> Contrast:
    """Return the mean with the error of rows that share concepts, comparisons and, if they have any, participants."""
    cases = rows["case"].tolist()
    people = codes_of(rows["participant"].tolist()) if "participant" in rows else None
    return contrast_of_mean(
        values, codes_of(rows["comparison"].tolist()), ConceptSets.of([concepts[case] for case in cases], names=cases), people,
        first=first, second=second, measure="judge", scale=scale, null=null,
        bounds=(0.0, 1.0) if null == 0.5 else (-np.inf, np.inf),
    )  # fmt: skip


def _shares(
    judge: str, both: pd.DataFrame, verdicts: "pd.Series[float]", concepts: dict[str, tuple[str, ...]]
) -> list[ShareAgainstPeople]:
    shares = []
    for (first, second), rows in both.groupby(["first", "second"], sort=False):
        names = (str(first), str(second))
        cells = rows.groupby("comparison", sort=False).agg(case=("case", "first"), votes=("choice", "mean")).reset_index()
        verdict = np.asarray(cells["comparison"].map(verdicts), dtype=np.float64)
        votes = np.asarray(cells["votes"], dtype=np.float64)
        shares.append(
            ShareAgainstPeople(
                _contrast(verdict, cells, concepts, *names, f"share by {judge}", 0.5),
                _contrast(rows["choice"].to_numpy(float), rows, concepts, *names, "share by people", 0.5),
                _contrast(verdict - votes, cells, concepts, *names, f"share by {judge} minus share by people", 0.0),
            )
        )
    return shares


def _alternative(both: pd.DataFrame, verdicts: "pd.Series[float]") -> tuple[AlternativeAnnotatorTest | None, float | None]:
    """Return the test and the coin's pass rate, over people with enough comparisons that another person judged too."""
    table = both.pivot_table(index="comparison", columns="participant", values="choice", aggfunc="first").dropna(thresh=2)
    verdict = verdicts.reindex(table.index)
    # an abstention names no arm
    verdict = verdict.where(verdict != 0.5)
    usable = table[verdict.notna()]
    enough = usable.notna().sum() >= LEAST_ITEMS
    usable = usable.loc[:, enough].dropna(thresh=2)
    usable = usable.loc[:, usable.notna().sum() >= LEAST_ITEMS]
    if usable.shape[1] < 2:
        return None, None
    human = usable.to_numpy(float)
    test = alternative_annotator_test(human, np.asarray(verdict.reindex(usable.index), dtype=np.float64), EPSILON)
    return test, coin_pass_rate(human, EPSILON, COINS, np.random.default_rng(0))
