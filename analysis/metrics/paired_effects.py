"""How large a paired difference is, on scales that need no unit, and the sign-flip test of it.

One row per concept set, seeds averaged: seeds of one case are not replicates. The sign-flip test and the exact signed-rank
interval take sets for independent, so they hold for other seeds and sets of these concepts. `clustered` is the signed-rank test
and interval for other concepts (`analysis.metrics.clustered_signed_rank`); the verdict is that of `analysis.metrics.paired`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA
from analysis.inference.concept_sets import Codes, Floats
from analysis.inference.finite_values import check_finite
from analysis.metrics.clustered_signed_rank import clustered_signed_rank
from analysis.metrics.paired import ROUNDING, Measured, standardized_mean
from analysis.results import Result
from evalkit.errors import UserError

FLIPS = 9_999
SEED = 20_09
# Up to here all signs are enumerated: 2^13 sums of each half.
ENUMERATED = 26
# Up to here the signed-rank distribution is exact.
EXACT = 50


@dataclass(frozen=True, slots=True)
class PairedEffect(Result):
    """The difference first - second of one metric, over concept sets. What is undefined is None, and `note` gives why."""

    metric: str
    signature: str
    first: str
    second: str
    sets: int
    mean: float
    d_z: float | None
    """Mean over standard deviation of the differences."""
    rank_biserial: float | None
    """Matched-pairs rank-biserial correlation: (ranks in favour - against) / all (Kerby 2014)."""
    win_rate: float
    """Share of sets in which the first arm's value is larger, equal ones counting half."""
    hodges_lehmann: float
    """Median of all means of two differences."""
    hodges_lehmann_interval: tuple[float, float] | None
    cliffs_delta: float
    """Of the unpaired values (Cliff 1993); it ignores that both arms had the same cases."""
    p_sign_flip: float | None
    scope: tuple[str, ...] = ("seeds", "pairs")
    """Of `p_sign_flip` and `hodges_lehmann_interval`, which take sets for independent."""
    note: str = ""
    p_clustered: float | None = None
    """Of the signed-rank test for sets that share concepts; None if the concepts can't stand for others."""
    clustered_interval: tuple[float, float] | None = None
    """Interval of the Hodges-Lehmann estimate that inverts that test."""
    clustered_scope: tuple[str, ...] = ()


def paired_effects(data: Measured, flips: int = FLIPS, seed: int = SEED) -> tuple[PairedEffect, ...]:
    """Return the effect sizes of every pair of arms; the same seed gives the same p."""
    return tuple(paired_effect(data, *pair, flips=flips, seed=seed) for pair in combinations(data.arms, 2))


def paired_effect(data: Measured, first: str, second: str, flips: int = FLIPS, seed: int = SEED) -> PairedEffect:
    """Return the effect sizes of one pair of arms."""
    columns = [by_set(data.values[:, data.arms.index(arm)], data.sets.codes) for arm in (first, second)]
    if not len(columns[0]):
        raise UserError(
            f"{data.metric}: no case and seed has scores of both {first} and {second}"
            "; score both arms on the same cases and seeds"
        )
    scale = float(np.abs(data.values).max())
    difference = columns[0] - columns[1]
    difference[np.abs(difference) <= ROUNDING * scale] = 0.0
    interval = hodges_lehmann_interval(difference)
    sets = data.sets.take(np.unique(data.sets.codes, return_index=True)[1])
    clustered = clustered_signed_rank(difference, sets)
    note = ""
    if not difference.any():
        note = "Both arms have the same values everywhere."
    elif interval is None:
        note = f"{len(difference)} concept sets are too few for an interval at 95 %."
    return PairedEffect(
        data.metric,
        data.signature,
        first,
        second,
        len(difference),
        float(difference.mean()),
        standardized_mean(difference, scale),
        rank_biserial(difference) if difference.any() else None,
        float(np.mean((np.sign(difference) + 1) / 2)),
        float(np.median(_walsh(difference))),
        interval if difference.any() else None,
        cliffs_delta(*columns),
        sign_flip_test(difference, flips, np.random.default_rng(seed)) if difference.any() else None,
        ("seeds", data.sets.word),
        note,
        None if clustered is None else clustered.p,
        None if clustered is None else clustered.interval,
        () if clustered is None else clustered.scope,
    )


def by_set(values: Floats, codes: Codes) -> Floats:
    """Return the mean of every concept set."""
    count = np.bincount(codes)
    return np.asarray(np.bincount(codes, values)[count > 0] / count[count > 0], np.float64)


def sign_flip_test(differences: Floats, flips: int, rng: np.random.Generator) -> float:
    """Return the two-sided p of a mean difference of zero, by flipping signs (Fisher 1935).

    All signs of up to `ENUMERATED` differences are counted, so that p has no seed. Of more, `flips` random ones are: the
    observed signs count as one of them (Phipson and Smyth 2010), so p is never below 1 / (flips + 1).
    """
    check_finite("sign-flip test", differences, "difference")
    size, seen = len(differences), abs(float(differences.sum()))
    if size <= ENUMERATED:
        return _all_flips(differences, seen)
    width = (size + 7) // 8
    bits = np.unpackbits(rng.integers(0, 256, (flips, width), dtype=np.uint8), axis=1, count=size)
    sums = np.abs(2.0 * (bits.astype(np.float32) @ differences.astype(np.float64)) - float(differences.sum()))
    return float((np.count_nonzero(sums >= seen * (1 - 1e-12)) + 1) / (flips + 1))


def _all_flips(differences: Floats, seen: float) -> float:
    """Return the share of all signs whose sum is at least as far from zero; sums of two halves are added by counting."""
    halves = []
    for part in np.array_split(differences, 2):
        sums = np.zeros(1)
        for value in part:
            sums = np.concatenate([sums - value, sums + value])
        halves.append(np.sort(sums))
    one, other = halves
    least = seen - 1e-12 * float(np.abs(differences).sum())
    if least <= 0:
        return 1.0
    above = len(other) - np.searchsorted(other, least - one, "left")
    below = np.searchsorted(other, -least - one, "right")
    return float((above.sum() + below.sum()) / (len(one) * len(other)))


def rank_biserial(differences: Floats) -> float:
    """Return the matched-pairs rank-biserial correlation; zeros are left out."""
    check_finite("rank-biserial correlation", differences, "difference")
    moved = differences[differences != 0]
    ranks = stats.rankdata(np.abs(moved))
    return float(np.sum(np.sign(moved) * ranks) / ranks.sum())


def cliffs_delta(first: Floats, second: Floats) -> float:
    """Return P(first > second) - P(first < second) over all pairs of unpaired values."""
    for values in (first, second):
        check_finite("Cliff's delta", values)
    ordered = np.sort(second)
    below, upto = np.searchsorted(ordered, first, "left"), np.searchsorted(ordered, first, "right")
    return float(np.mean(below + upto) / len(second) - 1.0)


def _walsh(differences: Floats) -> Floats:
    one, other = np.triu_indices(len(differences))
    return np.sort((differences[one] + differences[other]) / 2)


def hodges_lehmann_interval(differences: Floats) -> tuple[float, float] | None:
    """Return the 95 % interval of the median of means from the signed-rank distribution (Hollander and Wolfe 1973).

    Exact up to 50 differences, normal beyond. None if there are too few.
    """
    check_finite("Hodges-Lehmann interval", differences, "difference")
    n = len(differences)
    total = n * (n + 1) // 2
    if n <= EXACT:
        ways = np.ones(1)
        for rank in range(1, n + 1):
            longer = np.append(ways, np.zeros(rank))
            longer[rank:] += ways
            ways = longer
        chance = np.cumsum(ways) / ways.sum()
        edge = int(np.searchsorted(chance, ALPHA / 2))
    else:
        edge = round(total / 2 - float(stats.norm.isf(ALPHA / 2)) * np.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    if edge < 1:
        return None
    walsh = _walsh(differences)
    return float(walsh[edge - 1]), float(walsh[total - edge])


def effects_of(measured: Sequence[Measured]) -> tuple[PairedEffect, ...]:
    """Return the effect sizes of every metric and pair of arms."""
    return tuple(effect for metric in measured for effect in paired_effects(metric))
