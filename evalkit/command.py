"""The commands of the metric library: import, score, metrics, doctor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import Progress

    from evalkit.run_scoring import RunScores


def import_images(
    folder: Annotated[Path, typer.Argument(help="Holds <case>/<arm>/<seed>.png (or .jpg, .webp).")],
    run: Annotated[Path, typer.Option("--run", help="The run folder to make.")],
    describe: Annotated[
        Path | None, typer.Option("--describe", help="Prompts, concepts, references; default: FOLDER/import.toml.")
    ] = None,
) -> None:
    """Make a run of images drawn elsewhere; their bytes stay as they are."""
    from evalkit.importing import import_images as bring

    console = _console()
    with _bar(console) as bar:
        imported = bring(folder, run, describe=describe, progress=_step(bar, "reading"))
    for note in imported.notes:
        console.print(f"note: {note}", markup=False)
    manifest = imported.manifest
    state = "was there already" if imported.again else "imported"
    console.print(
        f"{run}: {state}: {len(manifest.images)} images, {len(manifest.arms)} arms, {len(manifest.cases)} cases", markup=False
    )


def score(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Names joined by commas; default: all that the run can serve.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a [weights] table; repeatable.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...; default: a GPU if any.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per forward pass, at most.")] = 32,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Succeed although weights of some metrics can't be had.")
    ] = False,
) -> None:
    """Score a run's images; what is scored already is kept."""
    from evalkit.errors import UserError
    from evalkit.run_scoring import score_run
    from evalkit.weights import parse_options

    names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics is not None else None
    if names == []:
        raise UserError("--metrics: is empty; `evalkit metrics` lists them")
    given = parse_options(weights or ())
    console = _console()
    with _bar(console) as bar:
        scores = score_run(run, names, weights=given, device=device, batch_size=batch_size, progress=_step(bar, "scoring"))
    _report(console, scores)
    if scores.problems or (scores.missing and not allow_missing):
        raise typer.Exit(1)


def metrics() -> None:
    """List the metrics: what each measures, needs, and whose weights it uses."""
    from rich.table import Table

    from evalkit.metrics import METRICS

    table = Table("metric", "better", "compares with", "unit")
    for card in METRICS.values():
        other = "nothing" if card.needs == "image" else card.needs.replace("_", " ")
        table.add_row(card.name, card.direction, other, card.unit)
    console = _console()
    console.print(table)
    for card in METRICS.values():
        console.print(f"[bold]{card.name}[/bold]: {card.summary} Source: {card.source}. Licence: {card.licence}.")


def doctor(
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a [weights] table; repeatable.")
    ] = None,
) -> None:
    """Show what is installed, which device is used, and which weights are found where."""
    from rich.table import Table

    from evalkit.doctor import device, versions, warnings, weights_found
    from evalkit.weights import parse_options

    console = _console()
    table = Table("package", "version")
    for package, number in versions():
        table.add_row(package, number)
    console.print(table)
    console.print(f"device: {device()}", markup=False)
    found = Table("weights", "state", "sha256")
    for name, state, sha256 in weights_found(parse_options(weights or ())):
        found.add_row(name, state, sha256[:16])
    console.print(found)
    for line in warnings():
        console.print(f"[yellow]warning[/yellow]: {line}")


def _console() -> "Console":
    """Return where results go; lines are never cut in the middle."""
    from rich.console import Console

    return Console(soft_wrap=True)


def _bar(console: "Console") -> "Progress":
    """Return a progress bar with what is done and left; it leaves nothing behind where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _step(bar: "Progress", what: str) -> "Callable[[int, int], None]":
    """Return what moves the bar to `done` of `total`."""
    task = bar.add_task(what, total=None)

    def step(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return step


def _report(console: "Console", scores: "RunScores") -> None:
    """Print the table of means, then what was noted, then what could not be scored (on standard error)."""
    from rich.console import Console
    from rich.table import Table

    from evalkit.summary import summarise

    table = Table("metric", "arm", "mean", "± SE", "n", title="Mean per arm", caption=CAPTION)
    for line in summarise(scores.rows):
        table.add_row(
            line.metric, line.arm, f"{line.mean:.4f}", f"{line.error:.4f}" if line.error is not None else "", str(line.n)
        )
    console.print(table)
    tally = scores.tally
    passes = ", ".join(f"{name} {count}" for name, count in tally.forwards.items() if count) or "none"
    found = sum(tally.found.values())
    console.print(
        f"{tally.decodes} pictures decoded; forward passes: {passes}; {found} features were there already", markup=False
    )
    for note in scores.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"{len(scores.rows)} scores in {scores.path}", markup=False)
    loud = Console(stderr=True, soft_wrap=True)
    for reason in scores.missing.values():
        loud.print(f"not run: {reason}", markup=False)
    if scores.not_run:
        loud.print(f"not run for want of weights: {', '.join(scores.not_run)}", markup=False)
    for problem in scores.problems:
        loud.print(f"not scored: {problem.reason}", markup=False)


CAPTION = "SE: standard error over images, as if they were independent; for a look, not for tests (evalkit analyze has those)"
