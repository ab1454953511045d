"""`evalkit explore`: look at a run's numbers and at the images behind them, in a browser on this machine."""

from pathlib import Path
from typing import Annotated

import typer


def explore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run folder")],
    db: Annotated[str | None, typer.Option(metavar="URL", help="database (default: sqlite:///RUN/study.db)")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="the port to listen on, on this machine alone")] = 8502,
    simulated: Annotated[
        bool | None,
        typer.Option(
            "--simulated/--no-simulated",
            help="where people and simulated participants judged: take both, marked, or people alone",
        ),
    ] = None,
) -> None:
    """Filter and sort comparisons, by how people disagree or by metrics, and look at the images behind any number.

    The page shows which arm drew what: it is for you, not for participants.
    """
    from rich.console import Console

    from analysis.database_rows import read_run
    from analysis.findings import analyze_run
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.run.manifest import Manifest
    from study_app.explore.page import Explored
    from study_app.explore.server import serve

    Manifest.load(run)
    console = Console(soft_wrap=True)
    database = open_database(db if db is not None else default_url(run))
    try:
        with console.status("loading and analyzing"):
            found = analyze_run(read_run(database, load_run(database, run).run_id, simulated))
    finally:
        database.close()
    console.print(f"Open [bold]http://localhost:{port}/[/bold]   (stop with Ctrl+C)")
    serve(Explored(found, run), port)
