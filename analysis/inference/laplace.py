"""The Laplace likelihood of a logistic mixed model, its analytic gradient, its maximum and the Hessian there.

The likelihood is that of lme4's `glmer` with one quadrature point (Bates, Maechler, Bolker and Walker 2015, arXiv 1406.5823).
Gradient: Laplace's approximation differentiated through the conditional modes (Skaug and Fournier 2006).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, special

from analysis.inference.concept_sets import Codes, Floats
from analysis.inference.random_effects import Factor, RandomEffectsDesign, factorize
from evalkit.errors import UserError

# A standard deviation below this many logits is a variance of zero.
ZERO = 1e-3
# Beyond this many logits a coefficient or a standard deviation only grows because something decides the votes alone.
SEPARATED = 10.0


@dataclass
class Laplace:
    """Minus the Laplace log-likelihood of (standard deviations, coefficients), in the order of the design's terms."""

    design: RandomEffectsDesign
    x: Floats
    successes: Floats
    trials: Floats
    modes: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Start from effects of zero; every evaluation starts from the modes of the last one."""
        self.modes = np.zeros(self.design.indicator.shape[1])
        chosen = special.gammaln(self.trials + 1) - special.gammaln(self.successes + 1)
        self.constant = float(np.sum(chosen - special.gammaln(self.trials - self.successes + 1)))

    def _penalized(self, modes: Floats, fixed: Floats, spread: Floats) -> tuple[float, Floats]:
        """Return minus the penalised log-likelihood at the scaled effects `modes`, and the linear predictor."""
        eta = fixed + self.design.indicator @ (spread * modes)
        likelihood = self.successes @ eta - self.trials @ np.logaddexp(0.0, eta)
        return float(0.5 * modes @ modes - likelihood), eta

    def _find_modes(self, deviations: Floats, fixed: Floats) -> tuple[float, Factor, Floats]:
        """Move to the conditional modes by Newton; return the penalised value, the Hessian there and the probabilities."""
        spread, modes = self.design.spread(deviations), self.modes
        value, eta = self._penalized(modes, fixed, spread)
        for _ in range(100):
            chance = special.expit(eta)
            factor = factorize(self.design, self.trials * chance * (1.0 - chance), deviations)
            slope = spread * (self.design.transposed @ (self.successes - self.trials * chance)) - modes
            step = factor.solve(slope)
            decrement = float(slope @ step)
            if decrement < 1e-18:
                self.modes = modes
                return value, factor, chance
            length = 1.0
            while True:
                tried = modes + length * step
                proposed, eta = self._penalized(tried, fixed, spread)
                if proposed <= value or decrement < 1e-6:
                    break
                length /= 2.0
            modes, value = tried, proposed
        raise UserError(
            "mixed model: the modes of the random effects were not found in 100 steps; is a covariate on a huge scale?"
        )

    def __call__(self, parameters: Floats) -> tuple[float, Floats]:
        """Return the value and its gradient."""
        terms = len(self.design.sizes)
        deviations, fixed = parameters[:terms], self.x @ parameters[terms:]
        value, factor, chance = self._find_modes(deviations, fixed)
        rows, traces = factor.variances()
        weights = self.trials * chance * (1.0 - chance)
        residuals = self.successes - self.trials * chance
        spread, indicator, transposed = self.design.spread(deviations), self.design.indicator, self.design.transposed
        # How log |H| changes with each row's linear predictor, directly and through the modes.
        direct = 0.5 * weights * (1.0 - 2.0 * chance) * rows
        through = factor.solve(spread * (transposed @ direct))
        total = direct - residuals - weights * (indicator @ (spread * through))
        slopes = self.modes * (transposed @ total) + through * (transposed @ residuals)
        by_term = np.bincount(self.design.term_of_column, slopes, terms + 1)[:terms].astype(np.float64)
        shrunk = np.where(deviations == 0.0, 0.0, np.array(self.design.sizes) - traces)
        by_term = by_term + shrunk / np.where(deviations == 0.0, 1.0, deviations)
        gradient = np.concatenate([by_term, self.x.T @ total])
        return value + 0.5 * factor.log_determinant - self.constant, gradient


def minimize(laplace: Laplace, start: Floats, free: Codes) -> tuple[float, Floats]:
    """Return the minimum over the `free` parameters and its position."""

    def part(values: Floats) -> tuple[float, Floats]:
        point = start.copy()
        point[free] = values
        value, gradient = laplace(point)
        return value, gradient[free]

    lowest = np.where(free < len(laplace.design.sizes), 0.0, -np.inf)
    optimum = optimize.minimize(
        part, start[free], jac=True, method="L-BFGS-B", bounds=optimize.Bounds(lowest, np.inf),
        options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-5 * math.sqrt(len(laplace.successes))},
    )  # fmt: skip
    point = start.copy()
    point[free] = optimum.x
    return float(optimum.fun), point


def hessian_at(laplace: Laplace, point: Floats, free: Codes) -> Floats:
    """Return the second derivatives over the `free` parameters, by central differences of the gradient."""
    rows = []
    for index in free:
        step = np.zeros(len(point))
        step[index] = 1e-4 * max(1.0, abs(point[index])) if index >= len(laplace.design.sizes) else 1e-3 * point[index]
        rows.append((laplace(point + step)[1] - laplace(point - step)[1])[free] / (2.0 * step[index]))
    hessian: Floats = np.array(rows, np.float64)
    return np.asarray((hessian + hessian.T) / 2.0, np.float64)


def maximize(laplace: Laplace) -> tuple[Floats, Floats]:
    """Return the estimates and the Hessian there; rows and columns of standard deviations at zero are left out."""
    terms, width = len(laplace.design.sizes), laplace.x.shape[1]
    start = np.concatenate([np.full(terms, 0.5), np.zeros(width)])
    every = np.arange(terms + width)
    value, point = minimize(laplace, start, every)
    for index in range(terms):
        if point[index] < ZERO:  # the gradient is zero at zero whether or not the likelihood falls there
            moved = point.copy()
            moved[index] = 0.1
            if laplace(moved)[0] < value:
                value, point = minimize(laplace, moved, every)
    at_zero = [index for index in range(terms) if point[index] < ZERO]
    point[at_zero] = 0.0
    free = np.setdiff1d(every, at_zero)
    if at_zero:
        _, point = minimize(laplace, point, free)
    for _ in range(5):
        gradient = laplace(point)[1][free]
        hessian = hessian_at(laplace, point, free)
        if np.linalg.eigvalsh(hessian)[0] <= 0.0:
            break
        step = np.linalg.solve(hessian, gradient)
        if _separation(laplace, point):
            break
        point[free] -= step
        if gradient @ step < 1e-6:
            return point, hessian
    why = _separation(laplace, point) or "the data do not distinguish these random effects"
    raise UserError(f"mixed model: no maximum of the likelihood was found: {why}; leave a term or a covariate out")


def _separation(laplace: Laplace, point: Floats) -> str:
    """Return what decides the votes alone, so that its coefficient or standard deviation grows without end, or nothing."""
    terms = len(laplace.design.sizes)
    for name, deviation in zip(laplace.design.names, point[:terms].tolist(), strict=True):
        if deviation > SEPARATED:
            return f"within each level of {name!r} the votes hardly differ"
    centred = laplace.x - laplace.x.mean(0)
    return "a covariate separates the votes" if np.max(np.abs(centred * point[terms:])) > SEPARATED else ""
