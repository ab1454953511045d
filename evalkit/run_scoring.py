"""Score a run: its images, references and prompts in, RUN/scores.parquet out; what is there already is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from evalkit.cache import FILE_NAME as CACHE
from evalkit.cache import FeatureCache
from evalkit.card import MetricCard, Model
from evalkit.comparing import Known, Task, pairs_wanted, referenced
from evalkit.comparing import rows as compared
from evalkit.errors import UserError
from evalkit.extract import Item, extract, file_loader
from evalkit.manifest import Manifest, Picture
from evalkit.metrics import METRICS
from evalkit.presets import with_preset
from evalkit.scored import Scored
from evalkit.scores import FILE_NAME, ScoreRow, read_scores, write_scores
from evalkit.scoring import choose, load_encoders
from evalkit.signature import DEFAULT_PRESET
from evalkit.weights import FILE_NAME as WEIGHTS_FILE
from evalkit.weights import read_table

Progress = Callable[[int, int], None]


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
    """Score a run with these metrics, or with all its manifest can serve, and write its score file.

    `preset` says whose numbers to make. Scores of metrics that are not asked for stay as they are. `progress` is told how many
    pictures are finished, of how many.

    Raises:
        UserError: the run lacks images, or a metric asked for can't be served by it.
    """
    manifest = Manifest.load(run).complete(run)
    _files_there(run, manifest)
    chosen = _serving(manifest, choose(metrics)) if metrics is not None else default_metrics(manifest)
    cards = with_preset(chosen, preset)
    table = run / WEIGHTS_FILE
    given = {**(read_table(table) if table.exists() else {}), **(weights or {})}
    encoders, missing = load_encoders(cards, given, device)
    result: Scored[ScoreRow] = Scored(run / FILE_NAME, [], missing, tuple(card.name for card in cards if card.model in missing))
    cards = [card for card in cards if card.model in encoders]
    earlier = _earlier(run, result.notes)
    known = _known(earlier, cards, encoders)
    with FeatureCache(run / CACHE) as store:
        items = list(_items(run, manifest, cards, encoders, known))
        count = _counter(progress, len(items))
        together = pairs_wanted(manifest, cards)
        result.tally = extract(items, encoders, store, batch_size=batch_size, progress=count, partners=together)
        result.problems.extend(result.tally.problems)
        rows: list[ScoreRow] = []
        for card in cards:
            task = Task(manifest, card, encoders[card.model], store, known)
            rows.extend(compared(task))
            result.problems.extend(task.problems)
            result.notes.extend(task.notes)
        result.notes.extend(store.notes)
    result.notes.extend(f"{name}: {', '.join(done)}" for name, done in sorted(result.tally.notes.items()))
    scored = {card.name: card.signature(encoders[card.model].recipe) for card in cards}
    replaced = sorted({row.metric for row in earlier if scored.get(row.metric, row.signature) != row.signature})
    result.notes.extend(f"{name}: earlier scores of another recipe were replaced" for name in replaced)
    there = {(image.cell, image.sha256) for image in manifest.images}
    result.rows = [
        *(row for row in earlier if row.metric not in scored and ((row.case, row.arm, row.seed), row.image_sha256) in there),
        *rows,
    ]
    write_scores(run, result.rows)
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


def _earlier(run: Path, notes: list[str]) -> list[ScoreRow]:
    """Return the rows of the run's score file; none, and a note, where it can't be read."""
    if not (run / FILE_NAME).exists():
        return []
    try:
        return read_scores(run)
    except UserError as error:
        notes.append(f"made anew: {error}")
        return []


def _known(earlier: Sequence[ScoreRow], cards: Sequence[MetricCard], encoders: Mapping[str, Model]) -> Known:
    """Return the scores that hold for an image by itself and need no computing.

    Scores against prompts, references or other arms are always made from features, which the cache keeps: the manifest might
    have other prompts or references than when they were made.
    """
    valid = {card.name: card.signature(encoders[card.model].recipe) for card in cards if card.needs == "image"}
    return {(row.metric, row.image_sha256): row.value for row in earlier if valid.get(row.metric) == row.signature}


def _items(
    run: Path, manifest: Manifest, cards: Sequence[MetricCard], encoders: Mapping[str, Model], known: Known
) -> Iterator[Item]:
    """Yield every different picture once, with the models that should see it; those of one case and seed together."""
    wanted: dict[str, tuple[Picture, dict[str, None]]] = {}
    rank = {case.id: place for place, case in enumerate(manifest.cases)}
    for image in sorted(manifest.images, key=lambda image: (rank[image.case], image.seed)):
        models = {card.model: None for card in cards if (card.name, image.sha256) not in known}
        wanted.setdefault(image.sha256, (image, {}))[1].update(models)
    with_references = {card.model: None for card in cards if card.needs == "references"}
    for case in manifest.cases:
        for _, shown in referenced(manifest, case):
            for reference in shown:
                wanted.setdefault(reference.sha256, (reference, {}))[1].update(with_references)
    for sha256, (picture, models) in wanted.items():
        yield Item(
            sha256, picture.path, file_loader(run / picture.path, sha256), tuple(name for name in encoders if name in models)
        )


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
