"""What every paper's script does around its tables: read the run, print Markdown, or write all formats into a folder."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from analysis.database_rows import read_run
from analysis.findings import Findings, analyze_run
from analysis.report.figure_style import ReportFigure
from analysis.report.table import ReportTable
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from evalkit.run.manifest import Manifest

Parts = Callable[[Findings, Path], Iterable[ReportTable | ReportFigure | None]]


def read_findings(run: Path, margin: float | None = 0.05, margin_scale: str = "votes") -> Findings:
    """Return everything the database says of a run folder."""
    # a folder that is no run is refused before a database is made in it
    Manifest.load(run)
    database = open_database(default_url(run))
    try:
        data = read_run(database, load_run(database, run).run_id)
    finally:
        database.close()
    return analyze_run(data, margin, margin_scale)


def main(name: str, parts: Parts, arguments: Sequence[str]) -> int:
    """Do as the command line `RUN [FOLDER]` says and return the exit code.

    The tables are printed as Markdown; with a folder, tables and figures are also written into it in every format.
    """
    if len(arguments) not in (1, 2):
        sys.stderr.write(f"usage: python -m analysis.papers.{name} RUN [FOLDER]\n")
        return 2
    try:
        run = Path(arguments[0])
        made = [part for part in parts(read_findings(run), run) if part is not None]
        for part in made:
            if isinstance(part, ReportTable):
                sys.stdout.write(part.to_markdown() + "\n")
        if len(arguments) == 2:
            for file, content in ((file, content) for part in made for file, content in part.files().items()):
                write_atomic(Path(arguments[1]) / file, content)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
