"""Tidy tables of a run: one row per vote and one row per score."""

from pathlib import Path

import pandas as pd

from analysis.database_rows import RunData
from analysis.transfer.codebook import SCORE_COLUMNS, VOTE_COLUMNS, codebook
from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from evalkit.plural import plural

EXTERNAL = "external"


def tidy_votes(data: RunData) -> pd.DataFrame:
    """Return the votes on pairs of images within the target, in the order in which they were given.

    Raises UserError for votes of people and of simulated participants together, which one flag cannot describe.
    """
    if data.real and data.simulated:
        raise UserError(
            f"{data.name}: {plural(data.real, 'vote')} of people and {data.simulated:,} simulated cannot share one file; "
            "export those of people by --no-simulated"
        )
    votes = data.judgments
    frame = votes[["case", "seed", "response_ms" if "response_ms" in votes else "reaction_ms"]].copy()
    frame.columns = pd.Index(["case", "seed", "response_ms"])
    numbers = {who: f"P{number}" for number, who in enumerate(dict.fromkeys(votes["participant"].tolist()), start=1)}
    frame["participant"] = votes["participant"].map(numbers)
    concepts = {case: "+".join(names) for case, names in data.concepts_of.items()}
    frame["concepts"] = votes["case"].map(concepts)
    frame["arm_left"] = votes["left"]
    frame["arm_right"] = votes["second"].where(votes["left"] == votes["first"], votes["first"])
    winner = votes["first"].where(votes["choice"] == 1, votes["second"])
    frame["chosen_arm"] = winner.where(votes["choice"] != 0.5, "tie")
    frame["order"] = votes.groupby("participant").cumcount() + 1
    flags = [EXTERNAL] if data.design.get("source") == EXTERNAL else []
    frame["flags"] = "+".join([*flags, *(["simulated"] if data.simulated else [])])
    frame["response_ms"] = pd.to_numeric(frame["response_ms"]).astype("Int64")
    return frame[list(VOTE_COLUMNS)]


def write_tidy(data: RunData, folder: Path) -> dict[str, int]:
    """Write votes.csv, scores.csv and codebook.md into a folder; return the number of rows of each table."""
    tables = {"votes.csv": tidy_votes(data), "scores.csv": data.scores[list(SCORE_COLUMNS)]}
    for name, frame in tables.items():
        write_atomic(folder / name, frame.to_csv(index=False, lineterminator="\n", float_format=repr))
    write_atomic(folder / "codebook.md", codebook())
    return {name: len(frame) for name, frame in tables.items()}
