"""A contrast: an estimated difference between two arms, its evidence, and its verdict."""

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
class ScopedResult(Result):
    """What a contrast's rows allow for a narrower or a wider scope than the contrast's own."""

    scope: tuple[str, ...]
    """What is treated as a random sample; cases are fixed without `concepts`, participants without `participants`."""
    interval: tuple[float, float]
    p: float
    standard_error: float
    df: float
    p_equivalence: float | None = None
    p_adjusted: float | None = None
    p_equivalence_adjusted: float | None = None
    narrow_interval: tuple[float, float] | None = None

    @property
    def verdict(self) -> Verdict:
        """Return {significant?} x {equivalent?} for this scope, each after correction if there was one."""
        return verdict_of(self.p, self.p_adjusted, self.p_equivalence, self.p_equivalence_adjusted)


@dataclass(frozen=True, slots=True)
class Contrast(Result):
    """The difference between `first` and `second` on one scale.

    What could not be computed is None, and `notes` gives the reason in whole sentences; no field is ever NaN.
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
    """Half width of what counts as no difference; None if none was set on this scale."""
    p_equivalence: float | None = None
    p_adjusted: float | None = None
    p_equivalence_adjusted: float | None = None
    effect_size: float | None = None
    """d_z: mean over standard deviation of the paired differences."""
    notes: tuple[str, ...] = ()
    narrow_interval: tuple[float, float] | None = None
    """Two-sided, at 90 %: if it lies within the margin, two one-sided tests at 5 % show equivalence (Schuirmann 1987)."""
    df: float | None = None
    """Degrees of freedom of the t."""
    effective_votes: float | None = None
    """How many independent votes would be as precise; None unless the rows are votes."""
    effective_participants: float | None = None
    """How many participants with equally many votes would be worth as much; None if no one judged."""
    scopes: tuple[ScopedResult, ...] = ()
    """The same question for the other scopes that the design has an error for, the narrowest first."""
    p_simultaneous: float | None = None
    """Corrected over all contrasts of all metrics that a report's headlines name together; None for votes."""
    simultaneous_interval: tuple[float, float] | None = None
    """Two-sided; those of all these contrasts hold the truth together at 95 %. It excludes `null` if `p_simultaneous` < .05."""

    @property
    def verdict(self) -> Verdict:
        """Return {significant?} x {equivalent?}, each after correction, if any."""
        return verdict_of(self.p, self.p_adjusted, self.p_equivalence, self.p_equivalence_adjusted)

    def records(self) -> list[dict[str, object]]:
        """Return one row: the fields, the verdict if anything was tested, and the verdict of every other scope."""
        tested = self.p is not None or self.p_equivalence is not None
        own = Result.records(replace(self, scopes=()))[0]
        own["scopes"] = tuple(f"{', '.join(scoped.scope)}: {scoped.verdict}" for scoped in self.scopes)
        return [own | {"verdict": str(self.verdict) if tested else None}]

    @property
    def naive(self) -> bool:
        """Return whether the rows were treated as independent."""
        return self.scope == ("seeds",) and not self.clusters


def verdict_of(
    p: float | None, adjusted: float | None, equivalence: float | None, equivalence_adjusted: float | None
) -> Verdict:
    """Return the verdict of two p-values, each after correction if there was one."""
    different, equivalent = _below(adjusted, p), _below(equivalence_adjusted, equivalence)
    if different:
        return Verdict.DIFFERENT_WITHIN if equivalent else Verdict.DIFFERENT
    return Verdict.EQUIVALENT if equivalent else Verdict.INCONCLUSIVE


def _below(adjusted: float | None, plain: float | None) -> bool:
    p = plain if adjusted is None else adjusted
    return p is not None and p < ALPHA


def holm(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """Return the contrasts of one family with both their p-values corrected by Holm (1979).

    A contrast without a p-value takes no part in the family and stays without.
    """
    differences = _holm([contrast.p for contrast in contrasts])
    equivalences = _holm([contrast.p_equivalence for contrast in contrasts])
    corrected = _holm_scopes(contrasts)
    return tuple(
        replace(contrast, p_adjusted=difference, p_equivalence_adjusted=equivalence, scopes=scopes)
        for contrast, difference, equivalence, scopes in zip(contrasts, differences, equivalences, corrected, strict=True)
    )


def _holm_scopes(contrasts: Sequence[Contrast]) -> list[tuple[ScopedResult, ...]]:
    """Return the scopes of every contrast, each corrected over the contrasts of the family for the same scope."""
    names = dict.fromkeys(scoped.scope for contrast in contrasts for scoped in contrast.scopes)
    corrected: list[list[ScopedResult]] = [[] for _ in contrasts]
    for name in names:
        # a contrast whose own scope this is belongs to the family too
        family = [_of_scope(contrast, name) for contrast in contrasts]
        differences = _holm([pair[0] for pair in family])
        equivalences = _holm([pair[1] for pair in family])
        for index, contrast in enumerate(contrasts):
            corrected[index] += [
                replace(scoped, p_adjusted=differences[index], p_equivalence_adjusted=equivalences[index])
                for scoped in contrast.scopes
                if scoped.scope == name
            ]
    return [tuple(scopes) for scopes in corrected]


def _of_scope(contrast: Contrast, name: tuple[str, ...]) -> tuple[float | None, float | None]:
    if contrast.scope == name:
        return contrast.p, contrast.p_equivalence
    return next(((scoped.p, scoped.p_equivalence) for scoped in contrast.scopes if scoped.scope == name), (None, None))


def _holm(values: Sequence[float | None]) -> list[float | None]:
    # (statsmodels' correction collects garbage at every call, a tenth of a second each in a large process)
    present = [value for value in values if value is not None]
    order = np.argsort(present, kind="stable")
    corrected = np.empty(len(present))
    steps = np.arange(len(present), 0, -1) * np.sort(present, kind="stable")
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    result = iter(corrected.tolist())
    return [None if value is None else next(result) for value in values]
