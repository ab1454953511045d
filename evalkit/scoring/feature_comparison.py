"""Score rows from features: each metric's comparison of the images of a run, one case at a time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import numpy as np

from evalkit.metric_spec.metric_card import MetricCard, Needs
from evalkit.metric_spec.similarity import cosine, distance_to_others, mean_cosine, vendi
from evalkit.run.feature_cache import Features
from evalkit.run.image_records import ImageFile, ImageRecord
from evalkit.run.manifest import Case, Manifest
from evalkit.run.score_table import RunScore
from evalkit.scoring.concept_comparison import phrases_of, with_concepts
from evalkit.scoring.image_requests import ScoringProblem
from evalkit.scoring.joint_comparison import compared_with_references, judged_with_prompt, reference_pairs
from evalkit.scoring.joint_keys import Texts
from evalkit.scoring.metric_task import MetricTask, has_prompt, referenced
from evalkit.scoring.pixel_pairs import Partners, pair_key, partners
from evalkit.scoring.text_features import text_features, truncation_notes


def rows(task: MetricTask) -> Iterator[RunScore]:
    """Yield a metric's rows in the order of cases, arms and seeds; an image without features has none."""
    if task.card.needs == "prompt":
        _count_truncated(task)
    compare = COMPARISONS[task.card.needs]
    for case, images in task.manifest.by_case():
        distinct = list({image.sha256: image for image in images}.values())
        # the store has separate scores for pairs of images, and none for single images
        own = {} if task.card.needs in (*PAIRS, *WITH_TEXTS) else task.features(distinct)
        yield from compare(task, case, images, own)


def _alone(task: MetricTask, case: Case, images: Sequence[ImageRecord], own: Mapping[str, Features]) -> Iterator[RunScore]:
    """Yield scores of images by themselves."""
    for image in images:
        if image.sha256 in own:
            yield task.row(image, float(own[image.sha256][0]))


def _with_prompt(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], own: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield scores of images against the case's prompt without modifier tokens; a case without one is a problem."""
    convention = task.card.convention
    if not has_prompt(task, case):
        return
    text = convention.text(case.plain_prompt)
    meant = text_features(task.encoder, [text], task.store)[text]
    for image in images:
        if image.sha256 in own:
            yield task.row(image, convention.score(float(cosine(own[image.sha256], meant))))


def _with_references(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], own: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield scores of images against all references of each concept; a concept that lacks one is a problem."""
    convention = task.card.convention
    for concept, every in referenced(task.manifest, case):
        shown = convention.references(every)
        features = task.features(list({picture.sha256: picture for picture in shown}.values()))
        lost = [picture for picture in shown if picture.sha256 not in features]
        if lost:
            reason = f"{case.id}: {task.card.name} of {concept} was not scored, for {lost[0].path} has no features"
            task.problems.append(ScoringProblem(concept, lost[0].sha256, task.card.model, reason))
            continue
        vectors = [features[picture.sha256] for picture in shown]
        for image in images:
            if image.sha256 in own:
                yield task.row(image, convention.score(mean_cosine(own[image.sha256], vectors)), concept=concept)


def arm_pairs(manifest: Manifest, case: Case, images: Sequence[ImageRecord]) -> Iterator[tuple[ImageRecord, ImageRecord]]:
    """Yield a case's images of two arms at one seed: each pair once, the arm that comes first in front."""
    cells = {(image.arm, image.seed): image for image in images}
    for first, second in combinations([arm.label for arm in manifest.arms], 2):
        for seed in case.seeds:
            if (first, seed) in cells and (second, seed) in cells:
                yield cells[first, seed], cells[second, seed]


def _with_other_arm(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], own: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield scores of images against the other arms' at the same seed, under the arm that comes first."""
    for left, right in arm_pairs(task.manifest, case, [image for image in images if image.sha256 in own]):
        yield task.row(left, float(cosine(own[left.sha256], own[right.sha256])), other_arm=right.arm)


def _with_other_arms_pixels(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], _: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield scores of pairs that were compared while they were decoded; an infinite one is not a number and has no row."""
    pairs = list(arm_pairs(task.manifest, case, images))
    keys = [pair_key(left.sha256, right.sha256) for left, right in pairs]
    scores = task.store.get(task.encoder.recipe.key, keys)
    for (left, right), key in zip(pairs, keys, strict=True):
        if key not in scores:
            task.miss_pair(left, right)
            continue
        value = float(scores[key][0])
        if math.isfinite(value):
            yield task.row(left, value, other_arm=right.arm)
        else:
            same = f"{case.id}, seed {left.seed}: {left.arm} and {right.arm}"
            task.notes.append(f"{task.card.name}: {same} generated the same pixels, so it is infinite and has no row")


def seed_pairs(manifest: Manifest, case: Case, images: Sequence[ImageRecord]) -> Iterator[tuple[ImageRecord, ImageRecord]]:
    """Yield a case's images of one arm at two seeds: each pair once."""
    for cell in _cells(manifest, images):
        yield from combinations(cell, 2)


def _cells(manifest: Manifest, images: Sequence[ImageRecord]) -> Iterator[list[ImageRecord]]:
    """Yield a case's images arm by arm, if there are at least two."""
    for arm in manifest.arms:
        cell = [image for image in images if image.arm == arm.label]
        if len(cell) > 1:
            yield cell


def _with_other_seeds(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], own: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield an image's mean distance to the images of the same case and arm at the other seeds."""
    for cell in _cells(task.manifest, [image for image in images if image.sha256 in own]):
        distances = distance_to_others(np.stack([own[image.sha256] for image in cell]))
        for image, distance in zip(cell, distances, strict=True):
            yield task.row(image, float(distance))


def _with_other_seeds_pixels(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], _: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield the mean over an image's pairs with those of the same case and arm at the other seeds."""
    for cell in _cells(task.manifest, images):
        for image in cell:
            keys = [pair_key(image.sha256, other.sha256) for other in cell if other is not image]
            scores = task.store.get(task.encoder.recipe.key, keys)
            for key, other in zip(keys, [other for other in cell if other is not image], strict=True):
                if key not in scores:
                    task.miss_pair(image, other)
            if scores:
                yield task.row(image, float(np.mean([scores[key][0] for key in keys if key in scores])))


def _all_seeds(task: MetricTask, case: Case, images: Sequence[ImageRecord], own: Mapping[str, Features]) -> Iterator[RunScore]:
    """Yield the Vendi score of the images of each arm, once for each of them."""
    for cell in _cells(task.manifest, [image for image in images if image.sha256 in own]):
        value = vendi(np.stack([own[image.sha256] for image in cell]))
        for image in cell:
            yield task.row(image, value)


# Metrics whose model sees an image together with texts; features of an image alone do not exist for them.
WITH_TEXTS: tuple[Needs, ...] = ("text_image", "concepts")
Pairs = Callable[[Manifest, Case, Sequence[ImageRecord]], Iterator[tuple[ImageFile, ImageFile]]]
PAIRS: Mapping[Needs, Pairs] = MappingProxyType(
    {"other_arm_pixels": arm_pairs, "other_seeds_pixels": seed_pairs, "image_pair": reference_pairs}
)


def pairs_wanted(
    manifest: Manifest, cards: Sequence[MetricCard], case: Case, images: Sequence[ImageRecord]
) -> dict[str, Mapping[str, Partners]]:
    """Return, for each model that sees two images at once, which ones of a case its metrics need compared."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for card in cards:
        if card.needs in PAIRS:
            wanted = PAIRS[card.needs](manifest, case, images)
            pairs.setdefault(card.model, []).extend((left.sha256, right.sha256) for left, right in wanted)
    return {model: partners(wanted) for model, wanted in pairs.items()}


def texts_wanted(manifest: Manifest, cards: Sequence[MetricCard], case: Case) -> dict[str, tuple[Texts, ...]]:
    """Return, for each model that sees an image with texts, the texts that its metrics want for a case's images."""
    texts: dict[str, dict[Texts, None]] = {}
    for card in cards:
        if card.needs == "text_image" and case.plain_prompt.strip():
            texts.setdefault(card.model, {})[(card.convention.text(case.plain_prompt),)] = None
        if card.needs == "concepts" and (phrases := phrases_of(manifest, case)):
            texts.setdefault(card.model, {})[phrases] = None
    return {model: tuple(wanted) for model, wanted in texts.items()}


Compare = Callable[[MetricTask, Case, Sequence[ImageRecord], Mapping[str, Features]], Iterator[RunScore]]
COMPARISONS: Mapping[Needs, Compare] = MappingProxyType(
    {
        "image": _alone,
        "prompt": _with_prompt,
        "references": _with_references,
        "text_image": judged_with_prompt,
        "image_pair": compared_with_references,
        "concepts": with_concepts,
        "other_arm": _with_other_arm,
        "other_arm_pixels": _with_other_arms_pixels,
        "other_seeds": _with_other_seeds,
        "other_seeds_pixels": _with_other_seeds_pixels,
        "all_seeds": _all_seeds,
    }
)


def _count_truncated(task: MetricTask) -> None:
    """Note how many prompts are longer than the model reads."""
    prompts = [case.plain_prompt for case in task.manifest.cases if case.plain_prompt.strip()]
    task.notes.extend(truncation_notes(task.card, task.encoder, prompts, task.store))
