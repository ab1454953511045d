"""Commands that go several steps of the way: `run` an experiment, and `demo` the embedded one."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

# Metrics whose weights come with tinyworld, or that need none: the demo downloads nothing.
DEMO_METRICS = "clip_t,clip_i,dino,arm_similarity,piqe"
# What the demo's simulated participants feel, in logits; the report should find it again.
DEMO_EFFECT = 0.8

Run = Annotated[Path, typer.Option("--run", help="The run folder, made where there is none.")]


def step(*words: str) -> Callable[..., Any]:
    """Return the function behind the command `evalkit WORDS`, found as the front door finds it.

    The steps live in packages above evalkit, so they are looked up by their entry points, never imported.
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
    raise UserError(f"no command `evalkit {' '.join(words)}` is installed; run: {install_command(ALL)}")


def run(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    run: Run,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without metrics whose weights can't be had.")
    ] = False,
) -> None:
    """Draw, score and report: every step that needs no people.

    Exits 1 where some metrics could not be run, after the report of the others is written.
    """
    step("generate")(experiment=experiment, run=run)
    lacking: typer.Exit | None = None
    try:
        step("score")([str(run)], allow_missing=allow_missing)
    except typer.Exit as exit_:
        lacking = exit_
    step("analyze")(run=run)
    if lacking is not None:
        raise lacking


def demo(
    run: Run = Path("runs/demo"),
    participants: Annotated[
        int, typer.Option(min=1, help="How many simulated participants judge; their judgments are marked everywhere.")
    ] = 20,
) -> None:
    """Run the embedded experiment on tinyworld, with simulated participants in a database of their own."""
    from rich.console import Console

    # real and simulated judgments never share a database here: RUN/study.db stays free for whoever opens the study
    simulated = f"sqlite:///{run / 'simulated.db'}"
    step("generate")(experiment="tinyworld", run=run)
    step("score")([str(run)], metrics=DEMO_METRICS)
    step("study", "simulate")(run=run, participants=participants, db=simulated, effect=[f"direct={DEMO_EFFECT}"])
    step("analyze")(run=run, db=simulated, simulated=True)
    console = Console(soft_wrap=True)
    console.print(f"\nThe report: [bold]{run / 'report' / 'report.html'}[/bold]")
    console.print(f"Its judgments are simulated, with a preference of {DEMO_EFFECT} logits for the arm direct.")
    console.print(f"Judge yourself: [bold]evalkit study serve {run}[/bold]")
