"""The whole report of a study of 5,220 comparisons x 5 votes and 15,660 metric rows x 8: seconds on one core, and memory.

Run it as `OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/report.py`. It makes a run of 30 concepts, 435 pairs, four seeds and
three arms with drawn scores and votes of 60 people, writes its report and prints CPU seconds, seconds and peak memory.
"""

import resource
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.data import JUDGMENT_COLUMNS, SCORE_COLUMNS, ArmInfo, CaseInfo, RunData
from analysis.findings import analyze_run
from analysis.report.writing import write_report

ARMS, CONCEPTS, SEEDS, PEOPLE, VOTES, METRICS = ("direct", "mc_dropout", "orthogonal_mc_dropout"), 30, 4, 60, 5, 8


def study(rng: np.random.Generator) -> RunData:
    """Return a study whose concepts, pairs, comparisons and people all have effects."""
    pairs = list(combinations(range(CONCEPTS), 2))
    cases = tuple(CaseInfo(f"c{one}-c{other}", f"a c{one} and a c{other}", (f"c{one}", f"c{other}")) for one, other in pairs)
    concept, taste = rng.normal(0, 0.3, CONCEPTS), rng.normal(0, 0.5, PEOPLE)
    votes, scores = [], []
    for number, (case, (one, other)) in enumerate(zip(cases, pairs, strict=True)):
        for seed in range(SEEDS):
            for place, (first, second) in enumerate(combinations(ARMS, 2)):
                base = 0.2 * (place + 1) + concept[one] + concept[other] + rng.normal(0, 0.8)
                for person in rng.choice(PEOPLE, VOTES, replace=False).tolist():
                    choice = float(rng.random() < 1 / (1 + np.exp(-base - taste[person])))
                    left = first if rng.random() < 0.5 else second
                    comparison = (number * SEEDS + seed) * 3 + place
                    votes.append((comparison, case.key, seed, first, second, person, left, choice, 1500))
            for metric in range(METRICS):
                for place, arm in enumerate(ARMS):
                    value = 0.5 + 0.01 * place + 0.05 * rng.standard_normal() + 0.02 * concept[one]
                    scores.append((f"m{metric}", f"m{metric}|1", "higher", case.key, seed, arm, "", "", value))
    # three rows per image and metric, as for two concepts and the image as a whole, are 15,660; images alone are 5,220
    rows = [(*row[:6], part, *row[7:]) for row in scores for part in ("", "a", "b")]
    return RunData(
        name="benchmark",
        experiment_sha256="0" * 64,
        source="generated",
        arms=tuple(ArmInfo(arm, arm, "") for arm in ARMS),
        cases=cases,
        references={f"c{number}": () for number in range(CONCEPTS)},
        images={(case.key, arm, seed): "gone.png" for case in cases for arm in ARMS for seed in range(SEEDS)},
        judgments=pd.DataFrame(votes, columns=list(JUDGMENT_COLUMNS)),
        scores=pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
        planned=len(pairs) * SEEDS * 3,
        target=len(pairs) * SEEDS * 3 * VOTES,
        simulated=len(votes),
        real=0,
        surplus=0,
        simulated_left_out=0,
        design={},
    )


def main() -> None:
    """Write the report and print what it took."""
    data = study(np.random.default_rng(0))
    print(
        f"{data.planned:,} comparisons, {len(data.judgments):,} votes, {len(data.scores) // METRICS:,} rows x {METRICS} metrics"
    )
    begun, used = time.perf_counter(), time.process_time()
    found = analyze_run(data)
    print(f"analysis: {time.process_time() - used:.1f} s of one core")
    with tempfile.TemporaryDirectory() as folder:
        write_report(found, Path(folder), Path(folder) / "report")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"report: {time.process_time() - used:.1f} s of one core, {time.perf_counter() - begun:.1f} s, {memory:,.0f} MB at most"
    )


if __name__ == "__main__":
    main()
