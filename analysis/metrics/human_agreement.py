"""People against metrics: does a metric predict people's choice between two images, and how close does it come to other people?

One row per vote, so that every number here is on the scale of the noise ceiling and has the project's default error. Metrics
without a direction take no part: they do not indicate which of two images is better.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.contrast import Contrast, holm
from analysis.database_rows import RunData
from analysis.grouping import by_signature, votes_of
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.results import Result
from analysis.votes.agreement import noise_ceiling
from analysis.votes.metric_votes import area_under_curve, logistic_slope, predicted, rank_correlation, some_votes, vote_contrast
from analysis.votes.preference import CANNOT_TELL, FIRST, SECOND, Votes
from evalkit.errors import UserError

ALL_ARMS = "all arms"


@dataclass(frozen=True)
class Judged:
    """One metric against the votes on one pair of arms, or on all of them.

    `gap` is, for each vote, the metric's lead of the first arm's image over the second's, positive where the metric finds the
    first one better; `pair` identifies the pair of arms.
    """

    metric: str
    signature: str
    votes: Votes
    gap: Floats
    pair: Codes
    left_out: int = 0
    """Votes on comparisons in which an image has no score."""


@dataclass(frozen=True, slots=True)
class Foresight(Result):
    """How well one metric predicts votes. An undefined quantity has no estimate, and its notes state why."""

    metric: str
    signature: str
    first: str
    second: str
    votes: int
    left_out: int
    tie_width: float
    """Median of the cross-validated widths: leads up to it are taken for `cannot tell`."""
    baseline: float
    """Share of votes that the most frequent answer predicts."""
    accuracy: Contrast
    """Share of votes predicted, `cannot tell` included."""
    above_baseline: Contrast
    """Accuracy minus baseline, in the same votes."""
    ceiling: Contrast
    """Share of votes that the other votes on the same comparison predict."""
    auc: Contrast
    correlation: Contrast
    slope: Contrast


def foresight(data: Judged) -> Foresight:
    """Return how well a metric predicts the votes, each number with an interval that allows for concepts and participants."""
    votes = data.votes
    if not len(votes.choice):
        raise UserError(f"{data.metric}: has no votes on images that it scored; score the judged images with it")
    right, width = predicted(data.gap, votes)
    counts = [float(np.mean(votes.choice == answer)) for answer in (FIRST, SECOND, CANNOT_TELL)]
    usual = np.asarray(votes.choice == (FIRST, SECOND, CANNOT_TELL)[int(np.argmax(counts))], np.float64)
    accuracy = vote_contrast(right, votes, "share of votes predicted", 0.5, (0.0, 1.0))
    return Foresight(
        data.metric,
        data.signature,
        votes.first,
        votes.second,
        len(votes.choice),
        data.left_out,
        width,
        max(counts),
        replace(accuracy, p=None),
        vote_contrast(right - usual, votes, "share of votes predicted beyond the most frequent answer", 0.0),
        noise_ceiling(votes),
        area_under_curve(data.gap, votes),
        rank_correlation(data.gap, votes),
        logistic_slope(data.gap, data.pair, votes),
    )


def people_and_metrics(data: RunData | Iterable[Judged]) -> tuple[Foresight, ...]:
    """Return how well every metric predicts people's votes: for each pair of arms, and for all arms if there are several pairs.

    All arms together mix two things, which arm is better and which image of two given arms is; the pairs hold the second
    alone. The p-values of one pair of arms are corrected over the metrics (Holm 1979).
    """
    results = [foresight(result) for result in (judged(data) if isinstance(data, RunData) else data)]
    corrected: dict[tuple[str, str], list[Foresight]] = {}
    for result in results:
        corrected.setdefault((result.first, result.second), []).append(result)
    return tuple(result for family in corrected.values() for result in _holm(family))


def _holm(family: list[Foresight]) -> Iterator[Foresight]:
    columns = [
        holm([result.above_baseline for result in family]),
        holm([result.auc for result in family]),
        holm([result.correlation for result in family]),
        holm([result.slope for result in family]),
    ]
    for result, ahead, auc, correlation, slope in zip(family, *columns, strict=True):
        yield replace(result, above_baseline=ahead, auc=auc, correlation=correlation, slope=slope)


def judged(data: RunData) -> Iterator[Judged]:
    """Yield every directed metric against the votes, for each pair of arms and then for all arms."""
    together = votes_of(data)
    own = data.scores[(data.scores["other_arm"] == "") & (data.scores["direction"] != "none")]
    for name, rows in by_signature(own):
        wide = rows.pivot(index=["case", "seed", "concept"], columns="arm", values="value")
        sign = 1.0 if rows["direction"].iloc[0] == "higher" else -1.0
        signature, parts = str(rows["signature"].iloc[0]), []
        for index, votes in enumerate(together):
            cells = data.judgments[(data.judgments["first"] == votes.first) & (data.judgments["second"] == votes.second)]
            gap = sign * _leads(wide, votes.first, votes.second, cells)
            scored = np.isfinite(gap)
            if scored.any():
                pair = np.full(int(scored.sum()), index, np.int64)
                parts.append(Judged(name, signature, some_votes(votes, scored), gap[scored], pair, int((~scored).sum())))
        yield from parts
        if len(parts) > 1:
            yield _all_arms(data, parts)


def _leads(wide: pd.DataFrame, first: str, second: str, cells: pd.DataFrame) -> Floats:
    """Return the first arm's lead in every row of `cells`, averaged over concepts; not a number if a score is missing."""
    if not {first, second} <= set(wide.columns):
        return np.full(len(cells), np.nan)
    lead = wide[first] - wide[second]
    grouped = lead.groupby(level=["case", "seed"])
    means = grouped.mean().where(grouped.count() == grouped.size()).reindex(pd.MultiIndex.from_frame(cells[["case", "seed"]]))
    return np.asarray(means, np.float64)


def _all_arms(data: RunData, parts: list[Judged]) -> Judged:
    """Return the votes of all pairs of arms as one; comparisons and participants keep their own codes."""
    people = data.judgments["participant"]
    known = {who: code for code, who in enumerate(dict.fromkeys(people.tolist()))}
    comparison, participant, members, offset = [], [], [], 0
    for part in parts:
        votes = part.votes
        of_pair = (data.judgments["first"] == votes.first) & (data.judgments["second"] == votes.second)
        names = list(dict.fromkeys(people[of_pair].tolist()))
        participant.append(np.array([known[who] for who in names], np.int64)[votes.participant])
        comparison.append(votes.comparison + offset)
        offset += int(votes.comparison.max()) + 1
        members += [tuple(votes.sets.members[code]) for code in votes.sets.codes]
    votes = Votes(
        ALL_ARMS, "", np.concatenate([part.votes.choice for part in parts]), np.concatenate(comparison),
        np.concatenate(participant), ConceptSets.of(members),
    )  # fmt: skip
    gap, pair = np.concatenate([part.gap for part in parts]), np.concatenate([part.pair for part in parts])
    return Judged(parts[0].metric, parts[0].signature, votes, gap, pair, sum(part.left_out for part in parts))
