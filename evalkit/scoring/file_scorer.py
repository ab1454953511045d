"""Score images from any location: a folder, a pattern or single files in, one row per image and metric out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from glob import glob
from itertools import chain
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes
from evalkit.io.image_reader import read_bytes
from evalkit.metric_spec.metric_card import MetricCard, Model, feature_fault
from evalkit.run.feature_cache import FeatureCache, own_folder
from evalkit.run.score_table import GROUP, ImageScore, ParquetRows, write_rows
from evalkit.scoring.feature_extraction import extract, file_loader
from evalkit.scoring.image_requests import ExtractionCounts, FeatureRequest, ScoringProblem
from evalkit.scoring.lost_features import check_complete, with_renewed_cache
from evalkit.scoring.metric_models import load_models, select_metrics
from evalkit.scoring.result import ScoringResult

# Suffixes of image files in a folder. Pillow does not read those of the last line; they are reported, not passed over.
SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".jp2", ".j2k", ".jpx", ".bmp", ".dib",
    ".tif", ".tiff", ".gif", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".qoi",
    ".heic", ".heif", ".jxl", ".svg", ".avifs",
)  # fmt: skip
# What a metric compares an image with, as named in errors about scoring without a run.
LACKING = {
    "prompt": "prompts",
    "text_image": "prompts",
    "references": "references",
    "image_pair": "references",
    "concepts": "references",
}


def find_images(places: Sequence[str]) -> list[Path]:
    """Return the image files that folders, patterns and paths name, in the order of their names, each once.

    Raises:
        UserError: a place is nowhere, or holds no image.
    """
    images: dict[Path, None] = {}
    for pattern in places:
        path = Path(pattern)
        if path.is_dir():
            files = [
                file
                for file in path.rglob("*")
                if file.suffix.lower() in SUFFIXES and not file.is_dir() and _visible(file.relative_to(path))
            ]
            if not files:
                raise UserError(
                    f"{path}: contains neither manifest.json nor an image ({', '.join(SUFFIXES)}); "
                    f"make a run with `evalkit generate EXPERIMENT.toml --run {path}`, or give a folder of images"
                )
        elif path.is_file():
            files = [path]
        else:
            files = [Path(name) for name in glob(pattern, recursive=True) if Path(name).is_file()]
            if not files:
                raise UserError(f"{pattern}: no such file or folder, and no file matches it; give RUN, FOLDER or 'PATTERN'")
        images.update(dict.fromkeys(sorted(files)))
    return list(images)


def score_files(
    paths: Sequence[Path],
    metrics: Sequence[str | MetricCard],
    *,
    weights: Mapping[str, Path] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScoringResult[ImageScore]:
    """Score image files with metrics that need nothing but an image.

    The rows are written to `out`, whole or not at all, and read from there as they are asked for; without it, they are kept.

    What was computed once is kept in the user's cache folder by the image's bytes and the recipe. A file that can't be read
    costs its own rows and nothing else. `progress` receives how many images are finished, of how many.

    Raises:
        UserError: a metric compares images with what only a run has.
    """
    cards = select_metrics(metrics)
    for card in cards:
        reason = needs_run(card)
        if reason is not None:
            raise UserError(f"{card.name}: {reason}")
    encoders, missing = load_models(cards, weights or {}, device)
    result: ScoringResult[ImageScore] = ScoringResult(
        None, missing=missing, not_run=tuple(card.name for card in cards if card.model in missing)
    )
    cards = [card for card in cards if card.model in encoders]
    models = tuple(encoders)
    items = [item for path in paths if (item := file_item(path, models, result.problems)) is not None]
    done = len(paths) - len(items)

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(paths))

    step(0)
    with FeatureCache(own_folder() / "features.sqlite") as store:

        def extract_and_write(last: bool) -> None:
            nonlocal done
            done = len(paths) - len(items)
            tally = extract(items, encoders, store, batch_size=batch_size, progress=step)
            problems: list[ScoringProblem] = []
            lost: dict[str, dict[str, str]] = {card.model: {} for card in cards}
            complete: Iterator[ImageScore] = check_complete(lambda: list(lost.items()), problems, last=last)
            rows = chain(_rows(cards, encoders, items, store, tally, lost), complete)
            if out is None:
                result.found = list(rows)
            else:
                result.path = write_rows(out, ImageScore, rows)
                result.found = ParquetRows(out, ImageScore)
            result.tally = tally
            result.problems.extend([*tally.problems, *problems])

        with_renewed_cache(store, extract_and_write)
        result.notes.extend(store.notes)
    result.notes.extend(result.tally.told())
    return result


def _rows(
    cards: Sequence[MetricCard],
    encoders: Mapping[str, Model],
    items: Sequence[FeatureRequest],
    store: FeatureCache,
    tally: ExtractionCounts,
    lost: Mapping[str, dict[str, str]],
) -> Iterator[ImageScore]:
    """Yield the rows of the features in the store, metric by metric; add images without features or reason to `lost`."""
    for card in cards:
        failed = tally.failed(card.model)
        recipe = encoders[card.model].recipe
        signature = card.signature(recipe)
        for start in range(0, len(items), GROUP):
            part = items[start : start + GROUP]
            values = store.get(recipe.key, [item.key for item in part])
            for item in part:
                if item.key not in values:
                    if item.key not in failed:
                        lost[card.model][item.key] = item.name
                else:
                    feature_fault(card, values[item.key])
                    value = float(values[item.key][0])
                    yield ImageScore(item.name, item.key, card.name, "", value, card.direction, signature)


def needs_run(card: MetricCard) -> str | None:
    """Return why a metric can't score images that belong to no run, or None if it can."""
    if card.needs == "image":
        return None
    what = LACKING.get(card.needs, "other images of its run")
    return f"compares an image with {what}, which a run's manifest names; make a run with `evalkit import FOLDER --run RUN`"


def file_item(path: Path, models: tuple[str, ...], problems: list[ScoringProblem]) -> FeatureRequest | None:
    """Return a file as something to read, or None and a problem if it can't be opened."""
    try:
        key = sha256_bytes(read_bytes(path))
    except UserError as error:
        problems.append(ScoringProblem(str(path), "", "", str(error)))
        return None
    return FeatureRequest(key, str(path), file_loader(path, key), models)


def _visible(path: Path) -> bool:
    """Return whether no part of a path is hidden."""
    return not any(part.startswith(".") for part in path.parts)
