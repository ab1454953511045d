"""Comparison of images in pairs: two folders matched by file name, or two lists matched by position."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from evalkit.errors import MissingWeightsError, UserError
from evalkit.io.image_arrays import ValueRange, check_range
from evalkit.metric_spec.metric_card import MetricCard, Model
from evalkit.metric_spec.similarity import cosine
from evalkit.metrics import METRICS
from evalkit.plural import plural
from evalkit.run.feature_cache import FeatureStore, MemoryFeatureStore
from evalkit.run.score_table import Direction
from evalkit.scoring.arguments import iterable, paths_by_name, whole_number
from evalkit.scoring.feature_extraction import extract
from evalkit.scoring.file_scorer import find_images
from evalkit.scoring.image_inputs import ImageInput, ImageInputs, flat_images, try_image_request
from evalkit.scoring.image_requests import FeatureRequest, ScoringProblem
from evalkit.scoring.metric_models import load_models, select_metrics
from evalkit.scoring.pixel_pairs import pair_key, partners
from evalkit.scoring.scorer import OnError

if TYPE_CHECKING:
    import pandas as pd

# Short names of the metrics that compare the images of two arms.
SHORT: Mapping[str, str] = MappingProxyType(
    {"lpips": "arm_lpips", "ssim": "arm_ssim", "psnr": "arm_psnr", "dino": "arm_dino", "clip": "arm_similarity"}
)
NEEDS = ("other_arm", "other_arm_pixels", "image_pair")
Pair = tuple[FeatureRequest | None, FeatureRequest | None]


@dataclass(frozen=True, slots=True)
class PairScore:
    """The value of one metric for two images."""

    image: str
    other: str
    metric: str
    value: float
    direction: Direction
    signature: str


@dataclass
class PairScores:
    """Rows in the order of pairs and metrics; images that have no counterpart, notes, and what could not be scored."""

    rows: list[PairScore] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    problems: list[ScoringProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[PairScore]:
        """Yield the rows."""
        return iter(self.rows)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows], columns=[column.name for column in fields(PairScore)])


class PairScoringError(UserError):
    """Some pairs could not be compared; `scores` holds all other rows, and the problems."""

    def __init__(self, scores: PairScores) -> None:
        """Name the first problem, and how many there are."""
        more = len(scores.problems) - 1
        rest = f" (and {plural(more, 'more problem')}; on_error='skip' returns the other scores)" if more else ""
        super().__init__(f"{scores.problems[0].reason}{rest}")
        self.scores = scores


def pair_metrics(metrics: Sequence[str | MetricCard]) -> list[MetricCard]:
    """Return the metrics that compare two images, by short name, full name or card.

    Raises:
        UserError: a metric is unknown or does not compare two images.
    """
    if isinstance(metrics, str):
        raise UserError(f"metrics: is a single metric; give a list, [{metrics!r}]")
    entries = iterable("metrics", metrics, "a list of names, such as ['lpips', 'dino']")
    cards = select_metrics([SHORT.get(entry, entry) if isinstance(entry, str) else entry for entry in entries])
    for card in cards:
        if card.needs not in NEEDS:
            known = ", ".join((*SHORT, *(name for name, other in METRICS.items() if other.needs in NEEDS)))
            raise UserError(f"{card.name} does not compare two images; give some of {known}")
    return cards


def compare_images(
    left: "str | PathLike[str] | ImageInputs",
    right: "str | PathLike[str] | ImageInputs",
    metrics: Sequence[str | MetricCard],
    *,
    value_range: ValueRange | None = None,
    weights: Mapping[str, str | PathLike[str]] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    on_error: OnError = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> PairScores:
    """Compare images in pairs; see `evalkit.compare`."""
    if on_error not in get_args(OnError):
        raise UserError(f"on_error={on_error!r}: give 'raise' or 'skip'")
    check_range(value_range)
    cards = pair_metrics(metrics)
    scores = PairScores()
    couples = _couples(left, right, scores)
    models, missing = load_models(cards, paths_by_name("weights", weights), device)
    if missing:
        raise MissingWeightsError("; ".join(missing.values()))
    pairs = _requests(couples, cards, models, value_range, scores)
    store: FeatureStore = MemoryFeatureStore()
    # one pair after the other, so that few images wait for their counterparts
    wanted = [request for pair in pairs if None not in pair for request in pair if request is not None]
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(wanted))

    counts = extract(wanted, models, store, batch_size=whole_number("batch_size", batch_size), progress=step)
    scores.problems.extend(counts.problems)
    scores.notes.extend(counts.told())
    for one, other in pairs:
        if one is not None and other is not None:
            for card in cards:
                _add(scores, card, models[card.model], store, one, other)
    if scores.problems and on_error == "raise":
        raise PairScoringError(scores)
    return scores


def _add(
    scores: PairScores, card: MetricCard, model: Model, store: FeatureStore, left: FeatureRequest, right: FeatureRequest
) -> None:
    """Append a metric's row of a pair; an infinite value is noted and has no row."""
    recipe = model.recipe.key
    if card.needs == "other_arm":
        vectors = store.get(recipe, [left.key, right.key])
        whole = len(vectors) == len({left.key, right.key}) and all(vector.any() for vector in vectors.values())
        value = float(cosine(vectors[left.key], vectors[right.key])) if whole else None
    else:
        key = pair_key(left.key, right.key)
        stored = store.get(recipe, [key])
        value = float(stored[key][0]) if key in stored else None
    if value is None:
        if not any(problem.key in (left.key, right.key) for problem in scores.problems):
            reason = f"{left.name} and {right.name}: {card.name} has no value for them"
            scores.problems.append(ScoringProblem(left.name, left.key, card.model, reason))
    elif math.isfinite(value):
        scores.rows.append(PairScore(left.name, right.name, card.name, value, card.direction, card.signature(model.recipe)))
    else:
        scores.notes.append(f"{card.name}: {left.name} and {right.name} have the same pixels, so it is infinite and has no row")


def _requests(
    couples: Sequence[tuple[str, ImageInput, ImageInput]],
    cards: Sequence[MetricCard],
    models: Mapping[str, Model],
    value_range: ValueRange | None,
    scores: PairScores,
) -> list[Pair]:
    """Return the requests of each pair, with each other as partners of the models that see both."""
    names = tuple(models)
    pairs = [
        (
            try_image_request(one, f"left {name}", names, value_range, scores.problems),
            try_image_request(other, f"right {name}", names, value_range, scores.problems),
        )
        for name, one, other in couples
    ]
    others = partners((one.key, other.key) for one, other in pairs if one is not None and other is not None)
    seeing = {card.model for card in cards if card.needs != "other_arm"}

    def completed(request: FeatureRequest | None) -> FeatureRequest | None:
        if request is None or request.key not in others:
            return request
        return replace(request, partners={model: others[request.key] for model in seeing})

    return [(completed(one), completed(other)) for one, other in pairs]


def _couples(left: Any, right: Any, scores: PairScores) -> list[tuple[str, ImageInput, ImageInput]]:  # noqa: ANN401
    """Return the images of each pair with its name; those of folders that have no counterpart are listed in `scores`.

    Raises:
        UserError: nothing matches, lists differ in length, or one side is a folder and the other a list.
    """
    folders = [isinstance(side, (str, PathLike)) for side in (left, right)]
    if all(folders):
        own, theirs = _by_name(Path(left)), _by_name(Path(right))
        scores.unmatched = [str(path) for name, path in own.items() if name not in theirs]
        scores.unmatched += [str(path) for name, path in theirs.items() if name not in own]
        couples: list[tuple[str, ImageInput, ImageInput]] = [
            (name, path, theirs[name]) for name, path in own.items() if name in theirs
        ]
        if not couples:
            raise UserError(f"{left} and {right}: no image has the same name in both; names are compared without suffix")
        return couples
    if any(folders):
        raise UserError("compare: one side is a folder and the other a list; give two folders or two lists")
    ones, others = flat_images(left, "left"), flat_images(right, "right")
    if len(ones) != len(others) or not ones:
        raise UserError(
            f"compare: {plural(len(ones), 'image')} against {len(others)}; give as many on both sides, at least one"
        )
    return [(f"image {index}", one, other) for index, (one, other) in enumerate(zip(ones, others, strict=True))]


def _by_name(folder: Path) -> dict[str, Path]:
    """Return a folder's images by their path in it without suffix.

    Raises:
        UserError: it is not a folder, holds no image, or two of its images differ in their suffix alone.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give two folders, or two lists of images")
    images: dict[str, Path] = {}
    for path in find_images([str(folder)]):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in images:
            raise UserError(f"{folder}: {images[name].name} and {path.name} differ in their suffix alone; remove one of them")
        images[name] = path
    return images
