"""A published study with public raw ratings: its printed figures first, then the verdict with clustered errors.

ImagenHub (Ku et al. 2024, arXiv 2310.01596; MIT licence) publishes the ratings of three raters on 102 cases of multi-subject
generation. Fetch `eval/human_ratings/Multi-Subject_IG/*.tsv` from github.com/TIGER-AI-Lab/ImagenHub (commit 439f72c); nothing
of it is in this repository. Every rating is [SC, PQ]; the authors' notebook `AnalyzeHumanEval.ipynb` prints, by method, the
mean of sqrt(SC * PQ) over cases and raters.

Run: python -m benchmarks.published_study FILE.tsv FILE.tsv FILE.tsv
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.database_rows import RunData, read_run
from analysis.grouping import votes_of
from analysis.transfer.external_study import store_votes
from analysis.transfer.source_rows import SourceRow
from analysis.transfer.vote_files import digest, read_vote_rows
from analysis.transfer.vote_rows import votes_of_rows
from analysis.transfer.votes_run import votes_run
from analysis.votes.preference import preferences
from db.run_loader import load_run
from db.session import default_url, open_database

# HumanEvalAvg of AnalyzeHumanEval.ipynb, Multi-Subject_IG, apply_average=True
PUBLISHED = {"CustomDiffusion": 0.29, "DreamBooth": 0.13, "TextualInversion": 0.05}


def means(rows: Sequence[SourceRow]) -> dict[str, float]:
    """Return the mean of the overall ratings by method."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.text("question") == "overall":
            values[row.text("arm")].append(float(row.text("rating")))
    return {arm: sum(given) / len(given) for arm, given in values.items()}


def imported(files: Sequence[Path], rows: Sequence[SourceRow], run: Path) -> RunData:
    """Return the ratings as the votes of an external study without images."""
    manifest, votes = votes_run(votes_of_rows(str(files[0]), rows), "imagenhub", digest(files))
    manifest.save(run)
    database = open_database(default_url(run))
    try:
        run_id = load_run(database, run).run_id
        store_votes(database, run_id, votes, "Multi-Subject_IG", digest(files), "imagenhub")
        return read_run(database, run_id)
    finally:
        database.close()


def main(files: Sequence[Path]) -> None:
    """Print both tables."""
    rows = read_vote_rows(files, "imagenhub")
    out = sys.stdout.write
    out("| method | mean of sqrt(SC x PQ) | printed |\n|---|---:|---:|\n")
    for arm, mean in means(rows).items():
        out(f"| {arm} | {mean:.2f} | {PUBLISHED.get(arm, float('nan')):.2f} |\n")
    with TemporaryDirectory() as folder:
        data = imported(files, rows, Path(folder) / "run")
        out("\n| comparison | share first [95 % CI] | naive share of majorities, p | p (Holm) | verdict | holds for other |\n")
        out("|---|---:|---:|---:|---|---|\n")
        for each in preferences(votes_of(data)):
            contrast, naive = each.clustered, each.naive
            low, high = contrast.interval or (float("nan"), float("nan"))
            out(
                f"| {each.first} vs {each.second} | {contrast.estimate:.3f} [{low:.3f}, {high:.3f}] | "
                f"{naive.estimate:.3f} of {naive.n}, {naive.p:.2g} | {contrast.p_adjusted:.3g} | {contrast.verdict} | "
                f"{', '.join(contrast.scope)} |\n"
            )


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
