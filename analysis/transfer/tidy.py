"""Tidy tables of a run: one row per vote and one row per score."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.transfer.codebook import SCORE_COLUMNS, codebook
from analysis.transfer.tidy_vote import TidyVote, tidy_rows
from evalkit.io.atomic_files import write_atomic


def votes_csv(votes: Sequence[TidyVote], concepts: Mapping[str, Sequence[str]]) -> str:
    """Return the content of votes.csv."""
    columns, rows = tidy_rows(votes, concepts)
    return csv_text(columns, rows)


def scores_csv(scores: pd.DataFrame) -> str:
    """Return the content of scores.csv; numbers have all their digits."""
    rows = scores[list(SCORE_COLUMNS)].astype(object).to_numpy().tolist()
    return csv_text(list(SCORE_COLUMNS), [[repr(float(v)) if isinstance(v, float) else str(v) for v in row] for row in rows])


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a CSV table with a header line."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()


def write_tidy(
    votes: Sequence[TidyVote], concepts: Mapping[str, Sequence[str]], scores: pd.DataFrame, folder: Path
) -> dict[str, int]:
    """Write votes.csv, scores.csv and codebook.md into a folder; return the number of votes and of scores by file."""
    write_atomic(folder / "votes.csv", votes_csv(votes, concepts))
    write_atomic(folder / "scores.csv", scores_csv(scores))
    write_atomic(folder / "codebook.md", codebook())
    return {"votes.csv": len(votes), "scores.csv": len(scores)}
