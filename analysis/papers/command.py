"""`evalkit paper`: the tables of a published paper, made from a run."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.papers.papers import PAPERS

NAMES = "; ".join(f"{paper.name}: {paper.summary}" for paper in PAPERS.values())


def paper(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"The paper. {NAMES}.")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Also write tables and figures here, in every format.")
    ] = None,
    db: Annotated[str | None, typer.Option("--db", metavar="URL", help="The database. Default: RUN/study.db.")] = None,
) -> None:
    """Print the tables of a paper as Markdown, as published and with their uncertainty."""
    from importlib import import_module

    from analysis.papers.script import write_paper
    from evalkit.errors import unknown

    if name not in PAPERS:
        raise unknown("NAME: no paper", name, PAPERS)
    write_paper(PAPERS[name], import_module(PAPERS[name].module).parts, run, folder, db)
