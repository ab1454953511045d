"""Shared part of all papers' scripts: read a run, print tables as Markdown, write all formats into a folder."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.database_rows import read_run
from analysis.findings import Findings, analyze_run
from analysis.papers.papers import PAPERS, Paper
from analysis.report.figure_style import ReportFigure
from analysis.report.table import ReportTable
from analysis.titles import read_titles, titled
from db.run_databases import other_database_hint
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from evalkit.run.manifest import Manifest

Parts = Callable[[Findings, Path], Iterable[ReportTable | ReportFigure | None]]


def read_findings(run: Path, margin: float | None = 0.05, margin_scale: str = "votes", db: str | None = None) -> Findings:
    """Return the analysis of a run folder.

    Parameters
    ----------
    run
        The run folder.
    margin
        Equivalence margin as a share; None for no test of equivalence.
    margin_scale
        What the margin is a share of: `votes` or `outcomes`.
    db
        URL of the database; by default `sqlite:///RUN/study.db`.
    """
    # a folder that is not a run is refused before a database is made in it
    Manifest.load(run)
    database = open_database(db if db is not None else default_url(run))
    try:
        data = read_run(database, load_run(database, run).run_id)
    finally:
        database.close()
    # the scripts choose metrics by their ids and print them as their papers do
    titles = replace(read_titles(run, data), metrics={})
    return replace(analyze_run(titled(data, titles), margin, margin_scale), titles=titles)


def write_paper(paper: Paper, parts: Parts, run: Path, folder: Path | None = None, db: str | None = None) -> None:
    """Print a paper's tables of a run as Markdown; with a folder, also write tables and figures in every format.

    A note on standard error names another database of the run that holds judgments if this one holds none.

    Raises:
        UserError: the folder is not a run, or its database cannot be read.
    """
    findings = read_findings(run, db=db)
    made = [part for part in parts(findings, run) if part is not None]
    for part in made:
        if isinstance(part, ReportTable):
            sys.stdout.write(part.to_markdown() + "\n")
    if folder is not None:
        for file, content in ((file, content) for part in made for file, content in part.files().items()):
            write_atomic(folder / file, content)
    if paper.has_votes and findings.data.judgments.empty and findings.data.several.empty:
        sys.stderr.write(f"note: no tables of votes: {_without_votes(run, db)}\n")


def _without_votes(run: Path, db: str | None) -> str:
    """Return where the votes of a run are, or how to get some."""
    database = open_database(db if db is not None else default_url(run))
    try:
        hint = other_database_hint(run, database.file)
        return f"{database.name} holds no judgments; {hint or f'next: evalkit study serve {run}'}"
    finally:
        database.close()


def main(name: str, parts: Parts, arguments: Sequence[str]) -> int:
    """Run a copy of a paper's script with the command line `RUN [FOLDER]`; return the exit code."""
    if len(arguments) not in (1, 2):
        sys.stderr.write(f"usage: {name} RUN [FOLDER]\n")
        return 2
    folder = Path(arguments[1]) if len(arguments) == 2 else None
    try:
        write_paper(PAPERS.get(name, Paper(name, "", True)), parts, Path(arguments[0]), folder)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
