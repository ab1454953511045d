"""Metrics across arms on the same cases and seeds: a mean per arm, and what separates two arms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from analysis.contrast import Contrast, holm
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.results import Result


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
    """Case and seed of each row; empty where they are not known."""


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
    means = tuple(mean_of(data.values[:, place], data.sets, data.metric, arm) for place, arm in enumerate(data.arms))
    found = [paired_contrast(data, first, second) for first, second in pairs]
    return MetricResult(data.metric, data.signature, data.direction, data.arms, means, holm(found), data.left_out)


def mean_of(values: Floats, sets: ConceptSets, metric: str, arm: str) -> Contrast:
    """Return the mean of one column with its cluster-robust interval; a single mean is tested against nothing."""
    found = contrast_of_mean(
        values, _cells(values), sets, first=arm, second="", measure=metric, scale=f"mean {metric}", null=0.0
    )
    return replace(found, p=None)


def paired_contrast(data: Measured, first: str, second: str) -> Contrast:
    """Return the mean difference first - second over the cells, with d_z = mean / sd of the differences."""
    difference = data.values[:, data.arms.index(first)] - data.values[:, data.arms.index(second)]
    found = contrast_of_mean(
        difference, _cells(difference), data.sets,
        first=first, second=second, measure=data.metric, scale=f"difference in {data.metric}", null=0.0,
        other_scopes=True,
    )  # fmt: skip
    spread = float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0
    return replace(found, effect_size=float(difference.mean()) / spread if spread > 0 else None)


def _cells(values: Floats) -> Codes:
    return np.arange(len(values), dtype=np.int64)
