"""Score rows of concept metrics: thresholds from a run's references, then each concept of each image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from evalkit.metric_spec.concept_scores import (
    ConceptReference,
    ConceptScore,
    Detections,
    ImageConcepts,
    assess,
    detection_threshold,
    identity_thresholds,
)
from evalkit.metric_spec.metric_card import Model
from evalkit.run.feature_cache import Features
from evalkit.run.image_records import ImageRecord
from evalkit.run.manifest import Case, Manifest
from evalkit.run.score_table import RunScore
from evalkit.scoring.image_requests import ScoringProblem
from evalkit.scoring.joint_keys import Texts, joint_key
from evalkit.scoring.metric_task import MetricTask, referenced

# What a metric takes of a concept, or of the whole image; None has no row.
OF_CONCEPT: Mapping[str, Callable[[ConceptScore], float | None]] = MappingProxyType(
    {
        "concept_presence": lambda score: float(score.presence),
        "concept_count": lambda score: float(score.count),
        "concept_identity": lambda score: score.identity,
        "concept_margin": lambda score: score.margin,
    }
)
OF_IMAGE: Mapping[str, Callable[[ImageConcepts], float | None]] = MappingProxyType(
    {
        "concept_swap": lambda image: None if image.swapped is None else float(image.swapped),
        "concept_duplicates": lambda image: float(image.duplicates),
        "all_present": lambda image: float(image.all_present),
    }
)


def phrases_of(manifest: Manifest, case: Case) -> Texts:
    """Return the class words of a case's concepts that have references, each once; empty if none has."""
    return tuple(dict.fromkeys(manifest.concept(name).class_word for name, _ in referenced(manifest, case)))


def phrases_by_reference(manifest: Manifest) -> dict[str, tuple[Texts, ...]]:
    """Return for each reference (by sha256) the phrase lists of the cases that its concept occurs in."""
    wanted: dict[str, dict[Texts, None]] = {}
    for case in manifest.cases:
        for _, references in referenced(manifest, case):
            for reference in references:
                wanted.setdefault(reference.sha256, {})[phrases_of(manifest, case)] = None
    return {key: tuple(texts) for key, texts in wanted.items()}


def with_concepts(task: MetricTask, case: Case, images: Sequence[ImageRecord], _: Mapping[str, Features]) -> Iterator[RunScore]:
    """Yield the rows of one concept metric; where nothing is detected, identity and margin have no row."""
    phrases = phrases_of(task.manifest, case)
    concepts = _references(task, case, phrases) if phrases else None
    if not concepts:
        return
    keys = {image.sha256: joint_key(image.sha256, phrases) for image in images}
    vectors = task.stored({keys[image.sha256]: image for image in images})
    absent = 0
    for image in images:
        if keys[image.sha256] not in vectors:
            continue
        result = assess(Detections.unpack(vectors[keys[image.sha256]]), concepts)
        if task.card.name in OF_IMAGE:
            value = OF_IMAGE[task.card.name](result)
            if value is not None:
                yield task.row(image, value)
            continue
        for name, score in result.concepts.items():
            value = OF_CONCEPT[task.card.name](score)
            if value is None:
                absent += 1
            else:
                yield task.row(image, value, concept=name)
    if absent and task.card.name == "concept_identity":
        count = absent, len(images) * len(concepts)
        task.notes.append(f"{task.card.name}: {case.id}: no object for {count[0]} of {count[1]} concepts; these have no row")


def _references(task: MetricTask, case: Case, phrases: Texts) -> list[ConceptReference] | None:
    """Return the case's concepts with references and thresholds, or None and a problem if a reference has no features."""
    vectors: dict[str, list[Detections]] = {}
    for name, references in referenced(task.manifest, case):
        stored = task.stored({joint_key(image.sha256, phrases): image for image in references})
        if len(stored) < len({image.sha256 for image in references}):
            reason = f"{case.id}: {task.card.name} was not scored, for a reference of {name} has no features"
            task.problems.append(ScoringProblem(name, "", task.card.model, reason))
            return None
        vectors[name] = [Detections.unpack(stored[joint_key(image.sha256, phrases)]) for image in references]
    floor = detector_threshold(task.encoder)
    columns = {name: phrases.index(task.manifest.concept(name).class_word) for name in vectors}
    calibrated = _phrases_differ([one for group in vectors.values() for one in group])
    thresholds = {
        name: detection_threshold(
            [
                one.scores[:, column]
                for other, group in vectors.items()
                if calibrated and columns[other] != column
                for one in group
            ],
            floor,
        )
        for name, column in columns.items()
    }
    features = {
        name: np.stack([_reference_features(one, columns[name], thresholds[name]) for one in group])
        for name, group in vectors.items()
    }
    identity = identity_thresholds(features)
    _note(task, case, thresholds, identity)
    return [ConceptReference(name, columns[name], features[name], thresholds[name], identity[name]) for name in vectors]


def detector_threshold(model: Model) -> float:
    """Return the lowest phrase score of a detection by the detector's own convention."""
    return float(getattr(getattr(model, "detector", None), "threshold", 0.0))


def _phrases_differ(detections: Sequence[Detections]) -> bool:
    """Tell whether a detector scores phrases differently at all; one that only finds objects does not."""
    return any((np.ptp(one.scores, axis=1) > 0).any() for one in detections if len(one.scores))


def _reference_features(detections: Detections, phrase: int, threshold: float) -> Features:
    """Return the features of a reference's only object, or of the whole image if there is none or several."""
    rows = np.flatnonzero(detections.of_phrase(phrase, threshold))
    return detections.crops[rows[0]] if len(rows) == 1 else detections.whole


def _note(task: MetricTask, case: Case, detection: Mapping[str, float], identity: Mapping[str, float]) -> None:
    """Note the thresholds of presence once, in the metrics that use them."""
    if task.card.name in ("concept_presence", "all_present"):
        parts = (f"{name} {identity[name]:.3f} (phrase {detection[name]:.3f})" for name in identity)
        task.notes.append(f"{task.card.name}: {case.id}: thresholds from the references: {', '.join(parts)}")
