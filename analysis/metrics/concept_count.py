"""A metric against the number of concepts merged: how fast does identity go?"""

from dataclasses import dataclass

import numpy as np

from analysis.contrast import Contrast
from analysis.metrics.paired import Measured, mean_of
from analysis.results import Result


@dataclass(frozen=True, slots=True)
class ByConcepts(Result):
    """The mean of one metric for every arm, over the cases of so many concepts."""

    metric: str
    concepts: int
    images: int
    means: tuple[Contrast, ...]


def by_concepts(measured: Measured, concepts_of: dict[str, tuple[str, ...]]) -> tuple[ByConcepts, ...]:
    """Return the means by number of concepts, ascending; cases without concepts have no identity and are left out."""
    sizes = np.array([len(concepts_of[case]) for case, _ in measured.cells], dtype=np.int64)
    groups = []
    for size in np.unique(sizes[sizes > 0]).tolist():
        rows = sizes == size
        means = [
            mean_of(measured.values[rows, column], measured.sets.take(rows), measured.metric, arm)
            for column, arm in enumerate(measured.arms)
        ]
        groups.append(ByConcepts(measured.metric, size, int(rows.sum()), tuple(means)))
    return tuple(groups)
