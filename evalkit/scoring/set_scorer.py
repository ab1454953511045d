"""Hold whole sets of images against another set: paths in, one value per set and metric out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evalkit.distribution import install_command
from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError, unknown
from evalkit.metric_spec.set_metric import SetMetric
from evalkit.plural import plural
from evalkit.run.feature_cache import FeatureStore
from evalkit.run.score_table import Direction
from evalkit.scoring.feature_extraction import extract
from evalkit.scoring.file_scorer import file_item
from evalkit.scoring.image_requests import FeatureRequest, ScoringProblem
from evalkit.scoring.metric_models import load_models
from evalkit.scoring.result import ScoringResult
from evalkit.set_metrics import SET_METRICS

if TYPE_CHECKING:
    from evalkit.metric_spec.set_metric import Features

PACKAGES = ("torch", "torch_fidelity", "diffusers")


@dataclass(frozen=True, slots=True)
class SetScore:
    """How far a set of images is from the others by one metric; `images` and `others` count what was compared."""

    set: str
    metric: str
    value: float
    images: int
    others: int
    direction: Direction
    signature: str


def choose_sets(names: Sequence[str]) -> list[SetMetric]:
    """Return the set metrics of these names; raise a UserError that names the known ones if one is unknown."""
    for name in names:
        if name not in SET_METRICS:
            raise unknown("no metric of sets", name, SET_METRICS)
    return [metric for name, metric in SET_METRICS.items() if name in names]


def score_sets(
    sets: Mapping[str, Sequence[Path]],
    others: Sequence[Path],
    metrics: Sequence[str],
    store: FeatureStore,
    *,
    weights: Mapping[str, Path] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> ScoringResult[SetScore]:
    """Return how far each set of images is from the others, in the order of metrics and sets.

    Features of images are kept in `store`. An image that can't be read is left out of its set and named; a set that is
    smaller than a metric needs is compared all the same, with a note. `progress` receives how many images are finished.

    Raises:
        UserError: a set has fewer than two images, a metric is unknown, or the extra `sets` is not installed.
    """
    chosen = choose_sets(metrics)
    absent = [package for package in PACKAGES if find_spec(package) is None]
    if absent:
        raise UserError(f"metrics of sets need {' and '.join(absent)}; run: {install_command('sets')}")
    encoders, missing = load_models(chosen, weights or {}, device)
    result: ScoringResult[SetScore] = ScoringResult(
        None, (), missing, tuple(set_metric.name for set_metric in chosen if set_metric.model in missing)
    )
    groups = {name: _items(paths, tuple(encoders), result.problems) for name, paths in sets.items()}
    against = _items(others, tuple(encoders), result.problems)
    everything = [*against, *(item for group in groups.values() for item in group)]
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(everything))

    result.tally = extract(everything, encoders, store, batch_size=batch_size, progress=step)
    result.problems.extend(result.tally.problems)
    rows = []
    for metric in chosen:
        if metric.model not in encoders:
            continue
        recipe = encoders[metric.model].recipe
        theirs = _features(store, recipe.key, against)
        for name, group in groups.items():
            own = _features(store, recipe.key, group)
            if min(len(own), len(theirs)) < 2:
                raise UserError(
                    f"{metric.name} of {name}: {plural(len(own), 'image')} against {len(theirs)}; both need two at least"
                )
            if min(len(own), len(theirs)) < metric.least:
                result.notes.append(
                    f"{metric.name} of {name}: {plural(len(own), 'image')} against {len(theirs)}, which is few; "
                    f"with fewer than {metric.least:,} on either side it is unreliable"
                )
            with exact():
                value = metric.distance(own, theirs)
            signature = metric.signature(recipe)
            rows.append(SetScore(name, metric.name, value, len(own), len(theirs), metric.direction, signature))
    result.found = rows
    return result


def _items(paths: Sequence[Path], models: tuple[str, ...], problems: list[ScoringProblem]) -> list[FeatureRequest]:
    return [item for path in paths if (item := file_item(path, models, problems)) is not None]


def _features(store: FeatureStore, recipe: str, items: Sequence[FeatureRequest]) -> "Features":
    """Return the features of the items that have some, n x d; an image that is there twice counts twice."""
    features = store.get(recipe, [item.key for item in items])
    rows = [features[item.key] for item in items if item.key in features]
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)
