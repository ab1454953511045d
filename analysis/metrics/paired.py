"""Metrics across arms on the same cases and seeds: a mean per arm, and what separates two arms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from analysis.contrast import Contrast, holm
from analysis.inference.cautions import skew_caution
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.finite_values import check_finite, check_rows
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.results import Result
from evalkit.errors import UserError

# Differences smaller than this part of the values they are made of are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Measured:
    """One metric under one signature: `values` is cells x arms, a cell being a case and a seed."""

    metric: str
    signature: str
    direction: str
    arms: tuple[str, ...]
    values: Floats
    sets: ConceptSets
    left_out: int = 0
    """Cells dropped because an arm lacked its score there."""
    cells: tuple[tuple[str, int], ...] = ()
    """Case and seed of each row; empty if they are unknown."""

    def __post_init__(self) -> None:
        """Refuse scores that are not finite, and rows or columns without a set or an arm."""
        check_finite(self.metric, self.values, "score")
        check_rows(self.metric, len(self.values), sets=self.sets.codes)
        if self.values.ndim != 2 or self.values.shape[1] != len(self.arms):
            shape = " x ".join(map(str, self.values.shape))
            raise UserError(f"{self.metric}: scores are {shape}, arms {len(self.arms)}; give a row per cell, a column per arm")


@dataclass(frozen=True, slots=True)
class MetricResult(Result):
    """The means of one metric's arms, and their paired contrasts."""

    metric: str
    signature: str
    direction: str
    arms: tuple[str, ...]
    means: tuple[Contrast, ...]
    contrasts: tuple[Contrast, ...]
    left_out: int
    exploratory: bool = False
    """Whether a frozen plan names other metrics as primary."""

    def best(self) -> str | None:
        """Return the arm that every contrast puts ahead of every other with p (Holm) < .05, or None."""
        if self.direction == "none" or len(self.arms) < 2:
            return None
        sign = 1.0 if self.direction == "higher" else -1.0
        beaten: dict[str, int] = dict.fromkeys(self.arms, 0)
        for contrast in self.contrasts:
            if contrast.verdict.startswith("different") and contrast.estimate is not None:
                beaten[contrast.first if sign * contrast.estimate > 0 else contrast.second] += 1
        return next((arm for arm, count in beaten.items() if count == len(self.arms) - 1), None)


def measure(data: Measured, families: Sequence[tuple[str, str]] | None = None) -> MetricResult:
    """Return the means per arm and the paired contrasts of all pairs of arms (or of `families`), Holm over the pairs.

    The unit is the paired difference within a case and seed. Seeds are not the replicates that matter: the variance is that of
    rows that share concepts (`analysis.inference.dyadic_standard_errors`), the t has concepts - 1 degrees of freedom.

    Parameters
    ----------
    data
        Scores of one metric under one signature.
    families
        Pairs of arms to test; by default all.
    """
    pairs = list(combinations(data.arms, 2)) if families is None else list(families)
    means = tuple(mean_of(data.values[:, column], data.sets, data.metric, arm) for column, arm in enumerate(data.arms))
    differences = [paired_contrast(data, first, second) for first, second in pairs]
    return MetricResult(data.metric, data.signature, data.direction, data.arms, means, holm(differences), data.left_out)


def mean_of(values: Floats, sets: ConceptSets, metric: str, arm: str) -> Contrast:
    """Return the mean of one column with its cluster-robust interval; a single mean is tested against nothing."""
    mean = contrast_of_mean(
        values, _cells(values), sets, first=arm, second="", measure=metric, scale=f"mean {metric}", null=0.0
    )
    return replace(mean, p=None)


def paired_contrast(data: Measured, first: str, second: str) -> Contrast:
    """Return the mean difference first - second over the cells, with d_z = mean / sd of the differences."""
    one, other = (data.values[:, data.arms.index(arm)] for arm in (first, second))
    difference = one - other
    contrast = contrast_of_mean(
        difference, _cells(difference), data.sets,
        first=first, second=second, measure=data.metric, scale=f"difference in {data.metric}", null=0.0,
        other_scopes=True,
    )  # fmt: skip
    if "concepts" in contrast.scope:
        contrast = replace(contrast, notes=(*contrast.notes, *skew_caution(difference, data.sets.varying.concepts)))
    return replace(contrast, effect_size=standardized_mean(difference, float(np.abs(data.values).max(initial=0.0))))


def standardized_mean(differences: Floats, scale: float) -> float | None:
    """Return d_z, the mean over the standard deviation; None if the differences are constant.

    `scale` is the largest absolute value the differences were made of: what differs by its rounding only is constant.
    """
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean()) / spread if spread > ROUNDING * scale else None


def _cells(values: Floats) -> Codes:
    return np.arange(len(values), dtype=np.int64)
