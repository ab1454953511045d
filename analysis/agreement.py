"""How far participants agree beyond chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Codes, Floats


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement over units judged at least twice. What is undefined is None, and `note` says why.

    Low kappa or alpha is to be expected where two arms are equally good: there is then nothing to agree about.
    """

    units: int
    judgments: int
    raw: float | None
    """Share of pairs of judgments of one unit that are equal."""
    kappa: float | None
    """Fleiss' kappa (1971); only where every unit has equally many judgments."""
    alpha: float | None
    """Krippendorff's alpha, nominal; allows unequal numbers of judgments."""
    note: str = ""


def counts_of(unit: Codes, category: Codes) -> NDArray[np.int64]:
    """Return the units x categories table of counts."""
    table = np.zeros((int(unit.max(initial=-1)) + 1, int(category.max(initial=-1)) + 1), dtype=np.int64)
    np.add.at(table, (unit, category), 1)
    return table


def agreement(table: NDArray[np.int64]) -> Agreement:
    """Return the agreement of a units x categories table of counts; units judged once say nothing and are left out.

    Sources: Fleiss 1971 (Psychological Bulletin 76:378); Krippendorff 2011, "Computing Krippendorff's alpha-reliability",
    section on nominal data with missing values.
    """
    kept = table[table.sum(axis=1) >= 2] if table.size else table.reshape(0, 1)
    if not len(kept):
        return Agreement(0, 0, None, None, None, "No comparison was judged by two participants.")
    sizes = kept.sum(axis=1)
    total = int(sizes.sum())
    equal_pairs = (kept * (kept - 1)).sum(axis=1)
    raw = float(equal_pairs.sum() / (sizes * (sizes - 1)).sum())
    if np.count_nonzero(kept.sum(axis=0)) < 2:
        note = "Every judgment was the same, so chance-corrected agreement is undefined."
        return Agreement(len(kept), total, raw, None, None, note)
    notes = "" if np.all(sizes == sizes[0]) else "Comparisons have unequal numbers of judgments, so Fleiss' kappa is undefined."
    kappa = None if notes else _fleiss(kept, raw)
    return Agreement(len(kept), total, raw, kappa, _krippendorff(kept, sizes), notes)


def _fleiss(table: NDArray[np.int64], raw: float) -> float:
    shares: Floats = table.sum(axis=0) / table.sum()
    chance = float(np.sum(shares**2))
    return (raw - chance) / (1 - chance)


def _krippendorff(table: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    total = table.sum()
    marginals = table.sum(axis=0)
    differing = (sizes**2 - (table**2).sum(axis=1)) / (sizes - 1)
    expected = (total**2 - np.sum(marginals**2)) / (total - 1)
    return float(1 - differing.sum() / expected)
