"""Turn a mean of dependent rows into a contrast: interval, test of no difference, equivalence test, for every scope.

A contrast's own numbers hold for the widest scope that the design has enough concepts and participants for; `Contrast.scopes`
has the same for the others. A wider scope never gets a smaller error or more degrees of freedom than a narrower one.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA, Contrast, ScopedResult
from analysis.inference.cautions import cautions
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.equivalence_test import equivalence_of_mean, equivalence_of_share
from analysis.inference.finite_values import check_finite
from analysis.inference.scoped_variance import DependentRows, Scope, ScopedVariance
from analysis.inference.share_intervals import ClusteredShares

DYADIC = "t, dyadic + participant, max-rule"
DYADIC_ALONE = "t, dyadic, max-rule"
CLUSTERED = "t, clustered by comparison + participant"
CLUSTERED_ALONE = "t, clustered by comparison"


@dataclass(frozen=True)
class MeanTests:
    """Intervals and tests of the means of some columns, each an array of one number per column."""

    estimate: Floats
    low: Floats
    high: Floats
    narrow_low: Floats
    narrow_high: Floats
    p: Floats
    p_equivalence: Floats | None
    standard_error: Floats
    df: Floats
    effective: Floats | None
    """Effective number of votes; None unless the columns are votes."""


def mean_tests(
    values: Floats, variance: ScopedVariance, null: float, margin: float | None = None, votes: bool = False
) -> MeanTests:
    """Return intervals and tests of the mean of each column of `values` (rows, columns).

    `votes` means that values are between 0 and 1, as votes are: then the intervals are Wilson's with an effective number of
    votes (`analysis.inference.share_intervals`). Else they are those of a t.
    """
    df = variance.df
    if votes:
        shares = ClusteredShares.of(values, variance)
        df = shares.df
        equivalence = None if margin is None else equivalence_of_share(shares, null, margin)
        return MeanTests(
            shares.share, *shares.interval(ALPHA / 2), *shares.interval(ALPHA), shares.p(null), equivalence,
            shares.standard_error(), df, shares.effective,
        )  # fmt: skip
    return _t_tests(values.mean(axis=0), np.sqrt(variance.variance), df, null, margin)


def _t_tests(estimate: Floats, error: Floats, df: Floats, null: float, margin: float | None) -> MeanTests:
    wide, narrow = (stats.t.isf(tail, df) * error for tail in (ALPHA / 2, ALPHA))
    safe = np.where(error > 0, error, 1.0)
    p = np.where(error > 0, 2.0 * stats.t.sf(np.abs(estimate - null) / safe, df), 1.0)
    equivalence = None if margin is None else equivalence_of_mean(estimate - null, safe, df, margin)
    return MeanTests(
        estimate, estimate - wide, estimate + wide, estimate - narrow, estimate + narrow, p, equivalence, error, df, None
    )


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
    other_scopes: bool = False,
) -> Contrast:
    """Return the contrast whose estimate is the mean of `values`, with cluster-robust intervals and tests.

    Parameters
    ----------
    values : one number per row, finite
    comparison, sets, participant : which rows depend on each other, one code or set per row
    first, second, measure, scale : what the contrast is called
    null : the value that means no difference
    margin : half width of what counts as no difference; None for no equivalence test
    bounds : (0, 1) for votes and other shares, whose intervals are kept within them
    other_scopes : whether `Contrast.scopes` is wanted too

    Raises UserError if a value is not finite.
    """
    empty = Contrast(first, second, measure, scale, None, null, None, None, len(values), (), "none", (), margin=margin)
    if not len(values):
        return replace(empty, notes=("There are no rows to compare.",))
    check_finite(measure, values)
    rows = DependentRows(comparison, sets, participant)
    contrast = replace(empty, estimate=float(values.mean()), effective_participants=rows.effective_participants)
    if rows.primary is None:
        return replace(contrast, notes=("A single row has no standard error, so no interval can be given.",))
    votes = bounds == (0.0, 1.0) and float(values.min()) >= 0.0 and float(values.max()) <= 1.0
    contrast = replace(contrast, clusters=clusters_of(rows), scope=scope_words(rows, rows.primary), notes=cautions(rows))
    constant = float(np.ptp(values)) == 0.0
    if constant and not votes:
        note = "All rows have the same value, so no error can be estimated."
        return replace(contrast, notes=(*contrast.notes, note))
    column = values[:, None]
    variances = ordered_variances(column, rows) if other_scopes else {rows.primary: rows.variance(column, rows.primary)}
    if not votes and float(variances[rows.primary].variance[0]) <= 1e-24 * max(1.0, float(np.abs(values).max())) ** 2:
        return replace(contrast, notes=(*contrast.notes, "All clusters have the same mean, so no error can be estimated."))
    tests = {scope: mean_tests(column, variance, null, margin, votes) for scope, variance in variances.items()}
    main = tests[rows.primary]
    contrast = replace(
        contrast,
        interval=_pair(main.low, main.high, bounds),
        narrow_interval=_pair(main.narrow_low, main.narrow_high, bounds),
        p=float(main.p[0]),
        p_equivalence=None if main.p_equivalence is None else float(main.p_equivalence[0]),
        standard_error=float(main.standard_error[0]),
        df=float(main.df[0]),
        effective_votes=None if main.effective is None else float(main.effective[0]),
        test=f"{_test_name(rows, rows.primary)}, df {df_text(float(main.df[0]))}",
        scopes=tuple(_scoped(rows, scope, test, bounds) for scope, test in tests.items() if scope != rows.primary),
    )
    if constant and float(values[0]) in bounds:
        contrast = replace(contrast, notes=(*contrast.notes, unanimity(len(values), float(main.df[0]))))
    return contrast


def unanimity(rows: int, df: float) -> str:
    """Return the caution of a contrast whose rows all agree: which effective number of rows its interval has, and why."""
    return (
        f"All {rows} rows agree. The interval counts each of them, with {df_text(df)} degrees of freedom: that is the limit of "
        "the effective number of rows as the last that disagree turn."
    )


def ordered_variances(values: Floats, rows: DependentRows) -> dict[Scope, ScopedVariance]:
    """Return the variances of all scopes, none smaller than that of a narrower scope, degrees of freedom none larger.

    Those of the primary scope stay as they are; wider ones are raised to those they contain, narrower ones lowered.
    """
    variances = {scope: rows.variance(values, scope) for scope in rows.scopes}
    primary = rows.primary
    if primary is None:
        return variances
    order = [primary, *(scope for scope in rows.scopes if primary <= scope and scope != primary)]
    fixed = {primary: variances[primary]}
    for scope in order[1:]:
        inside = [fixed[other] for other in fixed if other <= scope]
        fixed[scope] = ScopedVariance(
            np.max([variances[scope].variance, *(other.variance for other in inside)], axis=0),
            np.min([variances[scope].df, *(other.df for other in inside)], axis=0),
            min(variances[scope].df_alike, *(other.df_alike for other in inside)),
            np.max([variances[scope].crowding, *(other.crowding for other in inside)], axis=0),
        )
    for scope in reversed(rows.scopes):
        if scope in fixed:
            continue
        around = [fixed[other] for other in fixed if scope <= other]
        fixed[scope] = ScopedVariance(
            np.min([variances[scope].variance, *(other.variance for other in around)], axis=0),
            np.max([variances[scope].df, *(other.df for other in around)], axis=0),
            max(variances[scope].df_alike, *(other.df_alike for other in around)),
            np.min([variances[scope].crowding, *(other.crowding for other in around)], axis=0),
        )
    return {scope: fixed[scope] for scope in rows.scopes}


def t_contrast(
    contrast: Contrast, error: float, df: float, test: str, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Contrast:
    """Return the contrast with interval and tests of a t with `df` degrees of freedom; its estimate must be there."""
    estimate = 0.0 if contrast.estimate is None else contrast.estimate
    tests = _t_tests(np.array([estimate]), np.array([error]), np.array([df]), contrast.null, contrast.margin)
    return replace(
        contrast,
        interval=_pair(tests.low, tests.high, bounds),
        narrow_interval=_pair(tests.narrow_low, tests.narrow_high, bounds),
        p=float(tests.p[0]),
        standard_error=error,
        df=float(df),
        p_equivalence=None if tests.p_equivalence is None else float(tests.p_equivalence[0]),
        test=f"{test}, df {df_text(df)}",
    )


def df_text(df: float) -> str:
    """Return degrees of freedom as printed: whole ones as such, others with one decimal."""
    return f"{df:.0f}" if abs(df - round(df)) < 0.05 or df >= 100 else f"{df:.1f}"


def scope_words(rows: DependentRows, scope: Scope) -> tuple[str, ...]:
    """Return what a scope treats as a random sample, in words."""
    words: tuple[str, ...] = ("seeds",) if rows.comparisons > 1 else ()
    if scope.concepts:
        words += (rows.sets.word, "concepts")
    return (*words, "participants") if scope.participants else words


def clusters_of(rows: DependentRows) -> tuple[tuple[str, int], ...]:
    """Return what recurs among the rows, and how many of each there are."""
    sets = len(np.unique(rows.sets.codes))
    level = (rows.sets.word, sets) if sets > 1 else ("comparisons", rows.comparisons)
    people = (("participants", rows.people),) if rows.participant is not None else ()
    return (("concepts", rows.sets.concepts), level, *people)


def _test_name(rows: DependentRows, scope: Scope) -> str:
    if scope.concepts:
        return DYADIC if scope.participants else DYADIC_ALONE
    return CLUSTERED if scope.participants else CLUSTERED_ALONE


def _scoped(rows: DependentRows, scope: Scope, test: MeanTests, bounds: tuple[float, float]) -> ScopedResult:
    return ScopedResult(
        scope_words(rows, scope),
        _pair(test.low, test.high, bounds),
        float(test.p[0]),
        float(test.standard_error[0]),
        float(test.df[0]),
        None if test.p_equivalence is None else float(test.p_equivalence[0]),
        narrow_interval=_pair(test.narrow_low, test.narrow_high, bounds),
    )


def _pair(low: Floats, high: Floats, bounds: tuple[float, float]) -> tuple[float, float]:
    return max(bounds[0], float(low[0])), min(bounds[1], float(high[0]))
