"""`evalkit study ...`: begin, serve, watch, simulate, export, back up and check the study of a run."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study_app.conduct import command as conduct_command
from study_app.run_database import Db, Run, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.session import Database
    from study_app.plan.design import Design
    from study_app.plan.initialize import Begun

app = typer.Typer(
    help="Let people judge a run's images blind, in a browser.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
conduct_command.add_to(app)


@app.command()
def init(
    run: Run,
    db: Db = None,
    per_comparison: Annotated[int | None, typer.Option(min=1, max=1000, help="How many people judge each comparison.")] = None,
    cannot_tell: Annotated[bool | None, typer.Option("--cannot-tell", help="Offer a third answer: cannot tell.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of orders and sides.")] = None,
    language: Annotated[str | None, typer.Option(help="Language of the pages.")] = None,
) -> None:
    """Begin the study: load the run, freeze the design (RUN/study.toml, or these options), make the blinded images."""
    from rich.console import Console

    from evalkit.errors import UserError
    from study_app.plan.design import FILE_NAME, Design, read_design

    options = {"per_comparison": per_comparison, "cannot_tell": cannot_tell, "seed": seed, "language": language}
    given = {name: value for name, value in options.items() if value is not None}
    design = read_design(run)
    if design is not None and given:
        raise UserError(f"{run / FILE_NAME}: fixes the design; write {', '.join(given)} there instead of giving options")
    with opened(run, db) as database:
        begun = _begin(database, run, design or Design.model_validate(given))
    console = Console(soft_wrap=True)
    state = "begun" if begun.new else "had been begun with this design; nothing was changed"
    console.print(f"{run}: study {state}: {begun.comparisons} comparisons, {begun.design.per_comparison} people each")
    console.print(f"design {begun.design.sha256()}")


@app.command()
def serve(
    run: Run,
    db: Db = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8501,
    host: Annotated[str, typer.Option(help="The address to listen on; 127.0.0.1 is this machine alone.")] = "127.0.0.1",
    backup_minutes: Annotated[int, typer.Option(min=0, help="Copy the database this often while serving; 0 for never.")] = 60,
) -> None:
    """Serve the study in a browser until stopped; people can leave and come back."""
    from rich.console import Console

    from study_app.conduct.backups import backups
    from study_app.service.study import StudyService
    from study_app.simulation.people import has_simulated
    from study_app.web.server import serve_study

    console = Console(soft_wrap=True)
    with _ended_by_sigterm(), opened(run, db) as database:
        study_id = _ensure_begun(database, run)
        if has_simulated(database, study_id):
            console.print("[yellow]Simulated judgments are in this database; for people, give a fresh one with --db.[/yellow]")
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
        console.print(f"Participants go to [bold]http://{shown}:{port}/[/bold]   (stop with Ctrl+C; nothing is lost)")
        with backups(database, run, backup_minutes):
            serve_study(StudyService(database, run), host, port)


@app.command()
def simulate(
    run: Run,
    db: Db = None,
    participants: Annotated[int, typer.Option(min=1, help="How many simulated participants judge.")] = 5,
    effect: Annotated[
        list[str] | None, typer.Option("--effect", help="An arm's appeal in logits, as ARM=NUMBER; give it once per arm.")
    ] = None,
    side_bias: Annotated[float, typer.Option(help="Logits added to whatever is on the left.")] = 0.0,
    lapse: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of answers that are a coin's.")] = 0.02,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same judgments.")] = 0,
    browser: Annotated[bool, typer.Option("--browser", help="Let them press the pages' buttons in a Chromium.")] = False,
) -> None:
    """Let simulated participants judge what is left; their judgments are marked as simulated everywhere."""
    from rich.console import Console

    from study_app.conduct.progress import study_status
    from study_app.simulation.browser import simulate_in_browser
    from study_app.simulation.people import Behaviour
    from study_app.simulation.people import simulate as run_simulation

    behaviour = Behaviour(effects=_effects(effect or []), side_bias=side_bias, lapse=lapse)
    with opened(run, db) as database:
        study_id = _ensure_begun(database, run)
        before = study_status(database, study_id)
        with _bar("simulated judgments", before.places - before.judged) as tell:
            if browser:
                done = simulate_in_browser(database, run, participants, behaviour, seed, tell)
            else:
                done = run_simulation(database, study_id, participants, behaviour, seed, tell)
        after = study_status(database, study_id)
    console = Console(soft_wrap=True)
    console.print(f"{done.participants} simulated participants gave {done.judgments} judgments, all marked as simulated")
    if after.judged < after.places:
        console.print(f"{after.places - after.judged} of {after.places} places are left; more --participants would fill them")


@app.command()
def export(
    run: Run,
    db: Db = None,
    to: Annotated[Path | None, typer.Option(help="The zip file. Default: RUN/study/export.zip.")] = None,
) -> None:
    """Write one zip of judgments, assignments, participants, design, manifest and hashes."""
    from rich.console import Console

    from study_app.conduct.export import export_study
    from study_app.plan.blinding import FOLDER

    target = to or run / FOLDER / "export.zip"
    with opened(run, db) as database:
        rows = export_study(database, run, target)
    Console(soft_wrap=True).print(f"{target}: {rows} judgments")


@app.command()
def backup(
    run: Run,
    db: Db = None,
    to: Annotated[Path | None, typer.Option(help="The copy. Default: RUN/study/backups/TIME.db.")] = None,
) -> None:
    """Copy the database while it is in use, and prove the copy by opening it."""
    from rich.console import Console

    from db.backup import copy_sqlite
    from db.utc import utc_now
    from evalkit.errors import UserError
    from study_app.plan.blinding import FOLDER

    with opened(run, db) as database:
        file = database.file
    if file is None:
        raise UserError(f"{database.name}: is a server's; copy it with PostgreSQL's own pg_dump")
    target = to or run / FOLDER / "backups" / f"{utc_now():%Y%m%dT%H%M%SZ}.db"
    if target.exists():
        raise UserError(f"{target}: exists already; give another name")
    copy_sqlite(file, target)
    Console(soft_wrap=True).print(f"{target}: whole, opened and checked")


@app.command()
def doctor(
    run: Run,
    db: Db = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port the study is served on.")] = 8501,
) -> None:
    """Check database, secret and images, and say what to do; exit 1 where something is wrong."""
    from rich.console import Console

    from study_app.conduct.doctor import examine

    console = Console(soft_wrap=True)
    with opened(run, db) as database:
        findings = examine(database, run, port)
    marks = {"good": "[green]good[/green]", "warning": "[yellow]warning[/yellow]", "wrong": "[red]wrong[/red]"}
    for finding in findings:
        console.print(f"{marks[finding.state]}  {finding.what}")
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an exit does: the last copy is made, and a container's first process heeds it at all."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ensure_begun(database: "Database", run: Path) -> int:
    """Return the study's id; begin it with the defaults, saying so, where `init` was not run."""
    from rich.console import Console

    from study_app.plan.design import Design, read_design
    from study_app.plan.initialize import find_study

    study, design = find_study(database, run), read_design(run)
    if design is not None:
        # begins it, or finds it begun, or refuses a file that was changed since people came
        return _begin(database, run, design).study_id
    if study is None:
        design = Design()
        Console(soft_wrap=True).print(
            f"`evalkit study init` was not run; beginning with the defaults: {design.per_comparison} people per comparison, "
            f"no 'cannot tell', seed {design.seed}"
        )
    else:
        design = Design.of(study)
    return _begin(database, run, design).study_id


def _begin(database: "Database", run: Path, design: "Design") -> "Begun":
    from evalkit.run.manifest import Manifest
    from study_app.plan.blinding import pictures
    from study_app.plan.initialize import begin_study
    from study_app.plan.texts import load_sentences

    load_sentences(design.language)
    with _bar("blinded images", len(list(pictures(Manifest.load(run))))) as tell:
        return begin_study(database, run, design, tell)


@contextmanager
def _bar(what: str, total: int) -> "Iterator[Callable[[], None]]":
    """Show a progress bar and give the function that moves it by one."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _effects(given: list[str]) -> dict[str, float]:
    from evalkit.errors import UserError

    effects: dict[str, float] = {}
    for item in given:
        arm, _, number = item.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise UserError(f"--effect {item!r}: give ARM=NUMBER, such as direct=0.8") from None
        if arm in effects:
            raise UserError(f"--effect {arm!r}: is given twice")
        effects[arm] = value
    return effects
