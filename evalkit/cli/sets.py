"""The command `evalkit sets`: how far the images of every arm, or of a folder, are from a set of others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evalkit.scoring.result import ScoringResult
    from evalkit.scoring.set_scorer import SetScore

FILE_NAME = "set_scores.parquet"


def sets(
    place: Annotated[Path, typer.Argument(metavar="RUN|FOLDER", help="A run: a set for every arm; or a folder: one set.")],
    against: Annotated[
        Path | None, typer.Option("--against", help="A folder of images; default: all references of the run's concepts.")
    ] = None,
    metrics: Annotated[str, typer.Option("--metrics", help="Names joined by commas.")] = "fid,kid,cmmd",
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a [weights] table; repeatable.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...; default: a GPU if any.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per forward pass, at most.")] = 32,
    out: Annotated[Path | None, typer.Option("--out", help="A Parquet file; default for a run: in the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say how far whole sets of images are from others: FID, KID, CMMD, latent KL."""
    from evalkit.cli.output import bar, step
    from evalkit.errors import UserError
    from evalkit.run.feature_cache import FILE_NAME as CACHE
    from evalkit.run.feature_cache import FeatureCache, own_folder
    from evalkit.run.manifest import FILE_NAME as MANIFEST
    from evalkit.run.manifest import Manifest
    from evalkit.run.score_table import write_rows
    from evalkit.scoring.file_scorer import find_images
    from evalkit.scoring.set_scorer import SetScore, score_sets
    from evalkit.weights.lookup import FILE_NAME as WEIGHTS
    from evalkit.weights.lookup import parse_options, read_table

    given = parse_options(weights or ())
    others = find_images([str(against)]) if against is not None else []
    cache = own_folder() / "features.sqlite"
    if (place / MANIFEST).is_file():
        manifest = Manifest.load(place).complete(place)
        groups = {arm.label: [place / i.path for i in manifest.images if i.arm == arm.label] for arm in manifest.arms}
        others = others or [place / shown.path for concept in manifest.concepts for shown in concept.references]
        cache = place / CACHE
        out = out or place / FILE_NAME
        table = place / WEIGHTS
        given = {**(read_table(table) if table.exists() else {}), **given}
    else:
        groups = {place.name or str(place): find_images([str(place)])}
    if not others:
        raise UserError(f"{place}: nothing to hold its images against; give --against FOLDER")
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    with bar() as shown, FeatureCache(cache) as store:
        scored = score_sets(
            groups, others, names, store,
            weights=given, device=device, batch_size=batch_size, progress=step(shown, "reading"),
        )  # fmt: skip
        scored.notes.extend(store.notes)
    if out is not None:
        scored.path = write_rows(out, SetScore, scored.rows)
    _show(scored, as_json=as_json)
    if scored.problems or scored.missing:
        raise typer.Exit(1)


def _show(scored: "ScoringResult[SetScore]", *, as_json: bool) -> None:
    """Print the values with the recipe of each below, and what went wrong on standard error."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from evalkit.cli.output import out

    console = out()
    if as_json:
        document = {"scores": [asdict(row) for row in scored.rows], "notes": scored.notes}
        console.out(json.dumps(document, indent=1, allow_nan=False), highlight=False)
    else:
        table = Table("metric", "set", "value", "images", "against", title="Lower is nearer")
        for row in scored.rows:
            table.add_row(row.metric, row.set, f"{row.value:.4g}", str(row.images), str(row.others))
        console.print(table)
        for line in (*dict.fromkeys(row.signature for row in scored.rows), *(f"note: {note}" for note in scored.notes)):
            console.print(line, markup=False, highlight=False)
        if scored.path is not None:
            console.print(f"written: {scored.path}", markup=False, highlight=False)
    loud = Console(stderr=True, soft_wrap=True)
    for reason in (*scored.missing.values(), *(problem.reason for problem in scored.problems)):
        loud.print(f"not compared: {reason}", markup=False)
