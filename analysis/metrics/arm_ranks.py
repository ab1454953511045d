"""Which arms rank apart, over several: Friedman's test and Nemenyi's comparisons (Demsar 2006, JMLR 7:1-30).

The test is always the same one; choosing it by the look of the data would make its p-values wrong. Blocks are concept sets,
taken for independent, so the result holds for other seeds and sets of these concepts.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA
from analysis.inference.concept_sets import Floats
from analysis.metrics.paired import Measured
from analysis.metrics.paired_effects import by_set
from analysis.results import Result
from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class RankPair(Result):
    """Two arms' difference of mean ranks and Nemenyi's p, which is corrected for all pairs."""

    first: str
    second: str
    difference: float
    p: float


@dataclass(frozen=True, slots=True)
class ArmRanks(Result):
    """Mean ranks of all arms, 1 the best; a metric without a direction ranks higher values first."""

    metric: str
    signature: str
    arms: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    sets: int
    statistic: float
    """Friedman's chi-squared, corrected for ties."""
    p: float
    critical_difference: float
    """Mean ranks further apart than this differ at 5 % by Nemenyi's test."""
    pairs: tuple[RankPair, ...]
    scope: tuple[str, ...]

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the largest groups of arms that Nemenyi's test does not separate, best first: the bars of the diagram."""
        order = sorted(zip(self.mean_ranks, self.arms, strict=True))
        spans: list[tuple[int, int]] = []
        for start in range(len(order)):
            end = max(
                position
                for position in range(start, len(order))
                if order[position][0] - order[start][0] <= self.critical_difference
            )
            if end > start and not (spans and spans[-1][1] >= end):
                spans.append((start, end))
        return tuple(tuple(arm for _, arm in order[start : end + 1]) for start, end in spans)


def arm_ranks(data: Measured) -> ArmRanks:
    """Return how the arms rank; raise UserError for fewer than three arms or two concept sets, or values that never differ."""
    if len(data.arms) < 3:
        raise UserError(f"{data.metric}: ranks need three arms or more, not {len(data.arms)}; with two, see their difference")
    table = np.column_stack([by_set(data.values[:, column], data.sets.codes) for column in range(len(data.arms))])
    if len(table) < 2:
        raise UserError(f"{data.metric}: ranks need two concept sets or more, not {len(table)}; score more cases")
    ranks = stats.rankdata(table if data.direction == "lower" else -table, axis=1)
    if np.all(ranks == ranks[0, 0]):
        raise UserError(f"{data.metric}: all arms have the same values everywhere, so they have no ranks; leave it out")
    friedman = stats.friedmanchisquare(*table.T)
    return _result(data, ranks, float(friedman.statistic), float(friedman.pvalue))


def _result(data: Measured, ranks: Floats, statistic: float, p: float) -> ArmRanks:
    blocks, arms = ranks.shape
    means, unit = ranks.mean(axis=0), math.sqrt(arms * (arms + 1) / (6.0 * blocks))
    pairs = [
        RankPair(
            data.arms[one],
            data.arms[other],
            float(means[one] - means[other]),
            float(stats.studentized_range.sf(abs(means[one] - means[other]) / unit * math.sqrt(2), arms, np.inf)),
        )
        for one, other in combinations(range(arms), 2)
    ]
    return ArmRanks(
        data.metric, data.signature, data.arms, tuple(means.tolist()), blocks, statistic, p, nemenyi_quantile(arms) * unit,
        tuple(pairs), ("seeds", data.sets.word),
    )  # fmt: skip


def nemenyi_quantile(arms: int, level: float = ALPHA) -> float:
    """Return the critical value of the difference of two mean ranks, in standard errors, for all pairs of `arms`."""
    return float(stats.studentized_range.isf(level, arms, np.inf)) / math.sqrt(2)
