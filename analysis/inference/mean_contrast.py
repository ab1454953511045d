"""Turn a mean and its variance into a contrast: interval, test of no difference, test of equivalence."""

from dataclasses import replace

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA, Contrast
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.dyadic_standard_errors import Robust, robust_variance

DYADIC = "t, dyadic + participant, max-rule"
DYADIC_ALONE = "t, dyadic, max-rule"
CLUSTERED = "t, clustered"
UNANIMOUS = "exact binomial, one vote per cluster"


def contrast_of_mean(
    values: Floats,
    comparison: Codes,
    sets: ConceptSets,
    participant: Codes | None = None,
    *,
    first: str,
    second: str,
    measure: str,
    scale: str,
    null: float,
    margin: float | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Contrast:
    """Return the contrast whose estimate is the mean of `values`, one per row, with a cluster-robust interval and test.

    `comparison`, `sets` and `participant` say which rows depend on each other. The equivalence test is two one-sided t-tests
    (Schuirmann 1987) with the same variance: it holds at 5 % where the 90 % interval lies within the margin. Shares are kept
    within `bounds`.
    """
    empty = Contrast(first, second, measure, scale, None, null, None, None, len(values), (), "none", (), margin=margin)
    if not len(values):
        return replace(empty, notes=("There are no rows to compare.",))
    estimate = float(values.mean())
    robust = robust_variance(values, comparison, sets, participant)
    if robust is None:
        return replace(empty, estimate=estimate, notes=("One row has no error of its own, so no interval can be given.",))
    found = replace(empty, estimate=estimate, clusters=robust.clusters, scope=robust.scope, notes=robust.notes)
    if float(np.ptp(values)) == 0.0:
        return _constant(found, robust, bounds)
    error = robust.standard_error
    if error <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return replace(found, notes=(*robust.notes, "All clusters have the same mean, so no error can be estimated."))
    wide = "concepts" in robust.scope
    test = (DYADIC if participant is not None else DYADIC_ALONE) if wide else CLUSTERED
    return t_contrast(found, error, robust.df, test, bounds)


def t_contrast(found: Contrast, error: float, df: int, test: str, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Contrast:
    """Return the contrast with interval and tests of a t with `df` degrees of freedom; its estimate must be there."""
    estimate = 0.0 if found.estimate is None else found.estimate
    wide, narrow = (float(stats.t.isf(tail, df)) * error for tail in (ALPHA / 2, ALPHA))
    return replace(
        found,
        interval=(max(bounds[0], estimate - wide), min(bounds[1], estimate + wide)),
        narrow_interval=(max(bounds[0], estimate - narrow), min(bounds[1], estimate + narrow)),
        p=float(2 * stats.t.sf(abs(estimate - found.null) / error, df)),
        standard_error=error,
        p_equivalence=None if found.margin is None else _tost(estimate - found.null, error, df, found.margin),
        test=f"{test}, df {df}",
    )


def _tost(difference: float, error: float, df: int, margin: float) -> float:
    below = float(stats.t.sf((difference + margin) / error, df))
    above = float(stats.t.cdf((difference - margin) / error, df))
    return max(below, above)


def _constant(found: Contrast, robust: Robust, bounds: tuple[float, float]) -> Contrast:
    """Return what identical rows allow: each of the fewest clusters counts as one vote."""
    estimate, count = found.estimate, robust.df + 1
    if estimate not in bounds or not np.isfinite(bounds).all():
        said = "All rows have the same value, so no error can be estimated."
        return replace(found, notes=(*robust.notes, said))
    wins = count if estimate == bounds[1] else 0
    exact = stats.binomtest(wins, count, found.null)
    low, high = exact.proportion_ci(1 - ALPHA, "exact")
    said = f"Everybody answered alike; the interval counts each of the {count} fewest clusters as one vote."
    return replace(
        found, interval=(float(low), float(high)), p=float(exact.pvalue), test=UNANIMOUS, notes=(*robust.notes, said)
    )
