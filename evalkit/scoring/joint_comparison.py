"""Score rows of joint metrics: a model that sees an image with its prompt, or with one reference at a time."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from evalkit.run.feature_cache import Features
from evalkit.run.image_records import ImageFile, ImageRecord
from evalkit.run.manifest import Case, Manifest
from evalkit.run.score_table import RunScore
from evalkit.scoring.image_requests import ScoringProblem
from evalkit.scoring.joint_keys import joint_key
from evalkit.scoring.metric_task import MetricTask, has_prompt, referenced
from evalkit.scoring.pixel_pairs import pair_key


def judged_with_prompt(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], _: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield what the model says of each image and the case's plain prompt; a case without a prompt is a problem."""
    if not has_prompt(task, case):
        return
    texts = (task.card.convention.text(case.plain_prompt),)
    keys = {image.sha256: joint_key(image.sha256, texts) for image in images}
    values = task.stored({keys[image.sha256]: image for image in images})
    for image in images:
        if keys[image.sha256] in values:
            yield task.row(image, float(values[keys[image.sha256]][0]))


def reference_pairs(manifest: Manifest, case: Case, images: Sequence[ImageRecord]) -> Iterator[tuple[ImageFile, ImageFile]]:
    """Yield each image of a case with each reference of the case's concepts."""
    for _, references in referenced(manifest, case):
        for image in images:
            for reference in references:
                yield image, reference


def compared_with_references(
    task: MetricTask, case: Case, images: Sequence[ImageRecord], _: Mapping[str, Features]
) -> Iterator[RunScore]:
    """Yield the mean over each concept's references; an image that lacks one of the comparisons has no row."""
    for concept, references in referenced(task.manifest, case):
        broken = [reference for reference in references if reference.sha256 in task.failed]
        if broken:
            reason = f"{case.id}: {task.card.name} of {concept} was not scored, for {broken[0].path} has no features"
            task.problems.append(ScoringProblem(concept, broken[0].sha256, task.card.model, reason))
            continue
        for image in images:
            keys = [pair_key(image.sha256, reference.sha256) for reference in references]
            values = task.store.get(task.encoder.recipe.key, keys)
            for key, reference in zip(keys, references, strict=True):
                if key not in values:
                    task.miss_pair(image, reference)
            if len(values) < len(set(keys)):
                continue
            mean = float(np.mean([values[key][0] for key in keys]))
            if math.isfinite(mean):
                yield task.row(image, mean, concept=concept)
            else:
                task.notes.append(f"{task.card.name}: {image.path} equals a reference of {concept}, so it has no finite value")
