"""The commands `evalkit weights`: fetch weights for a machine without network, list them, verify them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.console import Json

if TYPE_CHECKING:
    from evalkit.weights.lookup import Source

app = typer.Typer(
    help="Prepare weights for a machine without network.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

For = Annotated[
    str | None,
    typer.Option("--for", help="An experiment: add its base model and LoRAs, and leave out weights that it provides."),
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", help="Comma-separated metrics or models. Default: the metrics that run by default."),
]


@app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder for the files.")],
    experiment: For = None,
    metrics: Metrics = None,
) -> None:
    """Download weights from the hub into FOLDER, with the sha256 of each; files that exist are kept."""
    from evalkit.cli.console import stderr, stdout
    from evalkit.errors import UserError
    from evalkit.plural import plural
    from evalkit.weights.offline_bundle import fetch as download
    from evalkit.weights.offline_bundle import use_folder, variables, wanted

    use_folder(folder)
    fetches = wanted(_sources(metrics), experiment)
    if not fetches:
        raise UserError("weights: nothing to fetch; the metrics and the experiment need no weights from the hub")
    console, errors = stdout(), stderr()
    failed = 0
    for name, reason in download(folder, fetches):
        if reason is None:
            console.print(f"fetched {name}", markup=False)
        else:
            failed += 1
            errors.print(f"not fetched: {reason}", markup=False)
    if failed:
        raise UserError(f"{failed} of {plural(len(fetches), 'download')} failed; run the same command again to resume")
    settings = " ".join(f"{name}={value}" for name, value in variables(folder).items())
    console.print(f"Copy {folder} to the other machine and set {settings} HF_HUB_OFFLINE=1 there", markup=False)


@app.command("list")
def list_weights(experiment: For = None, metrics: Metrics = None, as_json: Json = False) -> None:
    """List what `fetch` would download, and where this machine finds the weights of metrics."""
    from evalkit.cli.console import print_json, stdout
    from evalkit.cli.machine import weights_found
    from evalkit.cli.score_output import print_weights
    from evalkit.weights.offline_bundle import wanted

    downloads = list(wanted(_sources(metrics), experiment))
    selected = _sources(metrics) if metrics is not None else None
    located = [row for row in weights_found({}) if selected is None or row[0] in selected]
    if as_json:
        rows = [{"name": name, "found": state, "sha256": sha256 or None} for name, state, sha256 in located]
        print_json({"downloads": downloads, "weights": rows})
        return
    console = stdout()
    for name in downloads:
        console.print(name, markup=False)
    print_weights(located)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that `weights fetch` filled.")],
    as_json: Json = False,
) -> None:
    """Compare every file of FOLDER with its sha256; exits 1 if one is damaged or missing."""
    from evalkit.cli.console import print_json, stdout
    from evalkit.errors import UserError
    from evalkit.plural import plural
    from evalkit.weights.offline_bundle import verify as check

    states = list(check(folder))
    if as_json:
        print_json({"folder": folder, "files": [{"name": name, "state": state} for name, state in states]})
    else:
        console = stdout()
        for name, state in states:
            console.print(f"{state}: {name}", markup=False)
    wrong = sum(state != "ok" for _, state in states)
    if wrong:
        raise UserError(f"{folder}: {wrong} of {plural(len(states), 'file')} changed since the download; fetch or copy again")


def _sources(names: str | None) -> "dict[str, Source]":
    """Return the weights of the named metrics or models; without names, those of the metrics that run by default."""
    from evalkit.errors import unknown
    from evalkit.metrics.models import known_sources
    from evalkit.metrics.plugins import known_metrics
    from evalkit.set_metrics import SET_METRICS

    cards = known_metrics()
    if names is None:
        return {card.weights.name: card.weights for card in cards.values() if card.weights and not card.on_request}
    weights: dict[str, Source | None] = dict(known_sources(cards.values()))
    weights |= {name: card.weights for name, card in cards.items()}
    weights |= {name: metric.weights for name, metric in SET_METRICS.items()}
    sources: dict[str, Source] = {}
    for name in (part.strip() for part in names.split(",") if part.strip()):
        if name not in weights:
            raise unknown("--metrics: no metric or model", name, weights)
        source = weights[name]
        if source is not None:
            sources[source.name] = source
    return sources
