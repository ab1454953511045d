"""The whole report of a study of 5,220 comparisons x 5 votes and 15,660 metric rows x 8: seconds on one core, and memory.

Run it as `OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/report.py`. It writes a SQLite database of 30 concepts, 435 pairs,
four seeds and three arms with drawn scores and votes of 60 people; then, timed, it reads that, analyses it and writes report,
tables and figures, and prints CPU seconds, seconds and peak memory.
"""

import hashlib
import resource
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.report.report_files import write_report
from db import models
from db.session import Database, open_database, write
from db.utc import utc_now

ARMS, CONCEPTS, SEEDS, PEOPLE, VOTES, METRICS = ("direct", "mc_dropout", "orthogonal_mc_dropout"), 30, 4, 60, 5, 8
Rows = list[dict[str, object]]


def fill(database: Database, rng: np.random.Generator) -> dict[str, int]:
    """Write a study whose concepts, pairs, comparisons and people all have effects; return how many rows each table got."""
    pairs = list(combinations(range(CONCEPTS), 2))
    concept, taste, now = rng.normal(0, 0.3, CONCEPTS), rng.normal(0, 0.5, PEOPLE), utc_now()
    cells = [(case, seed) for case in range(len(pairs)) for seed in range(SEEDS)]
    sha = hashlib.sha256(b"drawn").hexdigest()
    rows: dict[type[models.DatabaseTable], Rows] = {
        models.Run: [
            {
                "id": 1, "name": "benchmark", "experiment_sha256": sha, "manifest_sha256": sha, "source": "generated",
                "loaded_at": now,
            }
        ],
        models.StoredConcept: [
            {"id": each + 1, "run_id": 1, "name": f"c{each}", "words": "w", "class_word": "w"} for each in range(CONCEPTS)
        ],
        models.StoredArm: [
            {"id": place + 1, "run_id": 1, "label": arm, "method": arm, "parameters": {}, "position": place}
            for place, arm in enumerate(ARMS)
        ],
        models.StoredCase: [
            {"id": place + 1, "run_id": 1, "key": f"c{one}-c{other}", "prompt": f"a c{one} and a c{other}", "plain_prompt": "p"}
            for place, (one, other) in enumerate(pairs)
        ],
        models.CaseConcept: [
            {"case_id": place + 1, "position": side, "concept_id": held + 1}
            for place, pair in enumerate(pairs)
            for side, held in enumerate(pair)
        ],
        models.Metric: [
            {
                "id": each + 1, "run_id": 1, "name": f"m{each}", "signature": f"m{each}|1", "direction": "higher",
                "loaded_at": now,
            }
            for each in range(METRICS)
        ],
        models.StoredImage: [
            {
                "id": _image(cell, arm), "case_id": case + 1, "arm_id": arm + 1, "seed": seed,
                "path": f"{case}/{arm}/{seed}.png", "width": 1024, "height": 1024,
                "sha256": hashlib.sha256(f"{case} {arm} {seed}".encode()).hexdigest(),
            }
            for cell, (case, seed) in enumerate(cells)
            for arm in range(len(ARMS))
        ],
        models.StoredScore: [
            {
                "metric_id": metric + 1, "image_id": _image(cell, arm), "concept_id": part,
                "value": 0.5 + 0.01 * arm + 0.05 * rng.standard_normal() + 0.02 * concept[pairs[case][0]],
            }
            for cell, (case, _) in enumerate(cells)
            for arm in range(len(ARMS))
            for metric in range(METRICS)
            for part in (None, pairs[case][0] + 1, pairs[case][1] + 1)
        ],
        models.Study: [{"id": 1, "run_id": 1, "design": {}, "design_sha256": sha, "seed": 1, "created_at": now}],
        models.Participant: [
            {
                "id": each + 1, "study_id": 1, "token_sha256": f"{each:064x}", "seed": each, "simulated": True,
                "completion_code": f"s{each}", "arrived_at": now, "consented_at": now,
            }
            for each in range(PEOPLE)
        ],
        models.Comparison: [],
        models.Assignment: [],
        models.Judgment: [],
    }  # fmt: skip
    places = [0] * PEOPLE
    for cell, (case, seed) in enumerate(cells):
        for place, (first, second) in enumerate(combinations(range(len(ARMS)), 2)):
            number = len(rows[models.Comparison]) + 1
            rows[models.Comparison].append(
                {
                    "id": number, "study_id": 1, "case_id": case + 1, "seed": seed, "image_a_id": _image(cell, first),
                    "image_b_id": _image(cell, second), "priority": number, "target": VOTES, "filled": VOTES, "first_left": 0,
                }
            )  # fmt: skip
            logit = 0.2 * (place + 1) + concept[list(pairs[case])].sum() + rng.normal(0, 0.8)
            for person in rng.choice(PEOPLE, VOTES, replace=False).tolist():
                vote, left = len(rows[models.Judgment]) + 1, int(rng.integers(2))
                chosen = rng.random() < 1 / (1 + np.exp(-logit - taste[person]))
                rows[models.Assignment].append(
                    {
                        "id": vote, "comparison_id": number, "participant_id": person + 1, "position": places[person],
                        "left": left, "state": "done", "assigned_at": now, "expires_at": now,
                    }
                )  # fmt: skip
                rows[models.Judgment].append(
                    {
                        "assignment_id": vote, "choice": "left" if chosen == (left == 0) else "right", "surplus": False,
                        "reaction_ms": 1500, "judged_at": now,
                    }
                )  # fmt: skip
                places[person] += 1
    with write(database) as session:
        for table, held in rows.items():
            session.execute(insert(table), held)
    return {table.__name__: len(held) for table, held in rows.items()}


def _image(cell: int, arm: int) -> int:
    return cell * len(ARMS) + arm + 1


def main() -> None:
    """Write the report and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        database = open_database(f"sqlite:///{run / 'study.db'}")
        made = fill(database, np.random.default_rng(0))
        scores = f"{made['Score'] // METRICS:,} rows x {METRICS} metrics"
        print(f"{made['Comparison']:,} comparisons, {made['Judgment']:,} votes, {scores}")
        before, begun, used = _memory(), time.perf_counter(), time.process_time()
        data = read_run(database, 1)
        database.close()
        print(f"reading the database: {time.process_time() - used:.1f} s of one core")
        found = analyze_run(data)
        print(f"with the analysis: {time.process_time() - used:.1f} s of one core")
        write_report(found, run, run / "report")
        print(
            f"with the report: {time.process_time() - used:.1f} s of one core, {time.perf_counter() - begun:.1f} s; "
            f"{_memory():,.0f} MB at most ({before:,.0f} MB after filling the database)"
        )


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
