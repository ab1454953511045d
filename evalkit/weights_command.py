"""`evalkit weights ...`: fetch weights into a folder to carry along, list what is needed, verify what was carried."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evalkit.card import MetricCard

app = typer.Typer(
    help="Prepare a machine without network.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

For = Annotated[
    str | None, typer.Option("--for", help="An experiment: its base model and LoRAs too, and no weights it brings.")
]
Metrics = Annotated[str | None, typer.Option("--metrics", help="Names joined by commas; default: all metrics.")]


@app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    experiment: For = None,
    metrics: Metrics = None,
) -> None:
    """Fetch weights from the hub into FOLDER, with the sha256 of each; what is there already stays."""
    from rich.console import Console

    from evalkit.carrying import fetch as bring
    from evalkit.carrying import use_folder, variables, wanted
    from evalkit.errors import UserError

    use_folder(folder)
    fetches = wanted(_cards(metrics), experiment)
    if not fetches:
        raise UserError("nothing to fetch: what is asked for needs no weights from the hub")
    console, loud = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    failed = 0
    for name, reason in bring(folder, fetches):
        if reason is None:
            console.print(f"fetched {name}", markup=False, highlight=False)
        else:
            failed += 1
            loud.print(f"not fetched: {reason}", markup=False, highlight=False)
    if failed:
        raise UserError(f"{failed} of {len(fetches)} could not be fetched; run the same command again to go on")
    there = " ".join(f"{name}={value}" for name, value in variables(folder).items())
    console.print(f"Carry {folder} along; where it lies then, set {there} HF_HUB_OFFLINE=1", markup=False, highlight=False)


@app.command("list")
def list_weights(experiment: For = None, metrics: Metrics = None) -> None:
    """List what would be fetched, and which weights of metrics this machine finds where."""
    from rich.console import Console
    from rich.table import Table

    from evalkit.carrying import wanted
    from evalkit.doctor import weights_found

    cards = _cards(metrics)
    console = Console(soft_wrap=True)
    for name in wanted(cards, experiment):
        console.print(name, markup=False, highlight=False)
    models = {card.weights.name for card in cards.values() if card.weights}
    table = Table("weights", "here", "sha256")
    for name, state, sha256 in weights_found({}):
        if name in models:
            table.add_row(name, state, sha256[:16])
    console.print(table)


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="A folder that `evalkit weights fetch` filled.")]) -> None:
    """Compare every file of FOLDER with its sha256; exit 1 where one is damaged or gone."""
    from rich.console import Console

    from evalkit.carrying import verify as check
    from evalkit.errors import UserError

    console = Console(soft_wrap=True)
    states = list(check(folder))
    for name, state in states:
        console.print(f"{state}: {name}", markup=False, highlight=False)
    wrong = sum(state != "ok" for _, state in states)
    if wrong:
        raise UserError(f"{folder}: {wrong} of {len(states)} files are not as they were fetched; fetch or copy them again")


def _cards(metrics: str | None) -> "Mapping[str, MetricCard]":
    """Return the metrics called so, or all."""
    from evalkit.card import pick
    from evalkit.plugins import known_metrics

    known = known_metrics()
    if metrics is None:
        return known
    return {card.name: card for card in pick(known, [name.strip() for name in metrics.split(",") if name.strip()])}
