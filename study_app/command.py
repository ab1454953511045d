"""The commands `evalkit study ...`: begin, serve and simulate the study of a run; the others are in `study_app.conduct`."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study_app.conduct import command as conduct
from study_app.conduct import people_command as people
from study_app.run_database import Db, Run, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.session import Database
    from study_app.plan.design import Design
    from study_app.plan.initialize import Begun

app = typer.Typer(
    help="Run a blind A/B study of a run's images in a browser (pairwise comparison).",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def init(
    run: Run,
    db: Db = None,
    per_comparison: Annotated[int | None, typer.Option(min=1, max=1000, help="Participants per comparison.")] = None,
    cannot_tell: Annotated[bool | None, typer.Option("--cannot-tell", help="Offer a third answer: cannot tell.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the order and sides of images.")] = None,
    language: Annotated[str | None, typer.Option(help="Language of the pages.")] = None,
    example: Annotated[
        str | None,
        typer.Option(
            help="Print an example study.toml and begin nothing: omcd_ab, blocklora_best_of_four, ranking_with_ratings."
        ),
    ] = None,
) -> None:
    """Begin the study: load the run, freeze the design (RUN/study.toml, or these options), blind the images."""
    from evalkit.cli.console import command_line, stdout
    from evalkit.errors import UserError
    from evalkit.plural import plural
    from study_app.plan.design import FILE_NAME, Design, read_design

    if example is not None:
        from study_app.plan.example_designs import read_example

        typer.echo(read_example(example), nl=False)
        return
    options = {"per_comparison": per_comparison, "cannot_tell": cannot_tell, "seed": seed, "language": language}
    given = {name: value for name, value in options.items() if value is not None}
    design = read_design(run)
    if design is not None and given:
        raise UserError(
            f"{run / FILE_NAME}: this file fixes the design; set {', '.join(given)} in it instead of giving options"
        )
    with opened(run, db) as database:
        begun = _begin(database, run, design or Design.model_validate(given))
    state = "begun" if begun.new else "already begun with this design; nothing was changed"
    people = plural(begun.design.per_comparison, "participant")
    console = stdout()
    for line in (
        f"{run}: study {state}: {plural(begun.comparisons, 'comparison')}, {people} each",
        _sample_size(begun),
        *_without_references(run),
        f"design {begun.design_sha256}",
        f"next: {command_line('study', 'serve', run, *(['--db', db] if db else []))}",
    ):
        console.print(line, markup=False)


def _without_references(run: Path) -> list[str]:
    """Return a warning about concepts that no photo shows to participants."""
    from evalkit.run.manifest import Manifest

    names = [concept.name for concept in Manifest.load(run).concepts if not concept.references]
    if not names:
        return []
    return [f"warning: without references, participants see only the words of {', '.join(names)}; add photos to the run"]


def _sample_size(begun: "Begun") -> str:
    """Return how many judgments and participants the study needs."""
    from evalkit.plural import plural

    design, comparisons = begun.design, begun.comparisons
    judgments = comparisons * design.per_comparison
    least = design.participants_needed(comparisons)
    needed = f"{plural(judgments, 'judgment')} needed"
    if design.per_participant is not None and design.per_participant < comparisons:
        workload = plural(design.per_participant, "comparison")
        return f"{needed}: at least {plural(least, 'participant')}, each of whom judges up to {workload}"
    workload = plural(comparisons, "comparison")
    if design.same_people:
        return f"{needed}: {plural(least, 'participant')}, each of whom judges {workload}"
    return (
        f"{needed}: at least {plural(least, 'participant')}, each of whom judges {workload}; more participants judge fewer each"
    )


def text(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="The run folder: print its sentences.")] = None,
    list_keys: Annotated[bool, typer.Option("--list", help="Print all keys with their defaults instead.")] = False,
    language: Annotated[str, typer.Option(help="Language of the sentences.")] = "en",
) -> None:
    """Print all sentences that participants read, as TOML for the table `text` of study.toml."""
    from evalkit.errors import UserError
    from study_app.plan.design import Design, read_design
    from study_app.plan.wording import flat_sentences, make_wording, offered_languages

    if list_keys == (run is not None):
        raise UserError("text: give a run folder for the sentences of its design, or --list for the defaults, but not both")
    design = (read_design(run) if run is not None else None) or Design()
    if language not in offered_languages(design):
        raise UserError(f"language {language!r}: the design offers {', '.join(offered_languages(design))}; choose one of them")
    typer.echo(f"[text.{language}]")
    for key, value in flat_sentences(make_wording(design, run or Path())["languages"][language]):
        # every JSON string and list of strings is one of TOML too
        typer.echo(f"{key} = {json.dumps(value, ensure_ascii=False)}")


def serve(
    run: Run,
    db: Db = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8501,
    host: Annotated[str, typer.Option(help="The address to listen on; only this machine can reach 127.0.0.1.")] = "127.0.0.1",
    backup_minutes: Annotated[int, typer.Option(min=0, help="Minutes between backups of the database; 0 for none.")] = 60,
    joins_per_hour: Annotated[int, typer.Option(min=0, help="New participants per network address; 0 for any number.")] = 60,
    open_pages: Annotated[int, typer.Option(min=0, help="Open pages per network address; 0 for any number.")] = 60,
    unlimited: Annotated[
        list[str] | None, typer.Option(help="A network without these limits, such as a lab's 192.0.2.0/24; repeatable.")
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="A proxy on another machine whose X-Forwarded-For is trusted; repeatable.")
    ] = None,
) -> None:
    """Serve the study in a browser until stopped; participants can leave and come back."""
    from rich.console import Console

    from study_app.conduct.backups import backups
    from study_app.service.study import StudyService
    from study_app.simulation.people import has_simulated
    from study_app.web.request_limits import Limits, parse_networks
    from study_app.web.server import serve_study

    console = Console(soft_wrap=True)
    limits = Limits(joins_per_hour, open_pages, unlimited=parse_networks(unlimited or []))
    proxies = [str(network) for network in parse_networks(["127.0.0.1", "::1", *proxy])] if proxy else []
    with _sigterm_exits(), opened(run, db) as database:
        study_id = _ensure_begun(database, run, db)
        if has_simulated(database, study_id):
            note = "This database has simulated judgments; to collect judgments of people, choose another with --db."
            console.print(f"[yellow]{note}[/yellow]")
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
        console.print(f"Participants open [bold]http://{shown}:{port}/[/bold]   (stop with Ctrl+C; nothing is lost)")
        with backups(database, run, backup_minutes):
            serve_study(StudyService(database, run), host, port, limits, proxies)


def preview(
    run: Run,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8501,
) -> None:
    """Serve the pages of RUN/study.toml to this machine alone and record nothing: the database is deleted at the end."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="evalkit-preview-") as folder:
        typer.echo(f"{run}: a preview; what is answered is deleted when it stops")
        serve(run, f"sqlite:///{Path(folder) / 'preview.db'}", port, "127.0.0.1", 0, 0, 0)


def simulate(
    run: Run,
    db: Db = None,
    participants: Annotated[int, typer.Option(min=1, help="Number of simulated participants.")] = 5,
    effect: Annotated[
        list[str] | None, typer.Option("--effect", help="Preference for an arm in logits, as ARM=NUMBER; once per arm.")
    ] = None,
    side_bias: Annotated[float, typer.Option(help="Preference for the left image, in logits.")] = 0.0,
    lapse: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of random answers.")] = 0.02,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same judgments.")] = 0,
    browser: Annotated[bool, typer.Option("--browser", help="Answer through the real pages, in a Chromium.")] = False,
) -> None:
    """Let simulated participants judge what is left; their judgments are marked as simulated everywhere."""
    from evalkit.cli.console import stdout
    from evalkit.plural import plural
    from study_app.conduct.progress import study_status
    from study_app.simulation.browser import simulate_in_browser
    from study_app.simulation.people import Behaviour
    from study_app.simulation.people import simulate as run_simulation

    behaviour = Behaviour(effects=_effects(effect or []), side_bias=side_bias, lapse=lapse)
    with opened(run, db) as database:
        study_id = _ensure_begun(database, run, db)
        before = study_status(database, study_id)
        with _bar("simulated judgments", before.places - before.judged) as advance:
            if browser:
                done = simulate_in_browser(database, run, participants, behaviour, seed, advance)
            else:
                done = run_simulation(database, study_id, participants, behaviour, seed, advance)
        after = study_status(database, study_id)
    console = stdout()
    console.print(
        f"{plural(done.participants, 'simulated participant')} gave {plural(done.judgments, 'judgment')}, "
        "all marked as simulated"
    )
    left = after.places - after.judged
    if left > 0:
        console.print(f"{left:,} of {plural(after.places, 'judgment')} are left; add --participants to fill them")


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Let SIGTERM end the block like an exit, so that the last backup is made and a container stops at once."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ensure_begun(database: "Database", run: Path, db: str | None) -> int:
    """Return the study's id; if `init` was not run, begin the study with the defaults and print that."""
    from evalkit.cli.console import command_line, stdout
    from evalkit.plural import plural
    from study_app.plan.design import Design, read_design
    from study_app.plan.initialize import find_study

    study, design = find_study(database, run), read_design(run)
    if design is not None:
        # begins the study, finds it, or refuses a file that was changed after people joined
        return _begin(database, run, design).study_id
    if study is not None:
        return _begin(database, run, Design.of(study)).study_id
    design = Design()
    begun = _begin(database, run, design)
    change = command_line("study", "init", run, *(["--db", db] if db else []), "--per-comparison", "N")
    console = stdout()
    for line in (
        f"{run}: `evalkit study init` was not run; the study begins with the defaults: "
        f"{plural(design.per_comparison, 'participant')} per comparison, no 'cannot tell', seed {design.seed}",
        _sample_size(begun),
        f"to change the design before anyone has joined: {change}",
    ):
        console.print(line, markup=False)
    return begun.study_id


def _begin(database: "Database", run: Path, design: "Design") -> "Begun":
    from evalkit.run.manifest import Manifest
    from study_app.plan.blinding import pictures
    from study_app.plan.initialize import begin_study

    with _bar("blinded images", len(list(pictures(Manifest.load(run))))) as advance:
        return begin_study(database, run, design, advance)


@contextmanager
def _bar(description: str, total: int) -> "Iterator[Callable[[], None]]":
    """Show a progress bar; yield the function that advances it by one."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


def _effects(options: list[str]) -> dict[str, float]:
    from evalkit.errors import UserError

    effects: dict[str, float] = {}
    for option in options:
        arm, _, number = option.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise UserError(f"--effect {option!r}: not ARM=NUMBER; write for example direct=0.8") from None
        if arm in effects:
            raise UserError(f"--effect {arm!r}: given twice; give each arm once")
        effects[arm] = value
    return effects


# The order of `evalkit study --help`: the order of use.
for _panel, _commands in (
    ("Prepare", (init, text, preview, simulate, conduct.doctor, conduct.password)),
    (
        "Run",
        (
            serve,
            conduct.status,
            people.people,
            conduct.pause,
            conduct.resume,
            conduct.amend,
            people.exclude,
            people.include,
            people.void,
        ),
    ),
    ("Finish", (conduct.lock, conduct.export, conduct.verify, conduct.backup, conduct.restore, people.erase)),
):
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
