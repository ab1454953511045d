"""Prediction-powered estimates: people's votes on some concepts, a judge on more (Angelopoulos 2023, arXiv 2301.09633).

The estimate is mean(Y - lambda f) over what people voted on, plus lambda times the mean of f over everything. A judge on the
same images buys nothing, however good it is; judged images of further concepts do. Both errors are clustered: the first by
the project's dyadic and participant error, the second by concepts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.inference.concept_sets import Codes, ConceptSets
from analysis.inference.scoped_variance import standard_error_of_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """An estimate from people and a judge, next to the one from people alone."""

    estimate: float
    standard_error: float
    interval: tuple[float, float]
    power_tuning: float
    """lambda in [0, 1]: 0 ignores the judge."""
    human_estimate: float
    human_standard_error: float


def tuned_lambda(votes: Floats, predictions: Floats, further: Floats) -> float:
    """Return the weight of the judge with the smallest variance for independent rows, clipped to [0, 1].

    cov(Y, f) / ((1 + n / N) var(f)), the covariance over n, the variance over n + N - 1 (PPI++, arXiv 2311.01453).
    """
    every = np.concatenate([predictions, further])
    variance = float(every.var(ddof=1))
    if variance == 0 or len(votes) < 2:
        return 0.0
    covariance = float(np.cov(votes, predictions, bias=True)[0, 1])
    return float(np.clip(covariance / ((1 + len(votes) / len(further)) * variance), 0, 1))


def independent_estimate(
    votes: Floats, predictions: Floats, further: Floats, power_tuning: float | None = None, alpha: float = 0.05
) -> PredictionPowered:
    """Return the estimate for rows that share nothing: the form of the literature, kept as the reference for the clustered one.

    Args:
        votes: people's answers, shape (n,).
        predictions: the judge's on the same rows, shape (n,).
        further: the judge's on other rows, shape (N,).
        power_tuning: lambda; None tunes it.
        alpha: one minus the level of the interval.
    """
    weight = tuned_lambda(votes, predictions, further) if power_tuning is None else power_tuning
    estimate = float((votes - weight * predictions).mean() + weight * further.mean())
    error = float(np.sqrt((votes - weight * predictions).var() / len(votes) + weight**2 * further.var() / len(further)))
    half = float(stats.norm.isf(alpha / 2)) * error
    human_error = float(votes.std() / np.sqrt(len(votes)))
    return PredictionPowered(estimate, error, (estimate - half, estimate + half), weight, float(votes.mean()), human_error)


def clustered_estimate(
    votes: Floats,
    predictions: Floats,
    comparison: Codes,
    sets: ConceptSets,
    participant: Codes | None,
    further: Floats,
    further_sets: ConceptSets,
    power_tuning: float | None = None,
    alpha: float = 0.05,
) -> PredictionPowered | None:
    """Return the estimate with errors that respect shared concepts, comparisons and participants; None without an error.

    Args:
        votes: one row per vote, 1, 0 or 0.5, shape (n,).
        predictions: the judge's answer to the comparison of each vote, shape (n,).
        comparison: comparison of each vote.
        sets: concepts of each vote.
        participant: participant of each vote; None if unknown.
        further: the judge's answers to comparisons of concepts without votes, shape (N,).
        further_sets: their concepts; none may be among those voted on.
        power_tuning: lambda; None tunes it on means per comparison.
        alpha: one minus the level of the interval.

    Raises:
        ValueError: a further comparison shares a concept with the voted ones, whose error would then be counted twice.
    """
    voted = frozenset().union(*sets.members)
    if any(voted & members for members in further_sets.members):
        raise ValueError("a further comparison shares a concept with the voted ones; give comparisons of other concepts only")
    weight = power_tuning
    if weight is None:
        cells = np.unique(comparison, return_inverse=True)[1]
        counts = np.bincount(cells)
        means = [np.bincount(cells, column) / counts for column in (votes, predictions)]
        weight = tuned_lambda(means[0], means[1], further)
    own = standard_error_of_mean(votes - weight * predictions, comparison, sets, participant)
    alone = standard_error_of_mean(votes, comparison, sets, participant)
    other = standard_error_of_mean(further, np.arange(len(further)), further_sets, None)
    if own is None or alone is None or other is None:
        return None
    first, second = own[0] ** 2, (weight * other[0]) ** 2
    estimate = float((votes - weight * predictions).mean() + weight * further.mean())
    error = float(np.sqrt(first + second))
    df = (first + second) ** 2 / (first**2 / own[1] + second**2 / other[1]) if error > 0 else own[1]
    half = float(stats.t.isf(alpha / 2, df)) * error
    return PredictionPowered(estimate, error, (estimate - half, estimate + half), weight, float(votes.mean()), alone[0])
