"""How often metrics of pure noise give a report a headline that one arm is better.

Prints, per number of metrics and correlation between them, the share of simulated studies of equally good arms with at least
one such headline: with every metric at 5 % by itself (`alone`), and as the report corrects them (`together`); and the share in
which all simultaneous intervals hold zero. Differences have effects of concepts, pairs and images, as those of
`benchmarks.false_positives` have.

Run: OMP_NUM_THREADS=1 python -m benchmarks.headlines [STUDIES]
"""

import sys

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.contrast import Verdict
from analysis.inference.concept_sets import Floats
from analysis.metrics.paired import Measured, measure
from analysis.metrics.simultaneous import corrected_together
from analysis.planning.precision import Spread
from analysis.report.sentences import metric_sentence
from benchmarks.simulated_studies import SimulatedDesign, Truth, pairs

SEED = 20_263
SPREAD = Spread(0.4, 0.3, 1.0, 0.0)


def noise(design: SimulatedDesign, metrics: int, shared: float, arms: int, rng: np.random.Generator) -> list[Measured]:
    """Return scores of metrics without any effect; `shared` is the correlation of two metrics' scores."""
    rows = design.rows(rng)
    columns = Truth(SPREAD).studies(rows, "metric", (metrics + 1) * arms, 0.0, rng).reshape(-1, metrics + 1, arms)
    values: Floats = shared**0.5 * columns[:, :1] + (1.0 - shared) ** 0.5 * columns[:, 1:]
    labels = tuple("abcdef"[:arms])
    cells = tuple((str(code), place) for place, code in enumerate(rows.sets.codes.tolist()))
    return [
        Measured(f"metric {place}", "simulated", "higher", labels, values[:, place], rows.sets, cells=cells)
        for place in range(metrics)
    ]


def headline_rates(design: SimulatedDesign, metrics: int, shared: float, arms: int, studies: int) -> tuple[float, float, float]:
    """Return the shares of studies with a headline, alone and together, and of those whose intervals all hold zero."""
    rng = np.random.default_rng([SEED, metrics, arms, round(100 * shared)])
    counts = np.zeros(3)
    for _ in range(studies):
        cells = noise(design, metrics, shared, arms, rng)
        alone = [measure(metric) for metric in cells]
        together = corrected_together(alone, cells)
        intervals = [held.simultaneous_interval for result in together for held in result.contrasts]
        counts += [
            any(metric_sentence(result).verdict != Verdict.INCONCLUSIVE for result in alone),
            any(metric_sentence(result).verdict != Verdict.INCONCLUSIVE for result in together),
            all(interval is not None and interval[0] <= 0.0 <= interval[1] for interval in intervals),
        ]
    alone_rate, together_rate, coverage = (counts / studies).tolist()
    return alone_rate, together_rate, coverage


def main(studies: int) -> None:
    """Print the table."""
    print("| concepts | arms | metrics | correlation | alone | together | all intervals hold |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    with threadpool_limits(1):
        for concepts, arms, metrics, shared in (
            (8, 2, 8, 0.0), (8, 2, 8, 0.5), (8, 2, 8, 0.9), (8, 3, 8, 0.0), (20, 2, 8, 0.0), (20, 2, 8, 0.5),
        ):  # fmt: skip
            rates = headline_rates(SimulatedDesign(pairs(concepts), 2), metrics, shared, arms, studies)
            texts = " | ".join(f"{rate:.3f}" for rate in rates)
            print(f"| {concepts} | {arms} | {metrics} | {shared:g} | {texts} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
