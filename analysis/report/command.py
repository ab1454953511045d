"""The command `evalkit analyze`: report, tables and figures from the database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.margin_scale import MarginScale
from evalkit.cli.console import Json

if TYPE_CHECKING:
    from analysis.findings import Findings
    from analysis.planning.preregistration import FrozenPlan
    from analysis.report.report_files import WrittenReport
    from db.session import Database


def analyze(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    db: Annotated[str | None, typer.Option(metavar="URL", help="The database. Default: RUN/study.db.")] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Equivalence margin as a share: 0.05 is five percentage points around 50 %. Default: 0.05."),
    ] = None,
    margin_scale: Annotated[
        MarginScale | None, typer.Option(help="What the margin is a share of: single votes (default), or majority outcomes.")
    ] = None,
    simulated: Annotated[
        bool | None,
        typer.Option(
            "--simulated/--no-simulated",
            help="If the database has judgments of both people and simulated participants: use both, marked, or people only.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to write. Default: RUN/report.")] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A plan frozen by `evalkit plan`; its margin and exclusions apply.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a report that was made from the judgments of another database.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Test all differences between arms and write report.html, tables and figures.

    Loads the run into the database first; what is there already is not changed.
    """
    import dataclasses

    from analysis.database_rows import read_run
    from analysis.findings import analyze_run
    from analysis.planning.preregistration import apply_plan, read_plan, with_plan
    from analysis.report.report_files import write_report
    from analysis.report.report_source import check_replaceable, record_source
    from analysis.titles import read_titles, titled
    from analysis.votes.preference import margin_of
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.cli.console import print_json, stderr
    from evalkit.io.atomic_files import check_folder
    from evalkit.plural import plural
    from evalkit.run.manifest import Manifest

    # a folder that is not a run is refused before a database is created in it
    Manifest.load(run)
    check_folder("--out", out)
    requested = margin_of(margin, None if margin_scale is None else margin_scale.value)
    frozen = None if plan is None else read_plan(plan)
    folder = out if out is not None else run / "report"
    steps = stderr()
    database = open_database(db if db is not None else default_url(run))
    try:
        steps.print(f"1/3 loading {run} into {database.name}", markup=False)
        with_simulated = simulated if frozen is None or simulated is not None else frozen.takes_simulated
        data = read_run(database, load_run(database, run).run_id, with_simulated)
        judgments = len(data.judgments) + len(data.several)
        if not replace:
            check_replaceable(folder, database, judgments)
        counts = f"{plural(judgments, 'judgment')} and {plural(len(data.scores), 'score')}"
        steps.print(f"2/3 analyzing {counts}", markup=False)
        settings: tuple[float | None, str] = requested
        if frozen is not None:
            data, settings = apply_plan(frozen, data, None if margin is None and margin_scale is None else requested)
        titles = read_titles(run, data)
        findings = with_plan(dataclasses.replace(analyze_run(titled(data, titles), *settings), titles=titles), frozen)
        steps.print(f"3/3 writing {folder}", markup=False)
        written = write_report(findings, run, folder, frozen)
        record_source(folder, database, judgments)
    finally:
        database.close()
    if as_json:
        print_json(_document(findings, written, database, plan, frozen))
    else:
        _print(findings, written, plan, frozen)
    for line in _next_steps(run, findings, database):
        steps.print(line, markup=False)


def _print(findings: "Findings", written: "WrittenReport", plan: Path | None, frozen: "FrozenPlan | None") -> None:
    from evalkit.cli.console import stdout
    from evalkit.plural import plural

    console, data = stdout(), findings.data
    if findings.simulated:
        share = f"{data.simulated:,} of {plural(data.simulated + data.real, 'vote')}"
        console.print(f"{share} are simulated; the report is marked.", style="yellow")
    for headline in written.headlines:
        console.print(f"  {headline}", markup=False)
    if frozen is not None:
        planned = sum(result.planned for result in written.planned)
        counts = f"{planned} of {plural(len(written.planned), 'result')} were planned"
        console.print(
            f"{counts} ({plan}, sha256 {frozen.sha256()[:12]}…), the others are exploratory; the report marks them",
            markup=False,
        )
    parts = f"{plural(written.tables, 'table')} and {plural(written.figures, 'figure')} in the same folder"
    console.print(f"report: {written.report} ({parts})", markup=False)


def _document(
    findings: "Findings", written: "WrittenReport", database: "Database", plan: Path | None, frozen: "FrozenPlan | None"
) -> dict[str, object]:
    """Return the JSON document: where the report is, what it rests on, its headlines, every contrast, every verdict."""
    from analysis.scope_verdicts import scope_verdicts

    data = findings.data
    return {
        "report": written.report,
        "tables": written.tables,
        "figures": written.figures,
        "database": database.name,
        "judgments": len(data.judgments) + len(data.several),
        "simulated_judgments": data.simulated,
        "scores": len(data.scores),
        "margin": findings.margin,
        "margin_scale": findings.margin_scale,
        "headlines": written.headlines,
        "contrasts": findings.titles.with_ids(findings.records()),
        "verdicts": findings.titles.with_ids(scope_verdicts(findings)),
        "plan": None if frozen is None else {"file": plan, "sha256": frozen.sha256()},
        "planned": findings.titles.with_ids(record for each in written.planned for record in each.records()),
    }


def _next_steps(run: Path, findings: "Findings", database: "Database") -> list[str]:
    """Return one line for each part that the report lacks, with the command that adds it."""
    from db.run_databases import other_database_hint
    from evalkit.cli.console import command_line

    lines = []
    if findings.data.scores.empty:
        lines.append(f"note: the run has no scores, so the report has no metrics; next: {command_line('score', run)}")
    if findings.data.judgments.empty and findings.data.several.empty:
        hint = other_database_hint(run, database.file)
        serve = f"next: {command_line('study', 'serve', run)}"
        lines.append(f"note: {database.name} has no judgments, so the report has no votes; {hint or serve}")
    return lines
