"""The command `evalkit explore`: browse a run's numbers and the images behind them."""

from pathlib import Path
from typing import Annotated

import typer


def explore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    db: Annotated[str | None, typer.Option(metavar="URL", help="The database. Default: RUN/study.db.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on; only this machine can connect.")] = 8502,
    simulated: Annotated[
        bool | None,
        typer.Option(
            "--simulated/--no-simulated",
            help="If the database has judgments of both people and simulated participants: use both, marked, or people only.",
        ),
    ] = None,
) -> None:
    """Filter and sort comparisons by disagreement or metrics in a browser, and see the images behind any number.

    The page shows which arm made which image, so participants must not see it.
    """
    from dataclasses import replace

    from analysis.database_rows import read_run
    from analysis.findings import analyze_run
    from analysis.titles import read_titles, titled
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.cli.console import stdout
    from evalkit.run.manifest import Manifest
    from study_app.explore.page import Explored
    from study_app.explore.server import serve

    Manifest.load(run)
    console = stdout()
    database = open_database(db if db is not None else default_url(run))
    try:
        with console.status("loading and analyzing"):
            data = read_run(database, load_run(database, run).run_id, simulated)
            titles = read_titles(run, data)
            findings = replace(analyze_run(titled(data, titles)), titles=titles)
    finally:
        database.close()
    console.print(f"Open [bold]http://localhost:{port}/[/bold]   (stop with Ctrl+C)")
    serve(Explored(findings, run), port)
