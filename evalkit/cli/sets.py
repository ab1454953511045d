"""The command `evalkit sets`: FID, KID, CMMD and latent KL between sets of images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evalkit.scoring.result import ScoringResult
    from evalkit.scoring.set_scorer import SetScore

FILE_NAME = "set_scores.parquet"


def sets(
    path: Annotated[
        Path, typer.Argument(metavar="RUN|FOLDER", help="A run, with one set per arm; or a folder of images, which is one set.")
    ],
    against: Annotated[
        Path | None, typer.Option("--against", help="A folder of images. Default: all references of the run's concepts.")
    ] = None,
    metrics: Annotated[str, typer.Option("--metrics", help="Comma-separated names.")] = "fid,kid,cmmd",
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a table `weights`; repeatable.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, ... Default: a GPU if there is one.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Most images per forward pass.")] = 32,
    out: Annotated[
        Path | None, typer.Option("--out", help="Parquet file for the values. Default for a run: RUN/set_scores.parquet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compute distances between sets of images: FID, KID, CMMD, latent KL."""
    from evalkit.cli.console import progress_bar, task
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
    if (path / MANIFEST).is_file():
        manifest = Manifest.load(path).complete(path)
        groups = {arm.label: [path / i.path for i in manifest.images if i.arm == arm.label] for arm in manifest.arms}
        others = others or [path / reference.path for concept in manifest.concepts for reference in concept.references]
        cache = path / CACHE
        out = out or path / FILE_NAME
        table = path / WEIGHTS
        given = {**(read_table(table) if table.exists() else {}), **given}
    else:
        groups = {path.name or str(path): find_images([str(path)])}
    if not others:
        raise UserError(f"{path}: there is no second set to compare with; give --against FOLDER")
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    with progress_bar() as bar, FeatureCache(cache) as store:
        scored = score_sets(
            groups, others, names, store,
            weights=given, device=device, batch_size=batch_size, progress=task(bar, "extracting features"),
        )  # fmt: skip
        scored.notes.extend(store.notes)
    if out is not None:
        scored.path = write_rows(out, SetScore, scored.rows)
    _print(scored, as_json=as_json)
    if scored.problems or scored.missing:
        raise typer.Exit(1)


def _print(scored: "ScoringResult[SetScore]", *, as_json: bool) -> None:
    """Print the values, the signature of each below, and failures on standard error."""
    from evalkit.cli.console import print_json, print_table, stderr, stdout, table
    from evalkit.metric_spec.signature import displayed

    if as_json:
        print_json({"scores": scored.rows, "notes": scored.notes})
    else:
        headers = ("metric", "set", "value", "images", "images compared with")
        rows = [(row.metric, row.set, f"{row.value:.4g}", str(row.images), str(row.others)) for row in scored.rows]
        print_table(table(headers, rows, names=4, title="Distance; lower is closer"))
        console = stdout()
        recipes = dict.fromkeys(displayed(row.signature) for row in scored.rows)
        for line in (*recipes, *(f"note: {note}" for note in scored.notes)):
            console.print(line, markup=False)
        if scored.path is not None:
            console.print(f"written: {scored.path}", markup=False)
    errors = stderr()
    for reason in (*scored.missing.values(), *(problem.reason for problem in scored.problems)):
        errors.print(f"not compared: {reason}", markup=False)
