"""Intervals and p-values that hold for all contrasts of several metrics at once: what the headlines of a report rest on.

The single-step max-t procedure (Hothorn, Bretz and Westfall 2008, doi 10.1002/bimj.200810425): each contrast keeps its own t,
and the level of its interval is such that all intervals hold the truth together in 95 % of studies. Interval and verdict always
agree.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA, Contrast
from analysis.inference.concept_sets import Floats
from analysis.metrics.paired import Measured, MetricResult

DRAWS = 20_000
SEED = 2008


def corrected_together(
    metrics: Sequence[MetricResult], cells: Sequence[Measured], primary: Collection[str] | None = None
) -> tuple[MetricResult, ...]:
    """Return the metrics whose contrasts carry p-values and intervals that hold for all metrics together.

    With `primary` the metrics of these names are one family, and all others are a second one, marked exploratory. `cells` are
    the scores that `metrics` were computed from, in the same order; they tell how far contrasts move together.
    """
    exploratory = [primary is not None and metric.metric not in primary for metric in metrics]
    contrasts = [list(metric.contrasts) for metric in metrics]
    for kind in (False, True):
        places = [
            (row, column)
            for row, metric in enumerate(metrics)
            for column, contrast in enumerate(metric.contrasts)
            if exploratory[row] is kind and contrast.p is not None and contrast.df is not None
        ]
        scores = [_scores(cells[row], metrics[row].contrasts[column]) for row, column in places]
        family = max_t([metrics[row].contrasts[column] for row, column in places], correlation(scores))
        for (row, column), contrast in zip(places, family, strict=True):
            contrasts[row][column] = contrast
    return tuple(
        replace(metric, contrasts=tuple(held), exploratory=mark)
        for metric, held, mark in zip(metrics, contrasts, exploratory, strict=True)
    )


def max_t(contrasts: Sequence[Contrast], correlated: Floats) -> tuple[Contrast, ...]:
    """Return the contrasts with `p_simultaneous` and `simultaneous_interval`.

    `correlated` is the correlation of their estimates. Each must have p, standard error and df. The joint distribution has each
    contrast's own t and a normal copula.
    """
    if not contrasts:
        return ()
    draws = np.random.default_rng(SEED).standard_normal((DRAWS, len(contrasts)))
    values, vectors = np.linalg.eigh(correlated)
    joint = draws @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    least = np.sort(2.0 * stats.norm.sf(np.abs(joint)).min(axis=1))
    level = ALPHA if len(contrasts) == 1 else float(np.quantile(least, ALPHA))
    corrected = []
    for contrast in contrasts:
        p = 1.0 if contrast.p is None else contrast.p
        half = float(stats.t.isf(level / 2.0, contrast.df or 1.0)) * (contrast.standard_error or 0.0)
        middle = contrast.estimate or 0.0
        together = p if len(contrasts) == 1 else _share_below(least, p, len(contrasts), level)
        corrected.append(replace(contrast, p_simultaneous=together, simultaneous_interval=(middle - half, middle + half)))
    return tuple(corrected)


def _share_below(least: Floats, p: float, count: int, level: float) -> float:
    """Return how often the least p of a family is at most `p`; below what draws resolve, the bound of Bonferroni."""
    share = float(np.searchsorted(least, p, side="right")) / len(least)
    together = min(1.0, max(share, min(count * p, 20.0 / len(least)), p))
    # the level of the intervals decides, so that rounding never makes p and interval disagree
    return min(together, np.nextafter(ALPHA, 0.0)) if p < level else max(together, ALPHA)


def correlation(scores: Sequence[dict[str, float]]) -> Floats:
    """Return how far contrasts move together over cases, shrunk towards none.

    `scores` has the sum of a contrast's centred differences by case. The weight of no correlation is contrasts / (contrasts +
    cases): an estimate from few cases is unsure, and contrasts that do not move together have the widest intervals.
    """
    cases = list(dict.fromkeys(case for held in scores for case in held))
    table = np.array([[held.get(case, 0.0) for case in cases] for held in scores]).reshape(len(scores), len(cases))
    length = np.sqrt((table**2).sum(axis=1, keepdims=True))
    unit = table / np.where(length > 0, length, 1.0)
    weight = len(scores) / (len(scores) + len(cases)) if cases else 1.0
    shrunk = (1.0 - weight) * (unit @ unit.T)
    np.fill_diagonal(shrunk, 1.0)
    return np.asarray(shrunk, np.float64)


def _scores(cells: Measured, contrast: Contrast) -> dict[str, float]:
    """Return the sums of the centred differences by case; without known cases nothing, which means no correlation."""
    first, second = (cells.values[:, cells.arms.index(arm)] for arm in (contrast.first, contrast.second))
    centred = first - second - (first - second).mean()
    sums: dict[str, float] = {}
    for (case, _), value in zip(cells.cells, centred.tolist(), strict=False):
        sums[case] = sums.get(case, 0.0) + value
    return sums
