"""Feature extraction: each image is decoded once for all models, in threads, while the models compute."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes
from evalkit.io.image_reader import Pixels, decode, read_bytes
from evalkit.metric_spec.metric_card import Encoder, JointEncoder, Model, PairEncoder
from evalkit.run.feature_cache import FeatureStore
from evalkit.scoring.decode_prefetch import prefetch
from evalkit.scoring.image_requests import ExtractionCounts, FeatureRequest, ScoringProblem
from evalkit.scoring.joint_keys import lacking_texts
from evalkit.scoring.model_calls import prepare
from evalkit.scoring.model_queues import BatchQueue, JointQueue, PairQueue
from evalkit.scoring.pixel_pairs import NO_PARTNERS, lacking

if TYPE_CHECKING:
    from torch import Tensor

# Images that are looked up in the store at a time.
STRIDE = 256
Progress = Callable[[int], None]
Queue = BatchQueue | PairQueue | JointQueue


def file_loader(path: Path, sha256: str) -> Callable[[], Pixels]:
    """Return what reads an image whose bytes must have this hash."""

    def load() -> Pixels:
        data = read_bytes(path)
        if sha256_bytes(data) != sha256:
            raise UserError(
                f"{path}: has changed since the run was made: its sha256 is no longer {sha256[:12]}…"
                "; restore the image, or make the run again"
            )
        return decode(data, str(path))

    return load


def extract(
    items: Iterable[FeatureRequest],
    encoders: Mapping[str, Model],
    store: FeatureStore,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    workers: int | None = None,
) -> ExtractionCounts:
    """Put the features of all items into the store, those that are not there yet, and return what it took.

    An image is read, decoded and shrunk in a thread, once for all models that lack it; at most a few batches are in memory,
    and of large images, if a model sees their full size, fewer.
    An image that can't be read is a separate problem and stops nothing. `progress` receives how many items are finished.
    Items are taken as they are needed; keep partners close to each other, for they wait for each other in memory.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: give 1 at least")
    tally = ExtractionCounts(forwards=dict.fromkeys(encoders, 0), found=dict.fromkeys(encoders, 0))
    lines = {name: _queue(name, model, store, batch_size, tally) for name, model in encoders.items()}
    threads = workers or min(4, os.cpu_count() or 1)
    todo = unfinished(items, encoders, store, tally, progress or _silent)
    coming = prefetch(todo, lambda item: _prepare(item, encoders), _weight, threads=threads, depth=2 * threads + batch_size)
    with closing(coming):
        for item, result in coming:
            _take(item, result, lines, tally)
            (progress or _silent)(1)
    for line in lines.values():
        line.finish()
    return tally


def compares(model: Model) -> bool:
    """Return whether a model sees two images at once."""
    return hasattr(model, "compare")


def judges(model: Model) -> bool:
    """Tell whether a model sees an image together with a text, or looks for phrases in it."""
    return hasattr(model, "judge") or hasattr(model, "detect")


def _queue(name: str, model: Model, store: FeatureStore, batch_size: int, tally: ExtractionCounts) -> Queue:
    """Return the queue of a model of any kind."""
    if compares(model):
        return PairQueue(name, cast("PairEncoder", model), store, tally)
    if judges(model):
        return JointQueue(name, cast("JointEncoder", model), store, tally)
    return BatchQueue(name, cast("Encoder", model), store, batch_size, tally)


def _silent(_: int) -> None:
    """Report nothing."""


def unfinished(
    items: Iterable[FeatureRequest],
    encoders: Mapping[str, Model],
    store: FeatureStore,
    tally: ExtractionCounts,
    progress: Progress,
) -> Iterator[FeatureRequest]:
    """Yield each different image that lacks features, with the models that lack them; count the others as found.

    An image may come again with other partners: the store decides whether it lacks scores with them.
    """
    # the images that came before, by the models requested for them: there are one or two such sets of models
    seen: dict[tuple[str, ...], set[bytes]] = {}
    coming = iter(items)
    while part := list(islice(coming, STRIDE)):
        stored = {
            name: store.get(model.recipe.key, [item.key for item in part if name in item.models])
            for name, model in encoders.items()
            if not (compares(model) or judges(model))
        }
        for item in part:
            key = bytes.fromhex(item.key)
            before = {name for models, keys in seen.items() if key in keys for name in models if name in stored}
            fresh = [name for name in item.models if name not in before]
            seen.setdefault(item.models, set()).add(key)
            left = tuple(
                name
                for name in fresh
                if (item.key not in stored[name] if name in stored else _lacks(item, name, encoders[name], store))
            )
            for name in fresh:
                tally.found[name] += name not in left
            if left:
                yield replace(item, models=left)
            else:
                progress(1)


def _lacks(item: FeatureRequest, name: str, model: Model, store: FeatureStore) -> bool:
    """Tell whether a picture must still be compared with one of its partners, or judged with one of its texts."""
    if judges(model):
        return bool(lacking_texts(store, model.recipe.key, item.key, item.texts.get(name, ())))
    return bool(lacking(store, model.recipe.key, item.key, item.partners.get(name, NO_PARTNERS)))


@dataclass(frozen=True)
class _PreparedImage:
    """One decoded image as the input of every model that lacks it."""

    inputs: "Mapping[str, Tensor]"
    refused: Mapping[str, str]
    notes: tuple[str, ...]


def _prepare(item: FeatureRequest, encoders: Mapping[str, Model]) -> _PreparedImage:
    pixels = item.load()
    inputs: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    width, height = pixels.image.size
    for name in item.models:
        encoder = encoders[name]
        if min(width, height) < encoder.smallest_side:
            refused[name] = f"{width} x {height} pixels are too few; {name} needs {encoder.smallest_side} on each side"
            continue
        try:
            inputs[name] = prepare(name, encoder, pixels)
        except UserError as error:
            refused[name] = str(error)
    return _PreparedImage(inputs, refused, pixels.notes)


def _weight(prepared: _PreparedImage) -> int:
    """Return the bytes of a prepared image."""
    return sum(tensor.nbytes for tensor in prepared.inputs.values())


def _take(
    item: FeatureRequest,
    result: "Future[_PreparedImage]",
    lines: Mapping[str, Queue],
    tally: ExtractionCounts,
) -> None:
    """Hand a prepared image to its models, or note why it can't be read."""
    try:
        prepared = result.result()
    except UserError as error:
        tally.problems.append(ScoringProblem(item.name, item.key, "", str(error)))
        for name in item.models:
            lines[name].lose(item)
        return
    tally.decodes += 1
    if prepared.notes:
        tally.notes[item.name] = prepared.notes
    for name, reason in prepared.refused.items():
        tally.problems.append(ScoringProblem(item.name, item.key, name, f"{item.name}: {reason}"))
        lines[name].lose(item)
    for name, tensor in prepared.inputs.items():
        lines[name].add(item, tensor)
