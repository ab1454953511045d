"""Queues of prepared images: batches of one size for a model, pairs for one that compares two, or images with texts."""

from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import UserError
from evalkit.metric_spec.metric_card import Encoder, JointEncoder, PairEncoder
from evalkit.run.feature_cache import FeatureStore
from evalkit.scoring.image_requests import ExtractionCounts, FeatureRequest, ScoringProblem
from evalkit.scoring.joint_keys import joint_key, lacking_texts
from evalkit.scoring.model_calls import build_net, encode, judge
from evalkit.scoring.pixel_pairs import NO_PARTNERS, PairMatcher

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.encoders.concept_crops import ConceptCrops

# Images of many sizes wait per size. Beyond this many times the batch size, a batch goes out unfilled.
LONGEST_WAIT = 4
# Pixels of a batch of more than one image: 32 of 1024 x 1024.
LARGEST_AREA = 2**25


class BatchQueue:
    """Images waiting for one model, by size; a full batch goes through at once."""

    def __init__(self, name: str, encoder: Encoder, store: FeatureStore, batch_size: int, tally: ExtractionCounts) -> None:
        self.name, self.encoder, self.store, self.tally = name, encoder, store, tally
        self.batch_size = min(batch_size, encoder.largest_batch)
        self.built = False
        self.waiting: dict[tuple[int, ...], list[tuple[FeatureRequest, Tensor]]] = {}

    def add(self, item: FeatureRequest, tensor: "Tensor") -> None:
        """Put an image in line, and compute the batch that it fills."""
        shape = tuple(tensor.shape)
        line = self.waiting.setdefault(shape, [])
        line.append((item, tensor))
        if len(line) >= min(self.batch_size, max(1, LARGEST_AREA // (shape[-2] * shape[-1]))):
            self._compute(shape)
        elif sum(map(len, self.waiting.values())) > LONGEST_WAIT * self.batch_size:
            self._compute(max(self.waiting, key=lambda size: len(self.waiting[size])))

    def lose(self, item: FeatureRequest) -> None:
        """Do without an image: no other waits for it."""

    def finish(self) -> None:
        """Compute what is still in line."""
        for shape in list(self.waiting):
            self._compute(shape)

    def _compute(self, shape: tuple[int, ...]) -> None:
        """Compute a batch; if it fails, compute its images one by one, and note those that fail alone."""
        if not self.built:
            build_net(self.name, self.encoder)
            self.built = True
        batch = self.waiting.pop(shape)
        try:
            self._store(batch)
        except UserError as error:
            for item, tensor in batch:
                try:
                    if len(batch) == 1:
                        raise error
                    self._store([(item, tensor)])
                except UserError as reason:
                    self.tally.problems.append(ScoringProblem(item.name, item.key, self.name, f"{item.name}: {reason}"))

    def _store(self, batch: "list[tuple[FeatureRequest, Tensor]]") -> None:
        features = encode(self.name, self.encoder, [tensor for _, tensor in batch])
        self.tally.forwards[self.name] += 1
        whole = {}
        for (item, _), vector in zip(batch, features, strict=True):
            if np.isfinite(vector).all():
                whole[item.key] = vector
            else:
                reason = f"{item.name}: {self.name} gives no finite number for it"
                self.tally.problems.append(ScoringProblem(item.name, item.key, self.name, reason))
        self.store.put(self.encoder.recipe.key, whole)


class PairQueue:
    """Images of one model that compares two at a time."""

    def __init__(self, name: str, encoder: PairEncoder, store: FeatureStore, tally: ExtractionCounts) -> None:
        self.name, self.tally = name, tally
        self.pairing = PairMatcher(name, encoder, store)

    def add(self, item: FeatureRequest, tensor: "Tensor") -> None:
        """Compare an image with those of its partners that are there."""
        count, unequal, failures = self.pairing.add(item.key, tensor, item.partners.get(self.name, NO_PARTNERS))
        self.tally.forwards[self.name] += count
        self.tally.problems.extend(
            ScoringProblem(item.name, item.key, self.name, f"{item.name}: {reason}") for reason in failures
        )
        if unequal:
            height, width = tensor.shape[-2:]
            reason = f"{item.name}: {self.name} needs two images of one size, and {len(unequal)} are not {width} x {height}"
            self.tally.problems.append(ScoringProblem(item.name, item.key, self.name, reason))

    def lose(self, item: FeatureRequest) -> None:
        """Release all that wait for an unreadable image."""
        self.pairing.lose(item.key, item.partners.get(self.name, NO_PARTNERS))

    def finish(self) -> None:
        """Do nothing: an image that still waits has no partner left."""


class JointQueue:
    """Images of one model that sees an image together with texts; each is judged as soon as it comes."""

    def __init__(self, name: str, encoder: "JointEncoder | ConceptCrops", store: FeatureStore, tally: ExtractionCounts) -> None:
        self.name, self.encoder, self.store, self.tally = name, encoder, store, tally
        self.built = False

    def add(self, item: FeatureRequest, tensor: "Tensor") -> None:
        """Judge an image with each of its texts that has no result yet."""
        if not self.built:
            build_net(self.name, self.encoder)
            self.built = True
        recipe = self.encoder.recipe.key
        for texts in lacking_texts(self.store, recipe, item.key, item.texts.get(self.name, ())):
            try:
                vector = judge(self.name, self.encoder, tensor, texts)
            except UserError as error:
                self.tally.problems.append(ScoringProblem(item.name, item.key, self.name, f"{item.name}: {error}"))
                continue
            self.tally.forwards[self.name] += 1
            self.store.put(recipe, {joint_key(item.key, texts): vector})

    def lose(self, item: FeatureRequest) -> None:
        """Do without an image: no other waits for it."""

    def finish(self) -> None:
        """Do nothing: no image waits."""
