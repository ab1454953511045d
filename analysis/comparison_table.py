"""One row per comparison: votes, disagreement and metric scores; and the results of any part of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.grouping import votes_of
from analysis.metrics.paired import Measured, paired_contrast
from analysis.results import Result
from analysis.votes.preference import clustered_preference

KEYS = ["case", "seed", "first", "second"]


@dataclass(frozen=True, slots=True)
class Part(Result):
    """The numbers of some of a run's comparisons of two arms.

    Comparisons that were chosen after a look at them are exploratory: an interval here is not a test.
    """

    first: str
    second: str
    comparisons: int
    numbers: tuple[Contrast, ...]
    """The share of votes first, if there are any, then the paired difference of every metric."""


def comparisons_of(findings: Findings) -> pd.DataFrame:
    """Return all comparisons the run's images allow, in the order of the experiment.

    Columns: case, seed, first, second, concepts, for_first, cannot_tell, for_second, votes, disagreement (share of pairs of
    votes that differ, missing below two votes), and for each metric that scores single images its difference first - second.
    """
    data = findings.data
    order = {case.key: position for position, case in enumerate(data.cases)}
    cells: dict[tuple[str, int], set[str]] = {}
    for case, arm, seed in data.images:
        cells.setdefault((case, seed), set()).add(arm)
    rows = [
        (case, seed, first, second, data.concepts_of[case])
        for case, seed in sorted(cells, key=lambda cell: (order[cell[0]], cell[1]))
        for first, second in combinations([label for label in data.labels if label in cells[case, seed]], 2)
    ]
    frame = pd.DataFrame(rows, columns=[*KEYS, "concepts"]).join(_votes(findings), on=KEYS)
    counts = ["for_first", "cannot_tell", "for_second", "votes"]
    frame[counts] = frame[counts].fillna(0).astype(int)
    for measured in findings.measured:
        frame[measured.metric] = _leads(measured, frame)
    return frame


def _votes(findings: Findings) -> pd.DataFrame:
    given = findings.data.judgments
    kinds = {"for_first": given["choice"] == 1, "cannot_tell": given["choice"] == 0.5, "for_second": given["choice"] == 0}
    counts = given[KEYS].assign(**kinds).groupby(KEYS).sum()
    counts["votes"] = counts.sum(axis=1)
    squares = (counts[list(kinds)] ** 2).sum(axis=1)
    pairs = (counts["votes"] * (counts["votes"] - 1)).where(counts["votes"] > 1)
    counts["disagreement"] = 1.0 - (squares - counts["votes"]) / pairs
    return counts


def _leads(measured: Measured, frame: pd.DataFrame) -> pd.Series:
    wide = pd.DataFrame(measured.values, columns=list(measured.arms), index=pd.MultiIndex.from_tuples(measured.cells))
    long = wide.stack()
    values = [
        long.reindex(pd.MultiIndex.from_frame(frame[["case", "seed", side]])).to_numpy(float) for side in ("first", "second")
    ]
    return pd.Series(values[0] - values[1], index=frame.index)


def against_people(findings: Findings, comparisons: pd.DataFrame, metric: str) -> pd.Series:
    """Return how far a metric's lead (in its standard deviations) opposes the majority of the votes; positive: against."""
    direction = next(measured.direction for measured in findings.measured if measured.metric == metric)
    sign = -1.0 if direction == "lower" else 1.0
    spread = float(comparisons[metric].std()) or 1.0
    lean = (comparisons["for_first"] - comparisons["for_second"]) / comparisons["votes"].where(comparisons["votes"] > 0)
    return -sign * comparisons[metric] / spread * lean


def part_of(findings: Findings, comparisons: pd.DataFrame, first: str, second: str) -> Part:
    """Return the numbers of two arms over some of the run's comparisons, by the functions behind the report."""
    chosen = comparisons[(comparisons["first"] == first) & (comparisons["second"] == second)]
    data = findings.data
    judgments = data.judgments.merge(chosen[KEYS], on=KEYS)
    numbers = [clustered_preference(votes) for votes in votes_of(replace(data, judgments=judgments))]
    cells = set(zip(chosen["case"], chosen["seed"], strict=True))
    for measured in findings.measured:
        if first in measured.arms and second in measured.arms:
            rows = np.array([cell in cells for cell in measured.cells], dtype=np.bool_)
            if rows.any():
                numbers.append(paired_contrast(_rows_of(measured, rows), first, second))
    return Part(first, second, len(chosen), tuple(replace(result, p=None) for result in numbers))


def _rows_of(measured: Measured, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Measured:
    cells: Sequence[tuple[str, int]] = [cell for cell, selected in zip(measured.cells, rows, strict=True) if selected]
    return replace(measured, values=measured.values[rows], sets=measured.sets.take(rows), cells=tuple(cells))
