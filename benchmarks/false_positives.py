"""How often the preference tests are wrong, and how often the default one is right: `python benchmarks/false_positives.py`.

Prints the table of docs/statistics.md in about five minutes on one core. Five votes per comparison; effects in logits, drawn
anew for each study, so that the arms are equally good in the population of concepts, pairs, comparisons and participants; for
the power the first arm is ahead by .6 logit. The last column is the oracle's power, which no test of the share
of votes can beat: that of a normal test that knows every variance and so the exact error, the one `evalkit plan` computes.

Run: OMP_NUM_THREADS=1 python benchmarks/false_positives.py [STUDIES]
"""

import sys
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from analysis.contrast import ALPHA, Contrast
from analysis.planning.precision import NODES, WEIGHTS, Spread, StudyDesign, draw_study, variance_terms
from analysis.votes.preference import clustered_preference, naive_preference

AHEAD = 0.6
# Standard deviations of concept, pair, comparison and participant effects.
FEW = (Spread(0.0, 0.5, 1.0, 0.5), Spread(0.2, 0.5, 1.0, 0.5), Spread(0.5, 0.5, 1.0, 0.5))
SMALL = [(StudyDesign(*sizes), spread) for sizes in ((8, 3, 20), (12, 2, 30), (20, 1, 40), (30, 1, 60)) for spread in FEW]
# The size of the Orthogonal MC Dropout paper's study, under effects from none to large; with five participants all judge all.
PAPER = [
    (StudyDesign(30, 4, participants), Spread(*spread))
    for spread, participants in (
        ((0.0, 0.0, 0.0, 0.0), 60), ((0.0, 0.0, 1.0, 0.0), 60), ((0.0, 0.5, 1.0, 0.5), 60), ((0.15, 0.3, 1.0, 0.3), 60),
        ((0.3, 0.5, 1.0, 0.0), 60), ((0.3, 0.5, 1.0, 0.5), 60), ((0.5, 0.5, 1.0, 0.5), 60), ((0.0, 0.5, 1.0, 0.5), 20),
        ((0.0, 0.5, 1.0, 0.5), 5), ((0.3, 0.5, 1.0, 0.5), 5),
    )
]  # fmt: skip


def effect_of(logit: float, spread: Spread) -> float:
    """Return the difference from one half that a mean logit makes in the population's votes."""
    total = (2 * spread.concept**2 + spread.pair**2 + spread.comparison**2 + spread.participant**2) ** 0.5
    return float(WEIGHTS @ special.expit(logit + total * NODES) / WEIGHTS.sum()) - 0.5


def rejects(contrast: Contrast) -> bool:
    """Return whether a contrast calls the arms different at 5 %."""
    return contrast.p is not None and contrast.p < ALPHA


@dataclass(frozen=True)
class Rates:
    """How often the naive and the default test reject without an effect, the default's coverage, and its power."""

    naive: float
    default: float
    coverage: float
    power: float


def rates(design: StudyDesign, spread: Spread, studies: int, with_effect: int, seed: int = 7) -> Rates:
    """Return the rates over `studies` simulated studies without an effect, the power over `with_effect` studies with one."""
    rng = np.random.default_rng(seed)
    naive = default = covered = found = 0
    for _ in range(studies):
        votes = draw_study(design, spread, 0.0, rng)
        naive += rejects(naive_preference(votes))
        contrast = clustered_preference(votes)
        default += rejects(contrast)
        covered += contrast.interval is not None and contrast.interval[0] <= 0.5 <= contrast.interval[1]
    effect = effect_of(AHEAD, spread)
    for _ in range(with_effect):
        found += rejects(clustered_preference(draw_study(design, spread, effect, rng)))
    return Rates(naive / studies, default / studies, covered / studies, found / with_effect)


def oracle_power(design: StudyDesign, spread: Spread) -> float:
    """Return the power of a test that knows every variance: what is lost below it is the price of estimating them."""
    effect = effect_of(AHEAD, spread)
    shift = effect / float(variance_terms(design, spread, effect).sum()) ** 0.5
    edge = float(stats.norm.isf(ALPHA / 2))
    return float(stats.norm.sf(edge - shift) + stats.norm.cdf(-edge - shift))


def main(studies: int) -> None:
    """Print the table."""
    print("| concepts, seeds, participants | effects | naive | default | coverage | power | oracle's power |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for design, spread in (*SMALL, *PAPER):
        sizes = f"{design.concepts}, {design.seeds}, {design.participants}"
        effects = " / ".join(f"{value:g}" for value in (spread.concept, spread.pair, spread.comparison, spread.participant))
        found = rates(design, spread, studies, max(1, studies // 5))
        values = (found.naive, found.default, found.coverage, found.power, oracle_power(design, spread))
        print(f"| {sizes} | {effects} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
