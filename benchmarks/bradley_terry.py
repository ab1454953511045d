"""How long Bradley-Terry takes on a million comparisons, from codes and from strings, beside evalica on the same input.

Codes are arrays here and lists there, the fastest input of each; strings are the same lists for both. Each starts from its
input and ends with strengths; both must agree.

Run: OMP_NUM_THREADS=1 python benchmarks/bradley_terry.py [COMPARISONS]
"""

import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import evalica
import numpy as np

from analysis.inference.bradley_terry import fit_strengths
from analysis.inference.paired_comparisons import Comparisons

ARMS, REPEATS = 20, 5
T = TypeVar("T")


def best_of(run: Callable[[], T]) -> tuple[float, T]:
    """Return the shortest of five times in seconds, and the last result."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def main(rows: int) -> None:
    rng = np.random.default_rng(0)
    strengths = rng.normal(size=ARMS)
    left = rng.integers(0, ARMS, rows)
    right = (left + rng.integers(1, ARMS, rows)) % ARMS
    choice = (rng.random(rows) < 1 / (1 + np.exp(strengths[right] - strengths[left]))).astype(float)
    names = np.array([f"merge-method-{arm:02d}" for arm in range(ARMS)])
    left_names, right_names = names[left].tolist(), names[right].tolist()
    left_codes, right_codes = left.tolist(), right.tolist()
    winners = [evalica.Winner.X if won else evalica.Winner.Y for won in choice]

    def theirs(xs: list, ys: list) -> Callable[[], evalica.BradleyTerryResult]:
        return lambda: evalica.bradley_terry(xs, ys, winners, tolerance=1e-12, limit=10_000)

    codes_own, fit = best_of(lambda: fit_strengths(Comparisons(tuple(names), left, right, choice).counts()))
    codes_evalica, _ = best_of(theirs(left_codes, right_codes))
    strings_own, _ = best_of(lambda: fit_strengths(Comparisons.of(left_names, right_names, choice).counts()))
    strings_evalica, scores = best_of(theirs(left_names, right_names))
    logs = np.log(scores.scores[list(names)].to_numpy())
    print(f"{rows} comparisons of {ARMS} arms, best of {REPEATS}, load average {os.getloadavg()[0]:.1f}")
    print("input    evalkit ms  evalica ms  ratio")
    for name, own, other in (("codes", codes_own, codes_evalica), ("strings", strings_own, strings_evalica)):
        print(f"{name:8} {1e3 * own:10.1f} {1e3 * other:11.1f} {own / other:6.3f}")
    print(f"largest difference of log strengths: {np.max(np.abs(logs - logs.mean() - fit.estimates)):.1e}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
