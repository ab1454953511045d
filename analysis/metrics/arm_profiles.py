"""Whole distributions of a metric per arm: the mean of its middle half, and how often it passes each threshold.

Both with intervals from a hierarchical bootstrap (concepts, then seeds); all arms share the weights of a draw, since they share
cases and seeds. Source: Agarwal, Schwarzer, Castro, Courville and Bellemare 2021 (arXiv 2108.13264), with concepts for tasks
and seeds for runs.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.inference.bootstrap import crossed_weights, percentile_interval
from analysis.inference.concept_sets import MIN_CONCEPTS, Floats
from analysis.inference.finite_values import check_finite
from analysis.metrics.paired import Measured
from analysis.results import Result
from evalkit.errors import UserError

DRAWS = 999
SEED = 20_10
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class MiddleMean(Result):
    """The mean of the middle half of an arm's scores, or the difference of two arms' where `second` is named."""

    metric: str
    signature: str
    first: str
    second: str
    estimate: float
    interval: Interval | None
    scope: tuple[str, ...]
    note: str = ""


def middle_mean(values: Floats, weights: Floats | None = None) -> float:
    """Return the interquartile mean: of the middle half of the weight, rows at its edges in part.

    With weights of one and a number of rows divisible by four this is the mean without the lowest and the highest quarter.
    """
    check_finite("interquartile mean", values)
    order = np.argsort(values, kind="stable")
    held = np.ones(len(values)) if weights is None else weights
    return float(_middle(values[order], held[order]))


def _middle(ordered: Floats, weights: Floats) -> float:
    upto = np.clip(np.cumsum(weights) / weights.sum(), 0.25, 0.75)
    inside = np.diff(np.append(0.25, upto))
    return float(inside @ ordered / inside.sum())


def middle_means(data: Measured, draws: int = DRAWS, seed: int = SEED) -> tuple[MiddleMean, ...]:
    """Return the interquartile mean of every arm, then the difference of every pair of arms."""
    _check(data)
    arms = range(len(data.arms))
    orders = [np.argsort(data.values[:, arm], kind="stable") for arm in arms]
    drawn = np.array(
        [
            [_middle(data.values[order, arm], weights[order]) for arm, order in enumerate(orders)]
            for weights in crossed_weights(data.sets, draws, np.random.default_rng(seed))
        ]
    )
    scope, note = _scope(data)
    known = [middle_mean(data.values[:, arm]) for arm in arms]
    wide = not note

    def row(first: str, second: str, estimate: float, values: Floats) -> MiddleMean:
        interval = percentile_interval(values) if wide else None
        return MiddleMean(data.metric, data.signature, first, second, estimate, interval, scope, note)

    alone = [row(data.arms[arm], "", known[arm], drawn[:, arm]) for arm in arms]
    apart = [
        row(data.arms[one], data.arms[other], known[one] - known[other], drawn[:, one] - drawn[:, other])
        for one, other in combinations(arms, 2)
    ]
    return (*alone, *apart)


@dataclass(frozen=True, slots=True)
class ProfilePoint(Result):
    """The share of an arm's scores above one threshold."""

    threshold: float
    share: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Profile(Result):
    """How often one arm's scores exceed each threshold; the intervals hold for one threshold at a time."""

    metric: str
    signature: str
    arm: str
    points: tuple[ProfilePoint, ...]
    scope: tuple[str, ...]
    note: str = ""


def profiles(data: Measured, thresholds: int = 41, draws: int = DRAWS, seed: int = SEED) -> tuple[Profile, ...]:
    """Return the performance profile of every arm, at thresholds from the lowest to the highest score of all."""
    _check(data)
    grid = np.linspace(float(data.values.min()), float(data.values.max()), thresholds)
    above = (data.values[:, :, None] > grid).astype(np.float64)
    flat = above.reshape(len(data.values), -1)
    weights = np.array(list(crossed_weights(data.sets, draws, np.random.default_rng(seed))))
    drawn = (weights @ flat / weights.sum(axis=1, keepdims=True)).reshape(draws, *above.shape[1:])
    scope, note = _scope(data)
    curves = []
    for arm_index, arm in enumerate(data.arms):
        points = tuple(
            ProfilePoint(
                float(level),
                float(above[:, arm_index, column].mean()),
                percentile_interval(drawn[:, arm_index, column]) if not note else None,
            )
            for column, level in enumerate(grid)
        )
        curves.append(Profile(data.metric, data.signature, arm, points, scope, note))
    return tuple(curves)


def _scope(data: Measured) -> tuple[tuple[str, ...], str]:
    if data.sets.generalises:
        return ("seeds", data.sets.word, "concepts"), ""
    if len(data.sets.members) >= MIN_CONCEPTS:
        return ("seeds", data.sets.word), ""
    return (), f"{len(data.sets.members)} {data.sets.word} are too few for a bootstrap ({MIN_CONCEPTS} are needed)."


def _check(data: Measured) -> None:
    if not len(data.values):
        raise UserError(f"{data.metric}: no case and seed has scores of all arms; score the run again")
