"""How long the full mixed model takes (cases, pairs, concepts, participants, sides) against the number of votes.

Run: OMP_NUM_THREADS=1 python benchmarks/glmm.py [LARGEST NUMBER OF VOTES]

The first row has the size of a paper's study: 30 concepts, their 435 pairs, 4 cases each, 5 votes a case, 60 participants. The
others have more cases of each pair. lme4 1.1-31 took 3.3 s for the first, without sides,
when its numbers were made; it is not timed here.
"""

import os
import resource
import sys
import time
from itertools import combinations

import numpy as np

from analysis.inference.glmm import RandomTerm, fit_mixed

VOTES_PER_CASE, CONCEPTS, PARTICIPANTS = 5, 30, 60
DEVIATIONS = {"case": 0.5, "pair": 0.3, "concept": 0.4, "participant": 0.5}


def study(cases_per_pair: int, rng: np.random.Generator) -> tuple[np.ndarray, list[RandomTerm], dict[str, np.ndarray]]:
    """Return the votes of a simulated study."""
    pairs = np.array(list(combinations(range(CONCEPTS), 2)))
    case = np.repeat(np.arange(len(pairs) * cases_per_pair), VOTES_PER_CASE)
    pair = case // cases_per_pair
    codes = {"case": case, "pair": pair, "concept": pairs[pair], "participant": rng.integers(0, PARTICIPANTS, len(case))}
    side = rng.choice([-0.5, 0.5], len(case))
    logit = 0.1 + 0.2 * side
    for name, levels in codes.items():
        effects = DEVIATIONS[name] * rng.normal(size=levels.max() + 1)
        logit += effects[levels].reshape(len(case), -1).sum(1)
    votes = (rng.random(len(case)) < 1 / (1 + np.exp(-logit))).astype(float)
    return votes, [RandomTerm(name, levels) for name, levels in codes.items()], {"side": side}


def main(largest: int) -> None:
    print(f"true standard deviations: {DEVIATIONS}")
    print("    votes   cases  seconds  peak MB  load  estimated standard deviations")
    for cases_per_pair in (4, 16, 64, 256):
        votes, terms, covariates = study(cases_per_pair, np.random.default_rng(0))
        if len(votes) > largest:
            break
        start = time.perf_counter()
        fit = fit_mixed(votes, terms, covariates)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = ", ".join(f"{component.name} {component.deviation:.3f}" for component in fit.components)
        print(f"{len(votes):9} {len(votes) // VOTES_PER_CASE:7} {seconds:8.2f} {peak:8.0f} {os.getloadavg()[0]:5.1f}  {found}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 140_000)
