"""The commands `evalkit run` and `evalkit demo`: several steps in one call."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

# Their weights are part of tinyworld, or they need none, so the demo downloads nothing.
DEMO_METRICS = "clip_t,clip_i,dino,arm_similarity,piqe"
# True preference of the simulated participants, in logits; the report should recover it.
DEMO_EFFECT = 0.8

Run = Annotated[Path, typer.Option("--run", help="The run folder; created if it does not exist.")]


def step(*words: str) -> Callable[..., Any]:
    """Return the function behind the command `evalkit WORDS`.

    The steps are in packages above evalkit. They are looked up by entry point, as `evalkit.cli.main` does, never imported.
    """
    from evalkit.cli.main import find_commands
    from evalkit.cli.shadowing import require_own_packages
    from evalkit.distribution import install_command
    from evalkit.errors import ALL, UserError

    name, *rest = words
    for entry in find_commands():
        if entry.name == name:
            require_own_packages()
            command = entry.load()
            if not rest:
                return command  # type: ignore[no-any-return]
            for registered in command.registered_commands:
                callback = registered.callback
                if callback is not None and (registered.name or callback.__name__) == rest[0]:
                    return callback  # type: ignore[no-any-return]
    raise UserError(f"evalkit {' '.join(words)}: the command is not installed; run: {install_command(ALL)}")


def run(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="An experiment file, or the name of a shipped one.")],
    run: Run,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit 0 even if the weights of some metrics are unavailable.")
    ] = False,
) -> None:
    """Generate, score and analyze: every step that needs no people.

    Exits 1 if some metrics could not be run, after writing the report of the others.
    """
    from evalkit.cli.console import command_line, stdout

    step("generate")(experiment=experiment, run=run)
    incomplete: typer.Exit | None = None
    try:
        step("score")([str(run)], allow_missing=allow_missing)
    except typer.Exit as exit_:
        incomplete = exit_
    step("analyze")(run=run)
    stdout().print(f"next: {command_line('study', 'serve', run)}", markup=False)
    if incomplete is not None:
        raise incomplete


def demo(
    run: Run = Path("runs/demo"),
    participants: Annotated[
        int, typer.Option(min=1, help="Simulated participants; their judgments are marked as simulated everywhere.")
    ] = 20,
) -> None:
    """Run the shipped experiment on tinyworld, with simulated participants in a separate database."""
    from evalkit.cli.console import command_line, stdout

    # real and simulated judgments are kept apart: RUN/study.db stays free for the study that `serve` begins
    simulated = f"sqlite:///{run / 'simulated.db'}"
    step("generate")(experiment="tinyworld", run=run)
    step("score")([str(run)], metrics=DEMO_METRICS)
    step("study", "simulate")(run=run, participants=participants, db=simulated, effect=[f"direct={DEMO_EFFECT}"])
    step("analyze")(run=run, db=simulated, simulated=True)
    report = run / "report" / "report.html"
    lines = (
        "",
        f"The report: {report}",
        f"Its judgments are simulated, with a preference of {DEMO_EFFECT} logits for the arm `direct`.",
        "They are stored in a separate database; to analyze them again:",
        f"    {command_line('analyze', run, '--db', simulated)}",
        "To judge the images yourself, in a browser:",
        f"    {command_line('study', 'serve', run)}",
        "To analyze your own judgments:",
        f"    {command_line('analyze', run, '--out', run / 'my_report')}",
    )
    console = stdout()
    for line in lines:
        console.print(line, markup=False)
