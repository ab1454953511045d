"""A contrast: an estimated difference between two arms, what it rests on, and what may be said of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from analysis.results import Result

ALPHA = 0.05


class Verdict(StrEnum):
    """What a contrast allows one to say. Lack of significance alone is never `equivalent`."""

    DIFFERENT = "different"
    DIFFERENT_WITHIN = "different, but within the margin"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Contrast(Result):
    """The difference between `first` and `second` on one scale.

    What could not be computed is None, and `notes` says why in whole sentences; no field is ever NaN.
    """

    first: str
    second: str
    measure: str
    """What was measured: `votes`, `outcomes` or a metric's name."""
    scale: str
    """The unit of `estimate`, `interval` and `margin`, in words."""
    estimate: float | None
    null: float
    """The value that means no difference: 0.5 for shares, 0 for differences."""
    interval: tuple[float, float] | None
    """Two-sided, at 95 %."""
    p: float | None
    n: int
    """Rows the estimate is the mean of."""
    clusters: tuple[tuple[str, int], ...]
    """What recurs among the rows, and how many of each there are."""
    test: str
    scope: tuple[str, ...]
    """What is treated as a random sample, so what the interval and the test generalise to."""
    standard_error: float | None = None
    margin: float | None = None
    """Half width of what counts as no difference; None where none was set on this scale."""
    p_equivalence: float | None = None
    p_adjusted: float | None = None
    p_equivalence_adjusted: float | None = None
    effect_size: float | None = None
    """d_z: mean over standard deviation of the paired differences."""
    notes: tuple[str, ...] = ()
    narrow_interval: tuple[float, float] | None = None
    """Two-sided, at 90 %: where it lies within the margin, two one-sided tests at 5 % show equivalence (Schuirmann 1987)."""

    @property
    def verdict(self) -> Verdict:
        """Return {significant?} x {equivalent?}, each after correction where there was one."""
        different = _below(self.p_adjusted, self.p)
        equivalent = _below(self.p_equivalence_adjusted, self.p_equivalence)
        if different:
            return Verdict.DIFFERENT_WITHIN if equivalent else Verdict.DIFFERENT
        return Verdict.EQUIVALENT if equivalent else Verdict.INCONCLUSIVE

    def records(self) -> list[dict[str, object]]:
        """Return one row: the fields, and the verdict where anything was tested."""
        tested = self.p is not None or self.p_equivalence is not None
        return [Result.records(self)[0] | {"verdict": str(self.verdict) if tested else None}]

    @property
    def naive(self) -> bool:
        """Return whether the rows were treated as independent."""
        return self.scope == ("seeds",) and not self.clusters


def _below(adjusted: float | None, plain: float | None) -> bool:
    p = plain if adjusted is None else adjusted
    return p is not None and p < ALPHA


def holm(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """Return the contrasts of one family with both their p-values corrected by Holm (1979).

    A contrast without a p-value takes no part in the family and stays without.
    """
    differences = _holm([contrast.p for contrast in contrasts])
    equivalences = _holm([contrast.p_equivalence for contrast in contrasts])
    return tuple(
        replace(contrast, p_adjusted=difference, p_equivalence_adjusted=equivalence)
        for contrast, difference, equivalence in zip(contrasts, differences, equivalences, strict=True)
    )


def _holm(values: Sequence[float | None]) -> list[float | None]:
    # (statsmodels' correction collects garbage at every call, a tenth of a second each in a large process)
    present = [value for value in values if value is not None]
    order = np.argsort(present, kind="stable")
    corrected = np.empty(len(present))
    steps = np.arange(len(present), 0, -1) * np.sort(present, kind="stable")
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    result = iter(corrected.tolist())
    return [None if value is None else next(result) for value in values]
