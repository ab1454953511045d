"""Logistic mixed models with crossed and multi-membership random intercepts, by Laplace approximation.

statsmodels has no such model, and its variational one understates standard errors eightfold on crossed data. The likelihood,
its maximum and the standard errors are those of lme4's `glmer` with one quadrature point (Bates, Maechler, Bolker and Walker
2015, arXiv 1406.5823); the concept effects of a case need no detour here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats
from threadpoolctl import threadpool_limits

from analysis.inference.concept_sets import Floats
from analysis.inference.laplace import Laplace, maximize, minimize
from analysis.inference.random_effects import RandomTerm, design_of
from analysis.results import Result
from evalkit.errors import UserError

INTERCEPT = "intercept"
# Start value of a profile for standard deviations that were estimated as zero.
START = 0.05
# Wald's interval of a standard deviation that reaches further than this factor is uninformative.
WIDE = 10.0
# A standard deviation below this part of the mean is rounding: the covariate is constant.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class FixedEffect(Result):
    """A coefficient in logits; `p` is two-sided, of the normal statistic estimate / standard error."""

    name: str
    estimate: float
    standard_error: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class VarianceComponent(Result):
    """A standard deviation in logits.

    Its interval is Wald's on the logarithm. Where that has no meaning (a deviation of zero) or no use (a factor of ten and
    more to either side), it is that of the profile likelihood, or all numbers from zero on if profiles were left out.
    """

    name: str
    levels: int
    deviation: float
    interval: tuple[float, float]
    method: str


@dataclass(frozen=True)
class MixedFit(Result):
    """A fitted model. `covariance` is that of the fixed effects, from the joint Hessian with the standard deviations."""

    fixed: tuple[FixedEffect, ...]
    components: tuple[VarianceComponent, ...]
    covariance: Floats
    log_likelihood: float
    rows: int
    confidence: float

    def effect(self, name: str) -> FixedEffect:
        """Return the coefficient of `name`."""
        return next(effect for effect in self.fixed if effect.name == name)

    @property
    def df(self) -> int:
        """Return the degrees of freedom of a coefficient that all levels share: one less than the fewest levels of a term."""
        return max(1, min((component.levels for component in self.components), default=2) - 1)

    def small_sample_effect(self, name: str) -> FixedEffect:
        """Return the coefficient of `name` with interval and p of a t with `df` degrees of freedom.

        The normal ones are too sure of a coefficient that is constant within few levels, such as the intercept.
        """
        effect = self.effect(name)
        half = float(stats.t.isf((1.0 - self.confidence) / 2.0, self.df)) * effect.standard_error
        p = float(2.0 * stats.t.sf(abs(effect.estimate) / effect.standard_error, self.df))
        return FixedEffect(name, effect.estimate, effect.standard_error, (effect.estimate - half, effect.estimate + half), p)

    def component(self, name: str) -> VarianceComponent:
        """Return the standard deviation of the random term `name`."""
        return next(component for component in self.components if component.name == name)


def fit_mixed(
    successes: Floats,
    terms: Sequence[RandomTerm],
    covariates: Mapping[str, Floats] | None = None,
    trials: Floats | None = None,
    confidence: float = 0.95,
    profiles: bool = True,
) -> MixedFit:
    """Return the fitted model of `successes` out of `trials` (1 each by default), one row per vote or per group of votes.

    An intercept is always in; a covariate is one number per row, in the unit its coefficient should have (the side an arm was
    shown on: -1/2 and 1/2), on any scale. Without `profiles` a standard deviation whose Wald interval has no meaning or no use
    gets the interval from zero to infinity, which takes no time. Raises UserError if no finite estimate exists: unanimous rows,
    a term with one level, a covariate that separates the votes, collinear covariates, no convergence.
    """
    with threadpool_limits(1):
        columns = _columns(covariates or {}, centred=True)
        laplace = _laplace(successes, terms, columns, trials)
        best, hessian = maximize(laplace)
        return _result(laplace, columns, [term.name for term in terms], best, hessian, confidence, profiles)


def profile_interval(
    name: str,
    successes: Floats,
    terms: Sequence[RandomTerm],
    covariates: Mapping[str, Floats] | None = None,
    trials: Floats | None = None,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the profile-likelihood interval of the coefficient or standard deviation `name`; arguments as `fit_mixed`.

    Every step towards its ends is a separate fit.
    """
    with threadpool_limits(1):
        # a shift of covariates changes the intercept and no other coefficient
        columns = _columns(covariates or {}, centred=name != INTERCEPT)
        laplace = _laplace(successes, terms, columns, trials)
        best, hessian = maximize(laplace)
        known = [*laplace.design.names, *columns.names]
        if name not in known:
            raise UserError(f"profile interval: the model has no parameter {name!r}; choose from {', '.join(known)}")
        index = known.index(name)
        unit = 1.0 if index < len(laplace.design.names) else columns.scales[index - len(laplace.design.names)]
        lower = _profile_end(laplace, best, hessian, index, -1.0, confidence)
        return lower / unit, _profile_end(laplace, best, hessian, index, 1.0, confidence) / unit


@dataclass(frozen=True)
class _Columns:
    """The intercept and the covariates, standardised: a search that steps in units of one suits no other scale."""

    names: tuple[str, ...]
    values: tuple[Floats, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    """Column = covariate less its centre, over its scale."""

    @property
    def back(self) -> Floats:
        """Return the matrix that takes coefficients of the columns to those of the covariates as they were given."""
        back = np.diag(1.0 / np.array(self.scales))
        back[0, 1:] = -np.array(self.centres[1:]) / np.array(self.scales[1:])
        return back


def _columns(covariates: Mapping[str, Floats], centred: bool) -> _Columns:
    """Return the covariates by their standard deviation; a constant one keeps its scale and is refused as collinear later."""
    values, centres, scales = [], [0.0], [1.0]
    for column in covariates.values():
        given = np.asarray(column, np.float64)
        known = given if len(given) and np.isfinite(given).all() else np.zeros(1)
        centre, spread = float(known.mean()), float(known.std())
        constant = spread <= ROUNDING * abs(centre) or spread == 0.0
        scales.append(1.0 if constant else spread)
        centres.append(centre if centred else 0.0)
        values.append(np.zeros_like(given) + (0.0 if constant and centred else (given - centres[-1]) / scales[-1]))
    return _Columns((INTERCEPT, *covariates), tuple(values), tuple(centres), tuple(scales))


def _laplace(successes: Floats, terms: Sequence[RandomTerm], columns: _Columns, trials: Floats | None) -> Laplace:
    counts = np.ones(len(successes)) if trials is None else np.asarray(trials, np.float64)
    y = np.asarray(successes, np.float64)
    lengths = {len(y), len(counts), *(len(term.codes) for term in terms), *(len(column) for column in columns.values)}
    if lengths != {len(y)} or not len(y):
        raise UserError(f"mixed model: every input needs the same number of rows, at least one, not {sorted(lengths)}")
    x = np.column_stack([np.ones(len(y)), *columns.values])
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(counts).all()):
        raise UserError("mixed model: a row holds a value that is missing or infinite; leave such rows out")
    if np.any(y < 0) or np.any(y > counts):
        raise UserError("mixed model: successes must be between 0 and the number of trials of their row")
    if y.sum() in (0.0, counts.sum()):
        raise UserError(f"mixed model: all {counts.sum():.0f} votes are equal, so no finite estimate exists; report the count")
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise UserError(f"mixed model: the covariates {', '.join(columns.names)} are collinear; leave one of them out")
    for term in terms:
        if term.codes.ndim == 1 and counts.max() == 1 and len(np.unique(term.codes)) == len(y):
            raise UserError(f"random effects: every vote is a separate level of {term.name!r}; leave this term out")
    return Laplace(design_of(terms), x, y, counts)


def _result(
    laplace: Laplace,
    columns: _Columns,
    order: Sequence[str],
    best: Floats,
    hessian: Floats,
    confidence: float,
    profiles: bool,
) -> MixedFit:
    design, terms = laplace.design, len(laplace.design.sizes)
    z = float(stats.norm.isf((1.0 - confidence) / 2.0))
    inverse = np.asarray(np.linalg.inv(hessian), np.float64)
    width = len(columns.names)
    covariance = columns.back @ inverse[-width:, -width:] @ columns.back.T
    coefficients, errors_of_fixed = (columns.back @ best[terms:]).tolist(), np.sqrt(np.diag(covariance)).tolist()
    fixed = []
    for name, estimate, error in zip(columns.names, coefficients, errors_of_fixed, strict=True):
        interval = (estimate - z * error, estimate + z * error)
        fixed.append(FixedEffect(name, estimate, error, interval, float(2.0 * stats.norm.sf(abs(estimate) / error))))
    components, errors = {}, iter(np.sqrt(np.diag(inverse)).tolist())
    for index, (name, levels) in enumerate(zip(design.names, design.sizes, strict=True)):
        deviation = float(best[index])
        factor = math.inf if deviation == 0.0 else math.exp(min(z * next(errors) / deviation, 50.0))
        if factor <= WIDE:
            interval, method = (deviation / factor, deviation * factor), "wald-log"
        elif profiles:
            low = 0.0 if deviation == 0.0 else _profile_end(laplace, best, hessian, index, -1.0, confidence)
            interval, method = (low, _profile_end(laplace, best, hessian, index, 1.0, confidence)), "profile"
        else:
            interval, method = (0.0, math.inf), "none"
        components[name] = VarianceComponent(name, levels, deviation, interval, method)
    likelihood = -laplace(best)[0]
    ordered = tuple(components[name] for name in order)
    return MixedFit(tuple(fixed), ordered, covariance, likelihood, len(laplace.successes), confidence)


def _profile_end(laplace: Laplace, best: Floats, hessian: Floats, index: int, side: float, confidence: float) -> float:
    """Return where the profile likelihood of one parameter has fallen by half the chi-squared quantile, on one side."""
    terms = len(laplace.design.sizes)
    fitted = np.flatnonzero((best != 0.0) | (np.arange(len(best)) >= terms))
    others = np.setdiff1d(np.arange(len(best)), [index])
    lowest, z = laplace(best)[0], float(stats.norm.isf((1.0 - confidence) / 2.0))
    point = best.copy()

    def excess(value: float) -> float:
        nonlocal point
        start = point.copy()
        start[:terms] = np.maximum(start[:terms], START)  # at zero the gradient of a standard deviation is zero
        start[index] = value
        minimum, point = minimize(laplace, start, others)
        return math.sqrt(max(0.0, 2.0 * (minimum - lowest))) - z

    inside, step = float(best[index]), 0.25
    if index in fitted:
        own = int(np.searchsorted(fitted, index))
        step = z * math.sqrt(float(np.linalg.inv(hessian)[own, own]))
    for _ in range(60):
        outside = inside + side * step
        if index < terms and outside <= 0.0:
            if excess(0.0) <= 0.0:
                return 0.0
            outside = 0.0
        if outside == 0.0 or excess(outside) > 0.0:
            return float(optimize.brentq(excess, inside, outside, xtol=1e-5))
        inside, step = outside, 1.5 * step
    raise UserError(
        "profile interval: the likelihood stays flat, so the interval has no end on one side; report the Wald interval"
    )
