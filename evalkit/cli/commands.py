"""The commands of the metric library: import, sheet, score, metrics, doctor."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evalkit.metric_spec.metric_card import MetricCard
    from evalkit.metric_spec.set_metric import SetMetric
    from evalkit.run.score_table import ImageScore, RunScore
    from evalkit.scoring.result import ScoringResult


def import_images(
    folder: Annotated[Path, typer.Argument(help="Holds <case>/<arm>/<seed>.png (or .jpg, .webp).")],
    run: Annotated[Path, typer.Option("--run", help="The run folder to make.")],
    describe: Annotated[
        Path | None, typer.Option("--describe", help="Prompts, concepts, references; default: FOLDER/import.toml.")
    ] = None,
) -> None:
    """Make a run of images drawn elsewhere; their bytes stay as they are."""
    from evalkit.cli.output import bar, out, step
    from evalkit.run.import_images import import_images as bring

    console = out()
    with bar() as shown:
        imported = bring(folder, run, describe=describe, progress=step(shown, "reading"))
    for note in imported.notes:
        console.print(f"note: {note}", markup=False)
    manifest = imported.manifest
    state = "was there already" if imported.again else "imported"
    console.print(
        f"{run}: {state}: {len(manifest.images)} images, {len(manifest.arms)} arms, {len(manifest.cases)} cases", markup=False
    )


def sheet(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    out: Annotated[Path, typer.Argument(help="The PNG file to write.")],
    case: Annotated[list[str] | None, typer.Option("--case", help="A case to show, may be repeated; all by default.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of each case.")] = 1,
    columns: Annotated[int, typer.Option("--columns", min=0, help="Arms beside each other; 0: all, with references.")] = 0,
    side: Annotated[int, typer.Option("--side", min=16, help="Width of an image in pixels.")] = 64,
) -> None:
    """Write a run's images on one sheet: a row for each case and seed, a column for each arm."""
    from io import BytesIO

    from evalkit.io.atomic_files import write_atomic
    from evalkit.run.contact_sheet import sheet as draw

    buffer = BytesIO()
    draw(run, case or (), seeds, columns, side).save(buffer, "PNG", optimize=True)
    write_atomic(out, buffer.getvalue())


def score(
    places: Annotated[
        list[str], typer.Argument(metavar="RUN|FOLDER|GLOB", help="A run folder; or pictures that belong to none.")
    ],
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Names joined by commas; default: all that can be served.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a [weights] table; repeatable.")
    ] = None,
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="A Python file with metrics of your own; repeatable.")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="Whose numbers to make: dreambooth, custom_diffusion, clipscore, ...")
    ] = "dreambooth",
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...; default: a GPU if any.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per forward pass, at most.")] = 32,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Score part I of N of a run's cases, on any scheduler.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="Compute with a Ray cluster's workers, or with `local` ones.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="For a folder or pattern: a Parquet file for the scores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print means and scores as JSON instead of a table.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Succeed although weights of some metrics can't be had.")
    ] = False,
) -> None:
    """Score a run's images, or any pictures; what is scored already is kept."""
    from evalkit.cli.output import bar, show, step
    from evalkit.errors import UserError
    from evalkit.run.manifest import FILE_NAME as MANIFEST
    from evalkit.run.shard import Shard
    from evalkit.scoring.file_scorer import find_images, score_files
    from evalkit.scoring.run_scorer import score_run
    from evalkit.weights.lookup import parse_options

    run = next((Path(place) for place in places if (Path(place) / MANIFEST).is_file()), None)
    if run is not None and len(places) > 1:
        raise UserError(f"{run}: is a run; a run is scored by itself, so give nothing beside it")
    if run is not None and out is not None:
        raise UserError(f"--out: the scores of a run go to {run}/scores.parquet; leave --out away")
    if run is None and (shard or ray):
        raise UserError("--shard and --ray share out the cases of a run; make one with `evalkit import FOLDER --run RUN`")
    part = Shard.parse(shard) if shard else None
    cards = _chosen(metrics, plugin or (), run)
    given = parse_options(weights or ())
    pictures = find_images(places) if run is None else []
    scored: ScoringResult[RunScore] | ScoringResult[ImageScore]
    with bar() as shown:
        progress = step(shown, "scoring")
        if run is not None:
            scored = score_run(
                run, cards, preset=preset, weights=given, device=device, batch_size=batch_size, progress=progress,
                shard=part, ray=ray, in_memory=False,
            )  # fmt: skip
        else:
            scored = score_files(
                pictures, cards, weights=given, device=device, batch_size=batch_size, out=out, progress=progress
            )
    show(scored, as_json=as_json)
    if scored.problems or (scored.missing and not allow_missing):
        raise typer.Exit(1)


def metrics() -> None:
    """List the metrics: what each measures, needs, and whose weights it uses."""
    from rich.table import Table

    from evalkit.cli.output import out
    from evalkit.metrics.plugins import known_metrics
    from evalkit.set_metrics import SET_METRICS

    known = known_metrics()
    table = Table("metric", "better", "compares with", "unit")
    for card in known.values():
        other = "nothing" if card.needs == "image" else card.needs.replace("_", " ")
        table.add_row(card.name, card.direction, other, card.unit)
    for each in SET_METRICS.values():
        table.add_row(each.name, each.direction, "another set (evalkit sets)", each.unit)
    console = out()
    console.print(table)
    every: list[MetricCard | SetMetric] = [*known.values(), *SET_METRICS.values()]
    for one in every:
        console.print(f"[bold]{one.name}[/bold]: {one.summary} Source: {one.source}. Licence: {one.licence}.")


def doctor(
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a [weights] table; repeatable.")
    ] = None,
) -> None:
    """Show what is installed, which device is used, which weights are found where, and whether models do what they say.

    Exits 1 where one doesn't.
    """
    from rich.table import Table

    from evalkit.cli.doctor import device, examined, versions, warnings, weights_found
    from evalkit.cli.output import out, show_weights
    from evalkit.weights.lookup import parse_options

    console = out()
    table = Table("package", "version")
    for package, number in versions():
        table.add_row(package, number)
    console.print(table)
    console.print(f"device: {device()}", markup=False)
    given = parse_options(weights or ())
    show_weights(console, weights_found(given))
    wrong = False
    for name, faults in examined(given):
        wrong |= bool(faults)
        console.print(f"{name}: {'; '.join(faults) or 'does what its signature says'}", markup=False, highlight=False)
    for line in warnings():
        console.print(f"[yellow]warning[/yellow]: {line}")
    if wrong:
        raise typer.Exit(1)


def _chosen(names: str | None, plugins: Sequence[Path], run: Path | None) -> "list[MetricCard]":
    """Return the metrics asked for; without names all that a run, or pictures without one, can be given, and the plug-ins'."""
    from evalkit.errors import UserError
    from evalkit.metrics import METRICS
    from evalkit.metrics.iqa import metrics_by_name
    from evalkit.metrics.plugins import known_metrics
    from evalkit.run.manifest import Manifest
    from evalkit.scoring.file_scorer import needs_run
    from evalkit.scoring.run_scorer import default_metrics

    known = known_metrics(plugins)
    if names is not None:
        asked = [name.strip() for name in names.split(",") if name.strip()]
        if not asked:
            raise UserError("--metrics: is empty; `evalkit metrics` lists them")
        return metrics_by_name(known, asked)
    own = [card for name, card in known.items() if name not in known_metrics()]
    if run is not None:
        return [*default_metrics(Manifest.load(run)), *own]
    return [card for card in (*METRICS.values(), *own) if not card.on_request and needs_run(card) is None]
