"""Results of every question of a study: differences between arms, corrected together, and levels of arms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.contrast import Contrast, holm
from analysis.database_rows import RunData
from analysis.inference.concept_sets import ConceptSets, codes_of
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.questions.kinds import QUESTION_KINDS
from analysis.questions.question_kind import AnswerScale, Measure, QuestionKind, base_name
from analysis.results import Result

OVERALL = "overall"
SCALES: dict[Measure, str] = {
    "preference": "preference for the first arm (0 to 1)",
    "rating": "difference of ratings",
    "share": "difference of shares of yes",
}


@dataclass(frozen=True, slots=True)
class QuestionResult(Result):
    """What the answers to one question state about the arms."""

    question: str
    kind: str
    measure: str
    is_primary: bool
    answers: int
    contrasts: tuple[Contrast, ...]
    """One per pair of arms; p-values are corrected by Holm (1979) over all questions and pairs."""
    levels: tuple[Contrast, ...]
    """Mean rating or share of yes of each arm, tested against nothing; empty for questions that only compare."""


def question_results(data: RunData) -> tuple[QuestionResult, ...]:
    """Return the results of all questions, the first one included; empty unless further questions were answered."""
    if data.answers.empty:
        return ()
    names = data.answers["question"].map(base_name)
    results = [_first_question(data)]
    results += [_result(data, str(name), data.answers[names == name]) for name in dict.fromkeys(names)]
    corrected = iter(holm([contrast for result in results for contrast in result.contrasts]))
    primary = data.design.get("primary", OVERALL)
    return tuple(
        replace(
            result,
            contrasts=tuple(next(corrected) for _ in result.contrasts),
            is_primary=result.question == primary,
        )
        for result in results
    )


def kind_of(design: Mapping[str, Any], question: str) -> tuple[QuestionKind, AnswerScale]:
    """Return kind and scale of a question; those of `also_ask` and of imported votes choose or rank images."""
    for given in design.get("questions", ()):
        if given["name"] == question:
            scale = AnswerScale(given["steps"], given["least"], given["most"], given["step"])
            return QUESTION_KINDS[given["kind"]], scale
    ranked = design.get("answer") == "ranking" and design.get("at_once", 2) > 2
    return QUESTION_KINDS["ranking" if ranked else "choice"], AnswerScale()


def _first_question(data: RunData) -> QuestionResult:
    kind, _ = kind_of(data.design, OVERALL)
    contrasts = []
    for first, second in data.arm_pairs:
        pair = data.judgments[(data.judgments["first"] == first) & (data.judgments["second"] == second)]
        rows = pair.assign(value=pair["choice"])
        if not data.several.empty:
            both = data.several["offered"].map(lambda offered, one=first, other=second: one in offered and other in offered)
            rows = data.several[both]
            rows = rows.assign(value=[_order_value(order, first, second) for order in rows["order"]])
        if not rows.empty:
            contrasts.append(_contrast(data, rows, OVERALL, "preference", first, second))
    return QuestionResult(
        OVERALL, kind.name, "preference", False, len(data.judgments) + len(data.several), tuple(contrasts), ()
    )


def _result(data: RunData, name: str, rows: pd.DataFrame) -> QuestionResult:
    kind, scale = kind_of(data.design, name)
    answers = [
        (str(choice), dict(zip(shown, _places(shown), strict=True)))
        for choice, shown in zip(rows["choice"], rows["shown"], strict=True)
    ]
    contrasts, levels = [], []
    for first, second in data.arm_pairs if kind.measure != "count" else ():
        values = [
            kind.pair_value(choice, tuple(place.values()), place[first], place[second], scale)
            if first in place and second in place
            else None
            for choice, place in answers
        ]
        if any(value is not None for value in values):
            frame = rows.assign(value=pd.Series(values, rows.index, dtype=float)).dropna(subset=["value"])
            contrasts.append(_contrast(data, frame, name, kind.measure, first, second))
    for arm in data.labels:
        values = [kind.level(choice, place[arm]) if arm in place else None for choice, place in answers]
        if any(value is not None for value in values):
            frame = rows.assign(value=pd.Series(values, rows.index, dtype=float)).dropna(subset=["value"])
            levels.append(_level(data, frame, name, kind.measure, arm))
    return QuestionResult(name, kind.name, kind.measure, False, len(rows), tuple(contrasts), tuple(levels))


def _contrast(data: RunData, rows: pd.DataFrame, name: str, measure: Measure, first: str, second: str) -> Contrast:
    preference = measure == "preference"
    bounds = {"preference": (0.0, 1.0), "share": (-1.0, 1.0)}.get(measure, (-np.inf, np.inf))
    return contrast_of_mean(
        rows["value"].to_numpy(float), codes_of(rows["comparison"].tolist()), _sets(data, rows),
        codes_of(rows["participant"].tolist()), first=first, second=second, measure=name, scale=SCALES[measure],
        null=0.5 if preference else 0.0, bounds=bounds, other_scopes=True,
    )  # fmt: skip


def _level(data: RunData, rows: pd.DataFrame, name: str, measure: Measure, arm: str) -> Contrast:
    scale = "share of yes" if measure == "share" else "mean rating"
    bounds = (0.0, 1.0) if measure == "share" else (-np.inf, np.inf)
    contrast = contrast_of_mean(
        rows["value"].to_numpy(float), codes_of(rows["comparison"].tolist()), _sets(data, rows),
        codes_of(rows["participant"].tolist()), first=arm, second="", measure=name, scale=scale,
        null=0.5 if measure == "share" else 0.0, bounds=bounds,
    )  # fmt: skip
    # a level is tested against nothing
    return replace(contrast, p=None)


def _sets(data: RunData, rows: pd.DataFrame) -> ConceptSets:
    cases = rows["case"].tolist()
    concepts = data.concepts_of
    return ConceptSets.of([concepts[case] for case in cases], names=cases)


def _places(shown: tuple[str, ...]) -> tuple[str, ...]:
    return ("left", "right") if len(shown) == 2 else tuple(str(number) for number in range(1, len(shown) + 1))


def _order_value(order: tuple[str, ...], first: str, second: str) -> float:
    if first in order and second in order:
        return float(order.index(first) < order.index(second))
    return 1.0 if first in order else 0.0 if second in order else 0.5
