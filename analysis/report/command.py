"""`evalkit analyze`: from the database to report, tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.margin_scale import MarginScale


def analyze(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run folder")],
    db: Annotated[str | None, typer.Option(metavar="URL", help="database (default: sqlite:///RUN/study.db)")] = None,
    margin: Annotated[
        float | None, typer.Option(help="differences from 50 % up to this share count as none (default: 0.05, five points)")
    ] = None,
    margin_scale: Annotated[
        MarginScale | None, typer.Option(help="what the margin is a share of: single votes (default), or majority outcomes")
    ] = None,
    simulated: Annotated[
        bool | None,
        typer.Option(
            "--simulated/--no-simulated",
            help="where people and simulated participants judged: take both, marked, or people alone",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="where to write (default: RUN/report)")] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a plan frozen by `evalkit plan`: its margin and exclusions hold")
    ] = None,
) -> None:
    """Turn scores and judgments into verdicts: report.html, tables and figures.

    Loads the run into the database first; only what is new changes anything there.
    """
    from rich.console import Console

    from analysis.database_rows import read_run
    from analysis.findings import analyze_run
    from analysis.planning.preregistration import apply_plan, read_plan
    from analysis.report.report_files import write_report
    from analysis.votes.preference import margin_of
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.run.manifest import Manifest

    # a folder that is no run is refused before a database is made in it
    Manifest.load(run)
    asked = margin_of(margin, None if margin_scale is None else margin_scale.value)
    frozen = None if plan is None else read_plan(plan)
    console = Console(highlight=False)
    database = open_database(db if db is not None else default_url(run))
    try:
        with console.status("loading the run"):
            kept = simulated if frozen is None or simulated is not None else frozen.takes_simulated
            data = read_run(database, load_run(database, run).run_id, kept)
        with console.status("analyzing"):
            held: tuple[float | None, str] = asked
            if frozen is not None:
                data, held = apply_plan(frozen, data, None if margin is None and margin_scale is None else asked)
            findings = analyze_run(data, *held)
            written = write_report(findings, run, out if out is not None else run / "report", frozen)
    finally:
        database.close()
    if findings.simulated:
        console.print(
            f"{data.simulated:,} of {data.simulated + data.real:,} votes are simulated; the report says so.", style="yellow"
        )
    for headline in written.headlines:
        console.print(f"  {headline}", markup=False, soft_wrap=True)
    if frozen is not None:
        planned = sum(each.planned for each in written.planned)
        said = f"{planned} of {len(written.planned)} results were planned ({plan}, sha256 {frozen.sha256()[:12]}…)"
        console.print(f"{said}, the others are exploratory; the report says which", markup=False, soft_wrap=True)
    beside = f"{written.tables} tables and {written.figures} figures beside it"
    console.print(f"report: {written.report} ({beside})", markup=False, soft_wrap=True)
