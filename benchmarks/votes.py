"""What an analysis costs against the number of votes: CPU seconds and peak memory, up to a million votes.

Run: OMP_NUM_THREADS=1 python benchmarks/votes.py [LARGEST NUMBER OF VOTES [LARGEST FOR THE MIXED MODEL]]

30 concepts, their 435 pairs, 60 participants, 5 votes per comparison, ever more seeds; two arms, one metric. Every column is
one function: the share of votes with its default error; Bradley and Terry's strengths with theirs; agreement with its
bootstrap; a metric against the votes; the mixed model.
"""

import os
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.inference.bradley_terry import contrasts, fit_strengths
from analysis.inference.paired_comparisons import Comparisons
from analysis.metrics.human_agreement import Judged, foresight
from analysis.planning.precision import Spread, StudyDesign, draw_study
from analysis.votes.agreement import agreement_of
from analysis.votes.preference import Votes, preference
from analysis.votes.vote_models import vote_model

PER_SEED = 435 * 5


def strengths(votes: Votes) -> object:
    """Return the strengths of both arms with the default error."""
    zeros = np.zeros(len(votes.choice), np.int64)
    rows = Comparisons((votes.first, votes.second), zeros, zeros + 1, votes.choice)
    return contrasts(fit_strengths(rows.counts()), rows, votes.comparison, votes.sets, votes.participant)


def against_people(votes: Votes) -> object:
    """Return how well a metric of noise foresees the votes."""
    lead = np.random.default_rng(1).normal(size=int(votes.comparison.max()) + 1)[votes.comparison]
    return foresight(Judged("noise", "noise|1", votes, lead, np.zeros(len(lead), np.int64)))


def main(largest: int, largest_model: int) -> None:
    """Print the table."""
    columns: dict[str, Callable[[Votes], object]] = {
        "preference": lambda votes: preference(votes, 0.05),
        "strengths": strengths,
        "agreement": agreement_of,
        "one metric": against_people,
        "mixed model": vote_model,
    }
    print(f"CPU seconds, one BLAS thread, load average {os.getloadavg()[0]:.1f}")
    print(f"| votes | {' | '.join(columns)} | peak MB |")
    print(f"|---:|{'---:|' * (len(columns) + 1)}")
    for wanted in (2_175, 8_700, 100_000, 300_000, 1_000_000):
        if wanted > largest:
            break
        design = StudyDesign(seeds=max(1, round(wanted / PER_SEED)))
        votes = draw_study(design, Spread(), 0.05, np.random.default_rng(0))
        cells = []
        with threadpool_limits(1):
            for name, run in columns.items():
                if name == "mixed model" and len(votes.choice) > largest_model:
                    cells.append("–")
                    continue
                start = time.process_time()
                run(votes)
                cells.append(f"{time.process_time() - start:.2f}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {len(votes.choice):,} | {' | '.join(cells)} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(given[0] if given else 1_000_000, given[1] if len(given) > 1 else 300_000)
