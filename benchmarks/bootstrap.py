"""How long 10,000 cluster bootstraps of 1,740 clusters take, beside the same through numpy's multinomial.

Both start from votes and end with one mean per draw; best of five, one BLAS thread, seconds of processor time, so that other
work on the machine counts less.

Run: OMP_NUM_THREADS=1 python benchmarks/bootstrap.py [CLUSTERS [DRAWS]]
"""

import os
import sys
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.inference.bootstrap import cluster_bootstrap

REPEATS, PER_CLUSTER = 5, 5


def best_of(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the shortest of five processor times in seconds, and the last result."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    return min(times), result


def multinomial(values: np.ndarray, cluster: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means through one multinomial draw of counts per bootstrap."""
    sums = np.column_stack([np.bincount(cluster, values), np.bincount(cluster)])
    totals = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws) @ sums
    return totals[:, 0] / totals[:, 1]


def main(clusters: int, draws: int) -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(clusters), PER_CLUSTER)
    values = (rng.random(len(cluster)) < rng.beta(4, 4, clusters)[cluster]).astype(float)
    with threadpool_limits(1):
        own, means = best_of(lambda: cluster_bootstrap(values, cluster, draws, rng))
        numpys, others = best_of(lambda: multinomial(values, cluster, draws, rng))
    print(f"{draws:,} bootstraps of {clusters:,} clusters, best of {REPEATS}, load average {os.getloadavg()[0]:.1f}")
    print(f"evalkit {own:.3f} s, multinomial {numpys:.3f} s, ratio {own / numpys:.3f}")
    print(f"standard errors {means.std():.5f} and {others.std():.5f}")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(given[0] if given else 1_740, given[1] if len(given) > 1 else 10_000)
