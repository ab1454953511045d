"""Tidy files of an export: votes.csv rebuilt from the export's own tables, scores.csv, and the codebook."""

import json
from collections.abc import Mapping

from analysis.transfer.answer_rows import StoredAnswer, row_flags, tidy_votes
from analysis.transfer.codebook import codebook
from analysis.transfer.tidy import votes_csv
from analysis.transfer.tidy_vote import OVERALL
from study_app.plan.export_tables import read_csv

VOTES_NAME, SCORES_NAME, CODEBOOK_NAME = "votes.csv", "scores.csv", "codebook.md"
# sha256 of every codebook that an export may hold; a changed codebook is added here, so that earlier exports still verify
CODEBOOKS = frozenset({"4cc610df954e62632644d37b149b4b0d56cf31791772a97dddd277e37af186b5"})


def tidy_votes_file(files: Mapping[str, bytes], manifest: bytes) -> bytes:
    """Return the content of votes.csv, computed from the tables of an export and its manifest alone."""
    tables = {name: read_csv(files[f"{name}.csv"]) for name in
              ("comparisons", "further_images", "participants", "assignments", "judgments", "answers")}  # fmt: skip
    concepts = {case["id"]: tuple(case["concepts"]) for case in json.loads(manifest)["cases"]}
    arms: dict[str, tuple[str, ...]] = {row["id"]: (row["arm_a"], row["arm_b"]) for row in tables["comparisons"]}
    for row in tables["further_images"]:
        arms[row["comparison_id"]] = (*arms[row["comparison_id"]], row["arm"])
    comparisons = {row["id"]: row for row in tables["comparisons"]}
    people = {row["id"]: row for row in tables["participants"]}
    assignments = {row["id"]: row for row in tables["assignments"]}
    surplus = {row["assignment_id"]: row["surplus"] == "1" for row in tables["judgments"]}
    answers = []
    for row in (*tables["judgments"], *tables["answers"]):
        assignment = assignments[row["assignment_id"]]
        if row["assignment_id"] not in surplus:
            continue
        comparison, person = comparisons[assignment["comparison_id"]], people[assignment["participant_id"]]
        marks = {
            "simulated": person["simulated"] == "1", "excluded": bool(person["excluded_at"]),
            "surplus": surplus[row["assignment_id"]],
        }  # fmt: skip
        answers.append(
            StoredAnswer(
                int(row["assignment_id"]), int(person["id"]), comparison["case"], int(comparison["seed"]),
                arms[comparison["id"]], int(assignment["left"]), assignment["arrangement"], row.get("question", OVERALL),
                row["choice"], int(row["reaction_ms"]) if row["reaction_ms"] else None, row_flags(marks),
            )
        )  # fmt: skip
    return votes_csv(tidy_votes(answers), concepts).encode()


def codebook_file() -> bytes:
    """Return the content of codebook.md."""
    return codebook().encode()
