"""How often the mixed model's p-value of the preference rejects a true null, by normal and by t, in small studies.

Prints, per design, the share of simulated studies of equally good arms in which p < .05: of the normal statistic, of the t that
the report prints (`MixedFit.small_sample_effect`), and of the default test of votes. Effects are normal on the log odds, so the
model is the true one. `fits` is the share of studies with a finite estimate.

Run: OMP_NUM_THREADS=1 python -m benchmarks.mixed_model [STUDIES] [PART OF A CELL'S NAME]
"""

import sys
import zlib
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.contrast import ALPHA
from analysis.inference.glmm import INTERCEPT
from analysis.planning.precision import Spread
from analysis.votes.preference import Votes, clustered_preference
from analysis.votes.vote_models import vote_model
from benchmarks.simulated_studies import SimulatedDesign, Truth, pairs

SEED = 20_262


@dataclass(frozen=True)
class MixedCell:
    """One row of the table: a design and what makes its votes differ."""

    name: str
    design: SimulatedDesign
    spread: Spread


@dataclass(frozen=True)
class MixedRates:
    """Shares of the studies of a cell."""

    fits: float
    normal: float
    t: float
    default: float


EQUAL, LARGE, TASTE = Spread(0.3, 0.3, 0.5, 0.5), Spread(0.8, 0.3, 0.5, 0.3), Spread(0.0, 0.3, 0.5, 0.8)
CELLS = tuple(
    MixedCell(f"{concepts} concepts, 2 seeds, {people} participants", SimulatedDesign(pairs(concepts), 2, people), spread)
    for concepts, people, spreads in (
        (8, 20, (EQUAL, LARGE)), (12, 5, (EQUAL, TASTE)), (6, 20, (LARGE,)), (5, 20, (EQUAL, LARGE)),
    )
    for spread in spreads
)  # fmt: skip


def mixed_rates(cell: MixedCell, studies: int) -> MixedRates:
    """Return the rates of a cell over `studies` simulated studies without an effect."""
    rng = np.random.default_rng(zlib.crc32(f"{cell.name} {cell.spread}".encode()) + SEED)
    rows = cell.design.rows(rng)
    columns = Truth(cell.spread).studies(rows, "votes", studies, 0.0, rng)
    fits, normal, small, default = 0, 0, 0, 0
    people = np.zeros(len(rows.comparison), np.int64) if rows.participant is None else rows.participant
    for column in columns.T:
        votes = Votes("a", "b", column, rows.comparison, people, rows.sets)
        p = clustered_preference(votes).p
        default += p is not None and p < ALPHA
        fit = vote_model(votes, profiles=False).fit
        if fit is None:
            continue
        fits += 1
        normal += fit.effect(INTERCEPT).p < ALPHA
        small += fit.small_sample_effect(INTERCEPT).p < ALPHA
    return MixedRates(fits / studies, normal / max(1, fits), small / max(1, fits), default / studies)


def main(studies: int, part: str = "") -> None:
    """Print the table."""
    print("| design | SD of concept / pair / comparison / participant | fits | normal | t | default test |")
    print("|---|---|---:|---:|---:|---:|")
    with threadpool_limits(1):
        for cell in CELLS:
            if part in cell.name:
                spread = cell.spread
                effects = f"{spread.concept:g} / {spread.pair:g} / {spread.comparison:g} / {spread.participant:g}"
                result = mixed_rates(cell, studies)
                numbers = " | ".join(f"{rate:.3f}" for rate in (result.fits, result.normal, result.t, result.default))
                print(f"| {cell.name} | {effects} | {numbers} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500, sys.argv[2] if len(sys.argv) > 2 else "")
