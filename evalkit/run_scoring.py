"""Score a run: its images, references and prompts in, RUN/scores.parquet out; what is there already is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from evalkit.cache import FeatureCache, Store
from evalkit.card import MetricCard, Model
from evalkit.comparing import Task, pairs_wanted, referenced
from evalkit.comparing import rows as compared
from evalkit.errors import UserError
from evalkit.extract import Item, extract, file_loader
from evalkit.manifest import Case, Manifest, Picture
from evalkit.metrics import METRICS
from evalkit.pairing import Partners
from evalkit.presets import with_preset
from evalkit.scored import Scored
from evalkit.scores import FILE_NAME, GROUP, ScoreRow, StoredRows, write_rows
from evalkit.scoring import choose, load_encoders
from evalkit.scoring_fleet import Settings, extract_with_ray
from evalkit.shard import Shard
from evalkit.sharing import bring_together, cache_file, check_sharing, part_of, score_file, score_parts, shard_caches
from evalkit.signature import DEFAULT_PRESET
from evalkit.weights import FILE_NAME as WEIGHTS_FILE
from evalkit.weights import read_table

Progress = Callable[[int, int], None]
# The rows of a run that was scored before; none where it was not.
Earlier = StoredRows[ScoreRow] | tuple[ScoreRow, ...]


def score_run(
    run: Path,
    metrics: Sequence[str | MetricCard] | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    weights: Mapping[str, Path] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Scored[ScoreRow]:
    """Score a run with these metrics, or with all its manifest can serve, write its score file, and return all its rows.

    `preset` says whose numbers to make. Scores of metrics that are not asked for stay as they are. `progress` is told how many
    pictures are finished, of how many.

    Raises:
        UserError: the run lacks images, or a metric asked for can't be served by it.
    """
    result = write_run_scores(
        run, metrics, preset=preset, weights=weights, device=device, batch_size=batch_size, progress=progress
    )
    result.rows.extend(result.all_rows)
    result.stored = None
    return result


def write_run_scores(
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
) -> Scored[ScoreRow]:
    """Do what `score_run` does, and leave the rows in the file: what returns reads them as they are asked for.

    With `shard`, only its cases are scored, into a file of their own, and the run's score file holds what is finished so far;
    without it, what shards left is gathered first. With `ray`, the workers of that cluster compute (see `evalkit.fleet`).
    However a run is shared out, its rows are the same.
    """
    whole = Manifest.load(run).complete(run)
    _files_there(run, whole)
    chosen = _serving(whole, choose(metrics)) if metrics is not None else default_metrics(whole)
    cards = with_preset(chosen, preset)
    manifest = part_of(whole, shard.of(whole.cases)) if shard else whole
    if shard:
        check_sharing(run, shard)
    table = run / WEIGHTS_FILE
    given = {**(read_table(table) if table.exists() else {}), **(weights or {})}
    encoders, missing = load_encoders(cards, given, device)
    path = score_file(run, shard)
    result: Scored[ScoreRow] = Scored(path, [], missing, tuple(card.name for card in cards if card.model in missing))
    cards = [card for card in cards if card.model in encoders]
    earlier = _earlier(path, result.notes)
    left = () if shard else (*shard_caches(run), *score_parts(run))
    with FeatureCache(cache_file(run, shard)) as store:
        for other in () if shard else shard_caches(run):
            store.take_in(other)
        _remember(earlier, cards, encoders, store)
        if ray is None:
            items = list(_items(run, manifest, cards))
            count = _counter(progress, len(items))
            together = pairs_wanted(manifest, cards)
            result.tally = extract(items, encoders, store, batch_size=batch_size, progress=count, partners=together)
        else:
            settings = Settings.of(run, cards, given, device, batch_size, encoders)
            groups = list(_groups(run, manifest, cards, batch_size))
            count = _counter(progress, sum(len(items) for items, _ in groups))
            result.tally = extract_with_ray(settings, groups, encoders, store, ray, count)
        result.problems.extend(result.tally.problems)
        tasks = [Task(manifest, card, encoders[card.model], store) for card in cards]
        write_rows(path, ScoreRow, chain(_kept(earlier, manifest, tasks, result.notes), *map(compared, tasks)))
        for task in tasks:
            result.problems.extend(task.problems)
            result.notes.extend(task.notes)
        result.notes.extend(store.notes)
    if shard:
        found = bring_together(run, whole)
        result.notes.append(f"{found} of {shard.count} parts are scored; {run / FILE_NAME} holds what they found")
    for file in left:
        file.unlink(missing_ok=True)
    result.notes.extend(result.tally.told())
    result.stored = StoredRows(path, ScoreRow)
    return result


def default_metrics(manifest: Manifest) -> list[MetricCard]:
    """Return all metrics that a run can serve with its prompts, references and arms.

    Those that are run on request only are left out.
    """
    return [card for card in METRICS.values() if not card.on_request and _why_not(manifest, card) is None]


def _serving(manifest: Manifest, cards: Sequence[MetricCard]) -> list[MetricCard]:
    """Return the cards; raise a UserError where the run lacks what one of them needs."""
    for card in cards:
        reason = _why_not(manifest, card)
        if reason is not None:
            raise UserError(f"{card.name}: {reason}")
    return list(cards)


def _why_not(manifest: Manifest, card: MetricCard) -> str | None:
    """Return why a run can't serve a metric, or None where it can."""
    if card.needs == "references" and not any(referenced(manifest, case) for case in manifest.cases):
        return "no concept of this run has references; add some and import the run again"
    if card.needs == "prompt" and not any(case.plain_prompt.strip() for case in manifest.cases):
        return "no case of this run has a prompt"
    if card.needs in ("other_arm", "other_arm_pixels") and len(manifest.arms) < 2:
        return "this run has one arm, so there is none to compare it with"
    if card.needs in ("other_seeds", "other_seeds_pixels", "all_seeds") and all(len(case.seeds) < 2 for case in manifest.cases):
        return "no case of this run has two seeds"
    return None


def _files_there(run: Path, manifest: Manifest) -> None:
    """Raise a UserError that names the first file of the manifest that is gone."""
    pictures: list[Picture] = [*manifest.images, *(shown for concept in manifest.concepts for shown in concept.references)]
    gone = [picture.path for picture in pictures if not (run / picture.path).is_file()]
    if gone:
        raise UserError(f"{run}: {len(gone)} files of its manifest are gone, the first is {gone[0]}; put them back")


def _earlier(path: Path, notes: list[str]) -> Earlier:
    """Return the rows of a score file, read as they are asked for; none, and a note, where it can't be read."""
    if not path.exists():
        return ()
    try:
        rows = StoredRows(path, ScoreRow)
        # it must not happen half way that a damaged page is found
        rows.read_through()
    except UserError as error:
        notes.append(f"made anew: {error}")
        return ()
    return rows


def _remember(earlier: Earlier, cards: Sequence[MetricCard], encoders: Mapping[str, Model], store: Store) -> None:
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
            there = store.get(recipe, list(values))
            store.put(recipe, {key: value for key, value in values.items() if key not in there})


def _kept(earlier: Earlier, manifest: Manifest, tasks: Sequence[Task], notes: list[str]) -> Iterator[ScoreRow]:
    """Yield the earlier rows of other metrics whose image is still the manifest's; note the metrics with another recipe now."""
    signatures = {task.card.name: task.signature for task in tasks}
    there = {image.cell: image.sha256 for image in manifest.images} if earlier else {}
    replaced = set()
    for row in earlier:
        if row.metric not in signatures:
            if there.get((row.case, row.arm, row.seed)) == row.image_sha256:
                yield row
        elif row.signature != signatures[row.metric]:
            replaced.add(row.metric)
    notes.extend(f"{name}: earlier scores of another recipe were replaced" for name in sorted(replaced))


def _items(run: Path, manifest: Manifest, cards: Sequence[MetricCard]) -> Iterator[Item]:
    """Yield every different picture once, with the models that should see it; those of one case and seed together."""
    all_models = tuple(dict.fromkeys(card.model for card in cards))
    with_references = tuple(dict.fromkeys(card.model for card in cards if card.needs == "references"))
    rank = {case.id: place for place, case in enumerate(manifest.cases)}
    images = sorted(manifest.images, key=lambda image: (rank[image.case], image.seed))
    shown = (picture for case in manifest.cases for _, every in referenced(manifest, case) for picture in every)
    wanted: dict[str, tuple[Picture, tuple[str, ...]]] = {}
    for picture, models in chain(((image, all_models) for image in images), ((picture, with_references) for picture in shown)):
        wanted.setdefault(picture.sha256, (picture, models))
    for sha256, (picture, models) in wanted.items():
        yield Item(sha256, picture.path, file_loader(run / picture.path, sha256), models)


def _groups(
    run: Path, manifest: Manifest, cards: Sequence[MetricCard], batch_size: int
) -> Iterator[tuple[list[Item], dict[str, Partners]]]:
    """Yield what `_items` yields in groups of whole cases that fill a batch at least, each with who is compared with whom.

    A reference stands in the first group that needs it, and an image whose bytes two groups share in both: its partners are.
    """
    shown = {picture.sha256 for concept in manifest.concepts for picture in concept.references}
    done: set[str] = set()
    cases: list[Case] = []
    for case in manifest.cases:
        cases.append(case)
        if case is manifest.cases[-1] or sum(len(one.seeds) for one in cases) * len(manifest.arms) >= batch_size:
            part = part_of(manifest, cases)
            items = [item for item in _items(run.absolute(), part, cards) if item.key not in done]
            done.update(item.key for item in items if item.key in shown)
            yield items, pairs_wanted(part, cards)
            cases = []


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
