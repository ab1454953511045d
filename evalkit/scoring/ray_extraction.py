"""Extracts a run's features with the workers of a Ray cluster: each holds the models and sends back what they give."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError
from evalkit.metric_spec.metric_card import MetricCard, Model
from evalkit.metrics.plugins import is_plugin
from evalkit.run.feature_cache import Features, FeatureStore, MemoryFeatureStore
from evalkit.run.ray_workers import share
from evalkit.scoring.feature_extraction import extract, file_loader, unfinished
from evalkit.scoring.image_requests import ExtractionCounts, FeatureRequest
from evalkit.scoring.joint_keys import Texts
from evalkit.scoring.metric_models import load_models
from evalkit.scoring.pixel_pairs import Partners

# Features by recipe and image, and their cost.
Harvest = tuple[Mapping[str, Mapping[str, Features]], ExtractionCounts]


@dataclass(frozen=True)
class WorkBatch:
    """Pictures of some cases, each with its sha256, its path in the run, the models that should see it, its
    partners and its texts."""

    pictures: tuple[tuple[str, str, tuple[str, ...], Mapping[str, Partners], Mapping[str, tuple[Texts, ...]]], ...]


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker needs to know; `recipes` are those of the process that hired it, by model."""

    run: Path
    cards: tuple[MetricCard, ...]
    weights: Mapping[str, Path]
    device: str
    threads: int
    batch_size: int
    recipes: Mapping[str, str]

    @classmethod
    def of(
        cls,
        run: Path,
        cards: Sequence[MetricCard],
        weights: Mapping[str, Path],
        device: str | None,
        batch_size: int,
        encoders: Mapping[str, Model],
    ) -> "WorkerSettings":
        """Return the settings of workers like this process, with the models it has loaded."""
        import torch

        from evalkit.encoders.device import choose_device

        places = {name: path.absolute() for name, path in weights.items()}
        recipes = {name: encoder.recipe.key for name, encoder in encoders.items()}
        return cls(run.absolute(), tuple(cards), places, choose_device(device), torch.get_num_threads(), batch_size, recipes)


class ScoringWorker:
    """A worker: the models on one GPU, or on as many CPU threads as the process that hired it."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.encoders: dict[str, Model] = {}

    def do(self, piece: WorkBatch) -> Harvest:
        """Return the features of a piece; raise a UserError where this machine has other weights or libraries."""
        import torch

        torch.set_num_threads(self.settings.threads)
        self.encoders = self.encoders or self._loaded()
        store = MemoryFeatureStore()
        items = (
            FeatureRequest(key, path, file_loader(self.settings.run / path, key), models, partners, texts)
            for key, path, models, partners, texts in piece.pictures
        )
        tally = extract(items, self.encoders, store, batch_size=self.settings.batch_size)
        return store.everything(), tally

    def _loaded(self) -> dict[str, Model]:
        encoders, missing = load_models(self.settings.cards, self.settings.weights, self.settings.device)
        if missing:
            raise UserError(f"a worker lacks weights: {'; '.join(missing.values())}")
        for name, recipe in self.settings.recipes.items():
            if encoders[name].recipe.key != recipe:
                raise UserError(
                    f"a worker has another {name}: {encoders[name].recipe.key}, not {recipe}; install the same there"
                )
        return encoders


def extract_with_ray(
    settings: WorkerSettings,
    groups: Iterable[Sequence[FeatureRequest]],
    encoders: Mapping[str, Model],
    store: FeatureStore,
    address: str,
    progress: Callable[[int], None],
) -> ExtractionCounts:
    """Put the features of all groups of items into the store, those that are not there yet, and return what it took.

    Each group is a piece of work. The run must be readable under the same path everywhere.
    """
    from ray import cloudpickle

    for card in settings.cards:
        module = sys.modules[card.load.__module__]
        if is_plugin(module):
            # a worker can't import a file that no package holds
            cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    tally = ExtractionCounts(forwards=dict.fromkeys(encoders, 0), found=dict.fromkeys(encoders, 0))
    pieces = list(_pieces(groups, encoders, store, tally, progress))
    harvests: Generator[Harvest, None, None] = share(
        ScoringWorker, (settings,), pieces, address, device=settings.device, name=lambda piece: piece.pictures[0][1]
    )
    with closing(harvests):
        for features, took in harvests:
            for recipe, items in features.items():
                store.put(recipe, items)
            tally.add(took)
            progress(took.decodes + sum(not problem.model for problem in took.problems))
    return tally


def _pieces(
    groups: Iterable[Sequence[FeatureRequest]],
    encoders: Mapping[str, Model],
    store: FeatureStore,
    tally: ExtractionCounts,
    progress: Callable[[int], None],
) -> Iterator[WorkBatch]:
    """Yield what is left to do of each group."""
    for items in groups:
        left = tuple(
            (item.key, item.name, item.models, dict(item.partners), dict(item.texts))
            for item in unfinished(items, encoders, store, tally, progress)
        )
        if left:
            yield WorkBatch(left)
