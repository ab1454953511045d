"""The command `evalkit score`: metrics of a run's images, or of any images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evalkit.metric_spec.metric_card import MetricCard
    from evalkit.run.score_table import ImageScore, RunScore
    from evalkit.scoring.result import ScoringResult


def score(
    paths: Annotated[
        list[str], typer.Argument(metavar="RUN|FOLDER|GLOB", help="One run folder; or images that belong to no run.")
    ],
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Comma-separated names. Default: all that the run has the inputs for.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a table `weights`; repeatable.")
    ] = None,
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="A Python file that defines more metrics; repeatable.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="A second folder: compare its images with those of the same name.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option("--prompts", help="Images without a run: a .csv or .jsonl of file and prompt, or one text.")
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="Images without a run: a folder of references, or one per concept.")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="Scoring convention: dreambooth, custom_diffusion, clipscore, ...")
    ] = "dreambooth",
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, ... Default: a GPU if there is one.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Most images per forward pass.")] = 32,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Score part I of N of a run's cases; auto: the scheduler's, as for `generate`."
        ),
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="Score on the workers of a Ray cluster, or `local` ones.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file for the scores of images without a run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print means and scores as JSON instead of a table.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit 0 even if the weights of some metrics are unavailable.")
    ] = False,
) -> None:
    """Score a run's images, or any images; scores that exist are not computed again."""
    from evalkit.cli.console import progress_bar, task
    from evalkit.cli.score_output import print_scores
    from evalkit.errors import UserError
    from evalkit.run.manifest import FILE_NAME as MANIFEST
    from evalkit.run.shard import Shard
    from evalkit.scoring.file_scorer import find_images, score_files
    from evalkit.scoring.run_scorer import score_run
    from evalkit.weights.lookup import parse_options

    if against is not None:
        _compare(paths, against, metrics, plugin or (), weights or (), device, batch_size, out, as_json=as_json)
        return
    run = next((Path(path) for path in paths if (Path(path) / MANIFEST).is_file()), None)
    if run is not None and len(paths) > 1:
        raise UserError(f"{run}: a run is scored alone; remove the other arguments, or score them in a second call")
    if run is not None and out is not None:
        raise UserError(f"--out: the scores of a run are written to {run}/scores.parquet; remove --out")
    if run is None and (shard or ray):
        raise UserError(
            "--shard and --ray: these distribute the cases of a run; create one with `evalkit import FOLDER --run RUN`"
        )
    if run is not None and (prompts or references):
        raise UserError(f"--prompts and --references: {run} has its own; remove them")
    part = Shard.parse(shard) if shard else None
    cards = _selected(metrics, plugin or (), run, prompts=bool(prompts), references=bool(references))
    given = parse_options(weights or ())
    images = find_images(paths) if run is None else []
    scored: ScoringResult[RunScore] | ScoringResult[ImageScore]
    with progress_bar() as bar:
        progress = task(bar, "scoring")
        if run is not None:
            scored = score_run(
                run, cards, preset=preset, weights=given, device=device, batch_size=batch_size, progress=progress,
                shard=part, ray=ray, in_memory=False,
            )  # fmt: skip
        elif prompts or references:
            scored = _score_loose(
                images, cards, prompts, references, preset=preset, weights=given, device=device, batch_size=batch_size, out=out
            )
        else:
            scored = score_files(images, cards, weights=given, device=device, batch_size=batch_size, out=out, progress=progress)
    print_scores(scored, as_json=as_json)
    if scored.problems or (scored.missing and not allow_missing):
        raise typer.Exit(1)


def _compare(
    paths: Sequence[str],
    against: Path,
    metrics: str | None,
    plugins: Sequence[Path],
    weights: Sequence[str],
    device: str | None,
    batch_size: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Compare the images of two folders by name, and print the results."""
    from evalkit.cli.console import progress_bar, task
    from evalkit.cli.score_output import print_pairs
    from evalkit.errors import UserError
    from evalkit.metrics.plugins import load_plugin
    from evalkit.run.score_table import write_rows
    from evalkit.scoring.pair_scorer import SHORT, PairScore, compare_images
    from evalkit.weights.lookup import parse_options

    if len(paths) != 1:
        raise UserError(f"--against: compares one folder with another; {len(paths)} were given")
    own = {card.name: card for path in plugins for card in load_plugin(path)}
    names = [name.strip() for name in (metrics or "psnr,ssim").split(",") if name.strip()]
    if not names:
        raise UserError(f"--metrics: no metric is named; --against takes {', '.join((*SHORT, *own))}")
    with progress_bar() as bar:
        scores = compare_images(
            paths[0], against, [own.get(name, name) for name in names], weights=parse_options(weights), device=device,
            batch_size=batch_size, on_error="skip", progress=task(bar, "comparing"),
        )  # fmt: skip
    if out is not None:
        write_rows(out, PairScore, scores.rows)
    print_pairs(scores, out, as_json=as_json)
    if scores.problems or scores.unmatched:
        raise typer.Exit(1)


def _score_loose(
    images: Sequence[Path],
    cards: "Sequence[MetricCard]",
    prompts: str | None,
    references: Path | None,
    *,
    preset: str,
    weights: Mapping[str, Path],
    device: str | None,
    batch_size: int,
    out: Path | None,
) -> "ScoringResult[ImageScore]":
    """Score images that belong to no run with prompts and references."""
    from evalkit.cli.score_inputs import prompts_of, references_of
    from evalkit.run.feature_cache import own_folder
    from evalkit.run.score_table import ImageScore, write_rows
    from evalkit.scoring.result import ScoringResult
    from evalkit.scoring.scorer import Scorer

    texts = prompts_of(images, prompts) if prompts is not None else None
    groups = references_of(references) if references is not None else None
    cache = own_folder() / "features.sqlite"
    with Scorer(cards, preset=preset, weights=weights, device=device, batch_size=batch_size, cache=cache) as scorer:
        scores = scorer(images, prompts=texts, references=groups, on_error="skip")
    path = write_rows(out, ImageScore, scores) if out is not None else None
    return ScoringResult(path, list(scores), problems=scores.problems, notes=scores.notes, tally=scores.counts)


def _selected(
    names: str | None, plugins: Sequence[Path], run: Path | None, *, prompts: bool, references: bool
) -> "list[MetricCard]":
    """Return the metrics named; without names all whose inputs the run (or loose images) provide, and the plug-ins'."""
    from evalkit.errors import UserError
    from evalkit.metrics import METRICS
    from evalkit.metrics.iqa import metrics_by_name
    from evalkit.metrics.plugins import known_metrics
    from evalkit.run.manifest import Manifest
    from evalkit.scoring.file_scorer import needs_run
    from evalkit.scoring.run_scorer import default_metrics

    known = known_metrics(plugins)
    if names is not None:
        selected = [name.strip() for name in names.split(",") if name.strip()]
        if not selected:
            raise UserError("--metrics: no metric is named; `evalkit metrics` lists them")
        return metrics_by_name(known, selected)
    own = [card for name, card in known.items() if name not in known_metrics()]
    if run is not None:
        return [*default_metrics(Manifest.load(run)), *own]
    served = {"prompt": prompts, "text_image": prompts, "references": references, "image_pair": references}
    return [
        card
        for card in (*METRICS.values(), *own)
        if not card.on_request and (needs_run(card) is None or served.get(card.needs, False))
    ]
