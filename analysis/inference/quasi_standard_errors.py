"""One error per arm from which the error of any difference can be read: quasi standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import optimize

from analysis.inference.bradley_terry import Strengths
from analysis.inference.concept_sets import Floats
from analysis.results import Result
from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class QuasiErrors(Result):
    """One error per arm, such that the error of a difference is near the root of the sum of two squares."""

    arms: tuple[str, ...]
    errors: Floats
    worst: float
    """The largest relative error this makes in any difference's standard error."""

    def records(self) -> list[dict[str, object]]:
        """Return one row per arm."""
        return [
            {"arm": arm, "quasi_error": error, "worst": self.worst}
            for arm, error in zip(self.arms, self.errors.tolist(), strict=True)
        ]


def quasi_errors(fit: Strengths, errors: Sequence[float] | None = None) -> QuasiErrors:
    """Return the quasi standard errors of Firth and de Menezes (2004), least squares on the log variances of differences.

    `errors` are standard errors of the differences of every two arms, in the order of `itertools.combinations`; without them
    those of the fit are taken. A quasi-variance that would be negative is zero.
    """
    if len(fit.arms) < 3:
        raise UserError("quasi standard errors: at least three arms are needed; with two, give the error of their difference")
    pairs = np.array(list(combinations(range(len(fit.arms)), 2)))
    fitted = [fit.difference(fit.arms[one], fit.arms[other])[1] for one, other in pairs]
    goal = 2.0 * np.log(fitted if errors is None else errors)

    def gaps(quasi: Floats) -> Floats:
        return np.asarray(np.log(quasi[pairs].sum(1)) - goal, np.float64)

    start = np.full(len(fit.arms), float(np.exp(goal).mean()) / 2.0)
    solution = optimize.least_squares(gaps, start, bounds=(1e-12 * start[0], np.inf), xtol=1e-12, ftol=1e-12, gtol=1e-12)
    worst = float(np.max(np.abs(np.expm1(gaps(solution.x) / 2.0))))
    return QuasiErrors(fit.arms, np.where(solution.x > 1e-6 * start[0], np.sqrt(solution.x), 0.0), worst)
