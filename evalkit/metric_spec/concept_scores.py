"""Scores of each concept in an image: detected boxes, their assignment to concepts, and thresholds from the references.

Detected boxes are assigned to concepts by the Hungarian algorithm on the similarity of each box's crop to the references. An
image without a matching box has presence 0 and no identity: an absent value is never 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Cost of a box that a concept cannot have; minus infinity would make the assignment infeasible.
FORBIDDEN = -1e6


@dataclass(frozen=True)
class Detections:
    """Boxes found in one image, n x 4 in pixels (x0, y0, x1, y1), best first.

    `scores` are n x phrases in 0 to 1, `crops` the features of the boxes' crops, n x d, and `whole` those of the whole image.
    """

    boxes: "NDArray[np.float32]"
    scores: "NDArray[np.float32]"
    crops: "NDArray[np.float32]"
    whole: "NDArray[np.float32]"

    def pack(self) -> "NDArray[np.float32]":
        """Return everything as one vector, for the feature cache."""
        head = np.array([self.scores.shape[1], self.whole.size], dtype=np.float32)
        rows = np.concatenate([self.boxes, self.scores, self.crops], axis=1)
        return np.concatenate([head, self.whole, rows.ravel()]).astype(np.float32)

    @classmethod
    def unpack(cls, vector: "NDArray[np.float32]") -> "Detections":
        """Return the detections in a vector made by `pack`."""
        phrases, width = int(vector[0]), int(vector[1])
        rows = vector[2 + width :].reshape(-1, 4 + phrases + width)
        return cls(rows[:, :4], rows[:, 4 : 4 + phrases], rows[:, 4 + phrases :], vector[2 : 2 + width])

    def of_phrase(self, phrase: int, threshold: float) -> "NDArray[np.bool_]":
        """Return which boxes show a phrase: score at least `threshold`."""
        return np.asarray(self.scores[:, phrase] >= threshold)


@dataclass(frozen=True)
class ConceptScore:
    """One concept in one image; identity, margin and phrase score are None if no box was assigned.

    `margin` is the box's similarity to its own concept minus the largest similarity to another concept of the case, None in
    cases of one concept. `count` is the number of boxes that show the concept's phrase and resemble no other concept of the
    case more.
    """

    presence: bool
    count: int
    identity: float | None
    margin: float | None
    phrase_score: float | None


@dataclass(frozen=True)
class ImageConcepts:
    """All concepts of one image. `swapped` is None if no box was assigned, or the case has one concept."""

    concepts: Mapping[str, ConceptScore]
    all_present: bool
    duplicates: int
    swapped: bool | None


@dataclass(frozen=True)
class ConceptReference:
    """A concept to look for: its phrase's position, the features of its references (m x d), and its thresholds."""

    name: str
    phrase: int
    references: "NDArray[np.float32]"
    # lowest phrase score and lowest mean cosine of a present concept
    detection_threshold: float
    identity_threshold: float


def unit(vectors: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return vectors of length 1 along the last axis; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1.0, lengths))


def identities(crops: "NDArray[np.float32]", concepts: Sequence[ConceptReference]) -> "NDArray[np.float64]":
    """Return the mean cosine of each crop to each concept's references, n x C."""
    own = unit(crops)
    return np.stack([own @ unit(concept.references).mean(axis=0) for concept in concepts], axis=1)


def assess(detections: Detections, concepts: Sequence[ConceptReference]) -> ImageConcepts:
    """Return the scores of every concept in an image; their order and that of references change no value."""
    from scipy.optimize import linear_sum_assignment

    order = np.lexsort((detections.boxes[:, 1], detections.boxes[:, 0], -detections.scores.max(axis=1, initial=0)))
    scores = detections.scores[order]
    similarity = identities(detections.crops[order], concepts)
    allowed = np.stack([scores[:, one.phrase] >= one.detection_threshold for one in concepts], axis=1)
    rows, columns = linear_sum_assignment(np.where(allowed, similarity, FORBIDDEN), maximize=True)
    assigned = {int(column): int(row) for row, column in zip(rows, columns, strict=True) if allowed[row, column]}
    # each box counts once, for the concept that it resembles most among those whose phrase it shows
    nearest = np.where(allowed, similarity, FORBIDDEN).argmax(axis=1)
    counts = [int((allowed[:, column] & (nearest == column)).sum()) for column in range(len(concepts))]
    results = {}
    for column, concept in enumerate(concepts):
        count = counts[column]
        box = assigned.get(column)
        if box is None:
            results[concept.name] = ConceptScore(False, count, None, None, None)
            continue
        identity = float(similarity[box, column])
        others = np.delete(similarity[box], column)
        margin = identity - float(others.max()) if others.size else None
        present = identity >= concept.identity_threshold
        results[concept.name] = ConceptScore(present, count, identity, margin, float(scores[box, concept.phrase]))
    margins = [score.margin for score in results.values() if score.margin is not None]
    return ImageConcepts(
        results,
        all(score.presence for score in results.values()),
        _duplicates(counts, concepts),
        any(margin < 0 for margin in margins) if margins else None,
    )


def _duplicates(counts: Sequence[int], concepts: Sequence[ConceptReference]) -> int:
    """Return the boxes beyond one per concept, summed over phrases."""
    extra = 0
    for phrase in {concept.phrase for concept in concepts}:
        columns = [column for column, concept in enumerate(concepts) if concept.phrase == phrase]
        extra += max(0, sum(counts[column] for column in columns) - len(columns))
    return extra


def identity_thresholds(references: Mapping[str, "NDArray[np.float32]"]) -> dict[str, float]:
    """Return the lowest identity at which each concept counts as present, from reference images alone.

    It is the lowest leave-one-out identity of the concept's references, but at least the threshold of equal error rates over
    all concepts. A concept with one reference has the latter; without other concepts either, -1: any box is accepted.
    """
    own: dict[str, list[float]] = {}
    others: list[float] = []
    vectors = {name: unit(group) for name, group in references.items()}
    for name, group in vectors.items():
        similarity = group @ group.T
        own[name] = [float(np.delete(row, index).mean()) for index, row in enumerate(similarity)] if len(group) > 1 else []
        others += [
            float(value) for other, theirs in vectors.items() if other != name for value in (group @ theirs.T).mean(axis=1)
        ]
    equal = equal_error_threshold([value for values in own.values() for value in values], others)
    return {name: max(min(values, default=-1.0), equal) for name, values in own.items()}


def equal_error_threshold(own: Sequence[float], others: Sequence[float]) -> float:
    """Return the threshold whose rates of rejected own and accepted other images differ least; -1 if one is empty."""
    if not own or not others:
        return -1.0
    accepted, rejected = np.sort(others), np.sort(own)
    candidates = np.unique(np.concatenate([accepted, rejected]))
    false_accept = 1 - np.searchsorted(accepted, candidates, side="left") / len(accepted)
    false_reject = np.searchsorted(rejected, candidates, side="left") / len(rejected)
    return float(candidates[np.abs(false_accept - false_reject).argmin()])


def detection_threshold(others: Sequence["NDArray[np.float32]"], floor: float, rate: float = 0.1) -> float:
    """Return the lowest phrase score that leaves at most `rate` false boxes per image of other concepts.

    `others` holds the phrase's scores of all boxes, image by image; `floor` is the detector's own threshold.
    """
    scores = np.sort(np.concatenate([np.asarray(values, dtype=np.float64) for values in others]) if others else np.empty(0))
    allowed = int(rate * len(others))
    above = scores[scores >= floor]
    if len(above) <= allowed:
        return floor
    return float(np.nextafter(above[len(above) - allowed - 1], np.inf))


def corrected_rate(rate: float, sensitivity: float, specificity: float) -> float:
    """Return a rate of presence corrected for the detector's errors (Rogan and Gladen 1978), in 0 to 1."""
    return float(np.clip((rate + specificity - 1) / (sensitivity + specificity - 1), 0.0, 1.0))
