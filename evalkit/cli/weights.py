"""`evalkit weights ...`: fetch weights into a folder to carry along, list what is needed, verify what was carried."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evalkit.weights.lookup import Source

app = typer.Typer(
    help="Prepare a machine without network.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

For = Annotated[
    str | None, typer.Option("--for", help="An experiment: its base model and LoRAs too, and no weights it brings.")
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", help="Metrics or models, joined by commas; default: the metrics that run without being named."),
]


@app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    experiment: For = None,
    metrics: Metrics = None,
) -> None:
    """Fetch weights from the hub into FOLDER, with the sha256 of each; what is there already stays."""
    from rich.console import Console

    from evalkit.errors import UserError
    from evalkit.weights.offline_bundle import fetch as bring
    from evalkit.weights.offline_bundle import use_folder, variables, wanted

    use_folder(folder)
    fetches = wanted(_sources(metrics), experiment)
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
    from evalkit.cli.doctor import weights_found
    from evalkit.cli.output import out, show_weights
    from evalkit.weights.offline_bundle import wanted

    console = out()
    for name in wanted(_sources(metrics), experiment):
        console.print(name, markup=False, highlight=False)
    shown = _sources(metrics) if metrics is not None else None
    show_weights(console, (found for found in weights_found({}) if shown is None or found[0] in shown))


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="A folder that `evalkit weights fetch` filled.")]) -> None:
    """Compare every file of FOLDER with its sha256; exit 1 where one is damaged or gone."""
    from rich.console import Console

    from evalkit.errors import UserError
    from evalkit.weights.offline_bundle import verify as check

    console = Console(soft_wrap=True)
    states = list(check(folder))
    for name, state in states:
        console.print(f"{state}: {name}", markup=False, highlight=False)
    wrong = sum(state != "ok" for _, state in states)
    if wrong:
        raise UserError(f"{folder}: {wrong} of {len(states)} files are not as they were fetched; fetch or copy them again")


def _sources(names: str | None) -> "dict[str, Source]":
    """Return the weights of what is called so, metrics or models; without names those of metrics that run unnamed."""
    from evalkit.errors import unknown
    from evalkit.metrics.models import known_sources
    from evalkit.metrics.plugins import known_metrics
    from evalkit.set_metrics import SET_METRICS

    cards = known_metrics()
    if names is None:
        return {card.weights.name: card.weights for card in cards.values() if card.weights and not card.on_request}
    weights: dict[str, Source | None] = dict(known_sources(cards.values()))
    weights |= {name: card.weights for name, card in cards.items()}
    weights |= {name: each.weights for name, each in SET_METRICS.items()}
    found: dict[str, Source] = {}
    for name in (part.strip() for part in names.split(",") if part.strip()):
        if name not in weights:
            raise unknown("--metrics: no metric or model", name, weights)
        source = weights[name]
        if source is not None:
            found[source.name] = source
    return found
