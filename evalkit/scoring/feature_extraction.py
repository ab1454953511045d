"""Pictures to features: every picture is decoded once for all models, while the models compute."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes
from evalkit.io.image_reader import Pixels, decode, read_bytes
from evalkit.metric_spec.metric_card import Encoder, Model, PairEncoder
from evalkit.plural import plural
from evalkit.run.feature_cache import FeatureStore
from evalkit.scoring.decode_prefetch import prefetch
from evalkit.scoring.pixel_pairs import PairMatcher, Partners, lacking

if TYPE_CHECKING:
    from torch import Tensor

# ImageInputs of many sizes wait in line per size; beyond this many times the batch size, a batch goes out unfilled.
LONGEST_WAIT = 4
# Pixels that go through a model at once, if more than one picture does: 32 of 1024 x 1024.
LARGEST_AREA = 2**25
# How many pictures are looked up in the store at a time.
STRIDE = 256
NOBODY: Partners = frozenset()
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A picture to read: its sha256, how messages call it, and the models that should see it.

    `partners` says for each model that sees two pictures at once which others it should compare this one with.
    """

    key: str
    name: str
    load: Callable[[], Pixels]
    models: tuple[str, ...]
    partners: Mapping[str, Partners] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoringProblem:
    """A picture without some of its scores, and why. `model` is empty where it concerns all of them."""

    name: str
    key: str
    model: str
    reason: str


@dataclass
class ExtractionCounts:
    """What it took: decoded pictures, forward passes and features found per model; problems; what was done to pictures."""

    decodes: int = 0
    forwards: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    problems: list[ScoringProblem] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def told(self) -> list[str]:
        """Return what was done to pictures, a line for each kind; where it was done to many, the first is named."""
        names: dict[str, list[str]] = {}
        for name in sorted(self.notes):
            for note in self.notes[name]:
                names.setdefault(note, []).append(name)
        return [
            f"{among[0]}: {note}" if len(among) == 1 else f"{plural(len(among), 'image')}: {note}; the first is {among[0]}"
            for note, among in names.items()
        ]

    def add(self, other: "ExtractionCounts") -> None:
        """Take in what another took; what was found there was found here before."""
        self.decodes += other.decodes
        for name, count in other.forwards.items():
            self.forwards[name] += count
        self.problems.extend(other.problems)
        self.notes.update(other.notes)


def file_loader(path: Path, sha256: str) -> Callable[[], Pixels]:
    """Return what reads a picture whose bytes must have this hash."""

    def load() -> Pixels:
        data = read_bytes(path)
        if sha256_bytes(data) != sha256:
            raise UserError(f"{path}: has changed since the run was made: its sha256 is no longer {sha256[:12]}…")
        return decode(data, str(path))

    return load


def extract(
    items: Iterable[ImageRequest],
    encoders: Mapping[str, Model],
    store: FeatureStore,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    workers: int | None = None,
) -> ExtractionCounts:
    """Put the features of all items into the store, those that are not there yet, and tell what it took.

    A picture is read, decoded and shrunk in a thread, once for all models that lack it; at most a few batches are in memory,
    and of large pictures, where a model sees their own size, fewer.
    A picture that can't be read is a problem of its own and stops nothing. `progress` is told how many items are finished.
    Items are taken as they are needed; keep partners close to each other, for they wait for each other in memory.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: give 1 at least")
    tally = ExtractionCounts(forwards=dict.fromkeys(encoders, 0), found=dict.fromkeys(encoders, 0))
    lines: dict[str, _BatchQueue | _PairQueue] = {
        name: _PairQueue(name, cast("PairEncoder", model), store, tally)
        if compares(model)
        else _BatchQueue(name, cast("Encoder", model), store, batch_size, tally)
        for name, model in encoders.items()
    }
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
    """Tell whether a model sees two pictures at once."""
    return hasattr(model, "compare")


def _silent(_: int) -> None:
    """Tell nobody."""


def unfinished(
    items: Iterable[ImageRequest],
    encoders: Mapping[str, Model],
    store: FeatureStore,
    tally: ExtractionCounts,
    progress: Progress,
) -> Iterator[ImageRequest]:
    """Yield each different picture that lacks features, with the models that lack them; count the others as found.

    A picture may come again with other partners: whether it lacks scores with them, the store alone says.
    """
    # the pictures that came before, by the models that were asked of them: there are one or two such sets of models
    seen: dict[tuple[str, ...], set[bytes]] = {}
    coming = iter(items)
    while part := list(islice(coming, STRIDE)):
        there = {
            name: store.get(model.recipe.key, [item.key for item in part if name in item.models])
            for name, model in encoders.items()
            if not compares(model)
        }
        for item in part:
            key = bytes.fromhex(item.key)
            before = {name for models, keys in seen.items() if key in keys for name in models if name in there}
            fresh = [name for name in item.models if name not in before]
            seen.setdefault(item.models, set()).add(key)
            left = tuple(
                name
                for name in fresh
                if (item.key not in there[name] if name in there else _lacks_pairs(item, name, encoders[name], store))
            )
            for name in fresh:
                tally.found[name] += name not in left
            if left:
                yield replace(item, models=left)
            else:
                progress(1)


def _lacks_pairs(item: ImageRequest, name: str, model: Model, store: FeatureStore) -> bool:
    """Tell whether a picture must still be compared with one of its partners."""
    return bool(lacking(store, model.recipe.key, item.key, item.partners.get(name, NOBODY)))


@dataclass(frozen=True)
class _PreparedImage:
    """One decoded picture as the input of every model that lacks it."""

    inputs: "Mapping[str, Tensor]"
    refused: Mapping[str, str]
    notes: tuple[str, ...]


def _prepare(item: ImageRequest, encoders: Mapping[str, Model]) -> _PreparedImage:
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
            inputs[name] = encoder.prepare(pixels)
        except UserError as error:
            refused[name] = str(error)
    return _PreparedImage(inputs, refused, pixels.notes)


def _weight(prepared: _PreparedImage) -> int:
    """Return the bytes of a prepared picture."""
    return sum(tensor.nbytes for tensor in prepared.inputs.values())


def _take(
    item: ImageRequest,
    result: "Future[_PreparedImage]",
    lines: "Mapping[str, _BatchQueue | _PairQueue]",
    tally: ExtractionCounts,
) -> None:
    """Hand a prepared picture to its models, or note why it can't be read."""
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


class _BatchQueue:
    """Pictures waiting for one model, by size; a full batch goes through at once."""

    def __init__(self, name: str, encoder: Encoder, store: FeatureStore, batch_size: int, tally: ExtractionCounts) -> None:
        self.name, self.encoder, self.store, self.tally = name, encoder, store, tally
        self.batch_size = min(batch_size, encoder.largest_batch)
        self.waiting: dict[tuple[int, ...], list[tuple[ImageRequest, Tensor]]] = {}

    def add(self, item: ImageRequest, tensor: "Tensor") -> None:
        """Put a picture in line, and compute the batch that it fills."""
        shape = tuple(tensor.shape)
        line = self.waiting.setdefault(shape, [])
        line.append((item, tensor))
        if len(line) >= min(self.batch_size, max(1, LARGEST_AREA // (shape[-2] * shape[-1]))):
            self._compute(shape)
        elif sum(map(len, self.waiting.values())) > LONGEST_WAIT * self.batch_size:
            self._compute(max(self.waiting, key=lambda size: len(self.waiting[size])))

    def lose(self, item: ImageRequest) -> None:
        """Do without a picture: no other waits for it."""

    def finish(self) -> None:
        """Compute what is still in line."""
        for shape in list(self.waiting):
            self._compute(shape)

    def _compute(self, shape: tuple[int, ...]) -> None:
        import torch

        batch = self.waiting.pop(shape)
        features = self.encoder.features(torch.stack([tensor for _, tensor in batch]))
        self.tally.forwards[self.name] += 1
        whole = {}
        for (item, _), vector in zip(batch, features, strict=True):
            if np.isfinite(vector).all():
                whole[item.key] = vector
            else:
                reason = f"{item.name}: {self.name} gives no finite number for it"
                self.tally.problems.append(ScoringProblem(item.name, item.key, self.name, reason))
        self.store.put(self.encoder.recipe.key, whole)


class _PairQueue:
    """Pictures of one model that compares two at a time."""

    def __init__(self, name: str, encoder: PairEncoder, store: FeatureStore, tally: ExtractionCounts) -> None:
        self.name, self.tally = name, tally
        self.pairing = PairMatcher(encoder, store)

    def add(self, item: ImageRequest, tensor: "Tensor") -> None:
        """Compare a picture with those of its partners that are there."""
        count, unequal = self.pairing.add(item.key, tensor, item.partners.get(self.name, NOBODY))
        self.tally.forwards[self.name] += count
        if unequal:
            height, width = tensor.shape[-2:]
            reason = f"{item.name}: {self.name} needs two images of one size, and {len(unequal)} are not {width} x {height}"
            self.tally.problems.append(ScoringProblem(item.name, item.key, self.name, reason))

    def lose(self, item: ImageRequest) -> None:
        """Let nobody wait for a picture that can't be read."""
        self.pairing.lose(item.key, item.partners.get(self.name, NOBODY))

    def finish(self) -> None:
        """Do nothing: whoever still waits has no partner left."""
