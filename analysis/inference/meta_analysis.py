"""Random-effects summary of independent studies: REML heterogeneity, Hartung-Knapp interval, prediction interval.

Sources: Viechtbauer 2005 (REML), Hartung and Knapp 2001, Roever, Knapp and Friede 2015 (never narrower than without their
factor), Higgins and Thompson 2002 (I squared), Higgins, Thompson and Spiegelhalter 2009 (prediction interval).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from analysis.contrast import ALPHA
from analysis.results import Result
from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class MetaAnalysis(Result):
    """The mean of the studies' true effects, and how much these differ."""

    studies: int
    estimate: float
    standard_error: float
    """By Hartung and Knapp, at least the plain one."""
    interval: tuple[float, float]
    """Of the mean, at 95 %; t with one degree of freedom less than there are studies."""
    p: float
    """Two-sided, of the mean being `null`."""
    null: float
    tau: float
    """Standard deviation of the true effects between studies (REML)."""
    i_squared: float
    """Share of the variance of the estimates that is between studies."""
    q: float
    """Cochran's statistic of homogeneity."""
    q_p: float
    prediction_interval: tuple[float, float] | None
    """Of the true effect of a further study, at 95 %; None below three studies."""


def meta_analysis(estimates: Sequence[float], errors: Sequence[float], null: float = 0.0) -> MetaAnalysis:
    """Return the random-effects summary of estimates with their standard errors.

    Raises UserError for fewer than two studies, or an estimate or error that is not a finite number, or an error of zero.
    """
    y, v = np.asarray(estimates, np.float64), np.asarray(errors, np.float64) ** 2
    if len(y) != len(v) or len(y) < 2:
        raise UserError(f"pool: {len(y)} estimates cannot be summarized; give two studies or more")
    if not (np.isfinite(y).all() and np.isfinite(v).all() and (v > 0).all()):
        raise UserError("pool: an estimate or its error is not a finite positive number; leave that study out")
    tau2 = _reml(y, v)
    weight = 1.0 / (v + tau2)
    mean = float(weight @ y / weight.sum())
    df = len(y) - 1
    factor = max(1.0, float(weight @ (y - mean) ** 2) / df)
    plain = 1.0 / float(weight.sum())
    error = float(np.sqrt(factor * plain))
    reach = float(stats.t.isf(ALPHA / 2, df)) * error
    fixed = 1.0 / v
    q = float(fixed @ (y - fixed @ y / fixed.sum()) ** 2)
    typical = df * fixed.sum() / (fixed.sum() ** 2 - (fixed**2).sum())
    predicted = None
    if len(y) > 2:
        ahead = float(stats.t.isf(ALPHA / 2, len(y) - 2)) * float(np.sqrt(tau2 + error**2))
        predicted = (mean - ahead, mean + ahead)
    return MetaAnalysis(
        len(y), mean, error, (mean - reach, mean + reach), float(2 * stats.t.sf(abs(mean - null) / error, df)), null,
        float(np.sqrt(tau2)), float(tau2 / (tau2 + typical)), q, float(stats.chi2.sf(q, df)), predicted,
    )  # fmt: skip


def _reml(y: np.ndarray, v: np.ndarray) -> float:
    """Return the variance between studies that maximizes the restricted likelihood."""

    def loss(tau2: float) -> float:
        weight = 1.0 / (v + tau2)
        mean = weight @ y / weight.sum()
        return float(0.5 * (np.log(v + tau2).sum() + np.log(weight.sum()) + weight @ (y - mean) ** 2))

    most = 10 * float(np.var(y)) + float(v.max())
    found = optimize.minimize_scalar(loss, bounds=(0.0, most), method="bounded", options={"xatol": 1e-12})
    best = float(found.x)
    return best if loss(best) < loss(0.0) else 0.0
