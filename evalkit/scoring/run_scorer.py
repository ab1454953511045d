"""Score a run: its images, references and prompts in, RUN/scores.parquet out; what is there already is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from evalkit.errors import UserError
from evalkit.metric_spec.metric_card import MetricCard, Model
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.metrics import METRICS
from evalkit.metrics.presets import with_preset
from evalkit.plural import plural
from evalkit.run.feature_cache import FeatureCache, FeatureStore
from evalkit.run.manifest import ImageIndex, Manifest
from evalkit.run.score_table import FILE_NAME, GROUP, ParquetRows, RunScore, write_rows
from evalkit.run.shard import Shard
from evalkit.scoring.feature_comparison import rows as compared
from evalkit.scoring.feature_extraction import extract
from evalkit.scoring.image_requests import ScoringProblem
from evalkit.scoring.lost_features import check_complete, with_renewed_cache
from evalkit.scoring.metric_models import load_models, select_metrics
from evalkit.scoring.metric_task import MetricTask, referenced
from evalkit.scoring.ray_extraction import WorkerSettings, extract_with_ray
from evalkit.scoring.result import ScoringResult
from evalkit.scoring.run_requests import OF_REFERENCES, count_images, request_groups, requests_of_cases, requests_of_references
from evalkit.scoring.sharded_scores import (
    cache_file,
    check_sharing,
    merge_shards,
    part_of,
    score_file,
    score_parts,
    shard_caches,
)
from evalkit.weights.lookup import FILE_NAME as WEIGHTS_FILE
from evalkit.weights.lookup import read_table

Progress = Callable[[int, int], None]
# The rows of a run that was scored before; none if it was not.
Earlier = ParquetRows[RunScore] | tuple[RunScore, ...]


def score_run(
    run: Path,
    metrics: Sequence[str | MetricCard] | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    weights: Mapping[str, Path] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
    shard: Shard | None = None,
    ray: str | None = None,
    in_memory: bool = True,
) -> ScoringResult[RunScore]:
    """Score a run with these metrics, or with all its manifest can serve, write its score file, and return all its rows.

    Without `in_memory`, the rows stay in the file, and what returns reads them as they are asked for.

    `preset` names the convention. Scores of metrics that are not asked for stay as they are. `progress` is told how many
    images are finished, of how many.

    With `shard`, only its cases are scored, into a separate file, and the run's score file holds what is finished so far;
    without it, what shards left is gathered first. With `ray`, the workers of that cluster compute
    (see `evalkit.run.ray_workers`).
    However a run is shared out, its rows are the same.

    Raises:
        UserError: the run lacks images, or a metric asked for can't be served by it.
    """
    whole = Manifest.load(run).complete(run)
    _files_there(run, whole)
    chosen = _serving(whole, select_metrics(metrics)) if metrics is not None else default_metrics(whole)
    cards = with_preset(chosen, preset)
    manifest = part_of(whole, shard.of(whole.cases)) if shard else whole
    if shard:
        check_sharing(run, shard)
    table = run / WEIGHTS_FILE
    given = {**(read_table(table) if table.exists() else {}), **(weights or {})}
    encoders, missing = load_models(cards, given, device)
    path = score_file(run, shard)
    result: ScoringResult[RunScore] = ScoringResult(
        path, (), missing, tuple(card.name for card in cards if card.model in missing)
    )
    cards = [card for card in cards if card.model in encoders]
    earlier = _earlier(path, result.notes)
    left = () if shard else (*shard_caches(run), *score_parts(run))
    with FeatureCache(cache_file(run, shard)) as store:
        for other in () if shard else shard_caches(run):
            store.take_in(other)
        _remember(earlier, cards, encoders, store)

        def extract_and_write(last: bool) -> None:
            count = _counter(progress, count_images(manifest))
            if ray is None:
                # references first: those that are compared as pairs wait, not the many images
                items = chain(requests_of_references(run, manifest, cards), requests_of_cases(run, manifest, cards))
                tally = extract(items, encoders, store, batch_size=batch_size, progress=count)
            else:
                settings = WorkerSettings.of(run, cards, given, device, batch_size, encoders)
                groups = request_groups(run, manifest, cards, batch_size)
                tally = extract_with_ray(settings, groups, encoders, store, ray, count)
            tasks = [MetricTask(manifest, card, encoders[card.model], store, failed=tally.failed(card.model)) for card in cards]
            notes: list[str] = []
            problems: list[ScoringProblem] = []
            complete: Iterator[RunScore] = check_complete(
                lambda: [(task.card.model, task.lost) for task in tasks], problems, last=last
            )
            earlier_rows = _kept(earlier, manifest, tasks, notes)
            write_rows(path, RunScore, chain(earlier_rows, *map(compared, tasks), complete))
            result.tally = tally
            result.problems.extend([*tally.problems, *(problem for task in tasks for problem in task.problems), *problems])
            result.notes.extend([*notes, *(note for task in tasks for note in task.notes)])

        with_renewed_cache(store, extract_and_write)
        result.notes.extend(store.notes)
    if shard:
        merged = merge_shards(run, whole)
        result.notes.append(f"{merged} of {plural(shard.count, 'part')} scored; {run / FILE_NAME} holds what they found")
    for file in left:
        file.unlink(missing_ok=True)
    result.notes.extend(result.tally.told())
    stored = ParquetRows(path, RunScore)
    result.found = list(stored) if in_memory else stored
    return result


def default_metrics(manifest: Manifest) -> list[MetricCard]:
    """Return all metrics that a run can serve with its prompts, references and arms.

    Those that are run on request only are left out.
    """
    return [card for card in METRICS.values() if not card.on_request and _why_not(manifest, card) is None]


def _serving(manifest: Manifest, cards: Sequence[MetricCard]) -> list[MetricCard]:
    """Return the cards; raise a UserError if the run lacks what one of them needs."""
    for card in cards:
        reason = _why_not(manifest, card)
        if reason is not None:
            raise UserError(f"{card.name}: {reason}")
    return list(cards)


def _why_not(manifest: Manifest, card: MetricCard) -> str | None:
    """Return why a run can't serve a metric, or None if it can."""
    if card.needs in OF_REFERENCES and not any(referenced(manifest, case) for case in manifest.cases):
        return "no concept of this run has references; add some and import the run again"
    if card.needs in ("prompt", "text_image") and not any(case.plain_prompt.strip() for case in manifest.cases):
        return "no case of this run has a prompt"
    if card.needs in ("other_arm", "other_arm_pixels") and len(manifest.arms) < 2:
        return "this run has one arm, so there is no other to compare it with"
    if card.needs in ("other_seeds", "other_seeds_pixels", "all_seeds") and all(len(case.seeds) < 2 for case in manifest.cases):
        return "no case of this run has two seeds"
    return None


def _files_there(run: Path, manifest: Manifest) -> None:
    """Raise a UserError that names the first file of the manifest that is gone."""
    pictures = chain(manifest.images, (shown for concept in manifest.concepts for shown in concept.references))
    gone = (picture.path for picture in pictures if not (run / picture.path).is_file())
    first = next(gone, None)
    if first is not None:
        count = 1 + sum(1 for _ in gone)
        raise UserError(
            f"{run}: {plural(count, 'file of its manifest is', 'files of its manifest are')} missing, "
            f"the first is {first}; put them back"
        )


def _earlier(path: Path, notes: list[str]) -> Earlier:
    """Return the rows of a score file, read as they are asked for; none, and a note, if it can't be read."""
    if not path.exists():
        return ()
    try:
        rows = ParquetRows(path, RunScore)
        # it must not happen half way that a damaged page is found
        rows.read_through()
    except UserError as error:
        notes.append(f"rebuilt: {error}")
        return ()
    return rows


def _remember(earlier: Earlier, cards: Sequence[MetricCard], encoders: Mapping[str, Model], store: FeatureStore) -> None:
    """Put earlier scores that hold for an image by itself back into a store that lost them.

    Scores against prompts, references or other arms are always made from features: the manifest might have other prompts or
    references than when they were made.
    """
    recipes = {
        card.signature(encoders[card.model].recipe): encoders[card.model].recipe.key for card in cards if card.needs == "image"
    }
    known = (row for row in earlier if row.signature in recipes)
    while group := list(islice(known, GROUP)):
        for signature, recipe in recipes.items():
            values = {row.image_sha256: np.array([row.value], dtype=np.float32) for row in group if row.signature == signature}
            stored = store.get(recipe, list(values))
            store.put(recipe, {key: value for key, value in values.items() if key not in stored})


def _kept(earlier: Earlier, manifest: Manifest, tasks: Sequence[MetricTask], notes: list[str]) -> Iterator[RunScore]:
    """Yield the earlier rows of other metrics whose image is still the manifest's; note the metrics with another recipe now."""
    signatures = {task.card.name: task.signature for task in tasks}
    places = ImageIndex(manifest)
    replaced = set()
    for row in earlier:
        if row.metric not in signatures:
            index = places.find((row.case, row.arm, row.seed))
            if index is not None and manifest.images[index].sha256 == row.image_sha256:
                yield row
        elif row.signature != signatures[row.metric]:
            replaced.add(row.metric)
    notes.extend(f"{name}: earlier scores of another recipe were replaced" for name in sorted(replaced))


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return what turns single steps into a running count."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    step(0)
    return step
