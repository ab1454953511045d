"""One metric over one run: its model, the store of its features, and what could not be scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from evalkit.metric_spec.metric_card import MetricCard, Model, feature_fault
from evalkit.run.feature_cache import Features, FeatureStore
from evalkit.run.image_records import ImageFile, ImageRecord
from evalkit.run.manifest import Case, Manifest
from evalkit.run.score_table import RunScore
from evalkit.scoring.image_requests import ScoringProblem
from evalkit.scoring.pixel_pairs import pair_key


@dataclass
class MetricTask:
    """One metric over one run, with features in `store`; `problems` and `notes` collect what failed.

    `failed` names the images (by sha256) that extraction could not score with this model. Any other image without features
    is in `lost` afterwards: a damaged cache did not return what was stored.
    """

    manifest: Manifest
    card: MetricCard
    encoder: Model
    store: FeatureStore
    problems: list[ScoringProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: frozenset[str] = frozenset()
    lost: dict[str, str] = field(default_factory=dict)

    def features(self, images: Sequence[ImageFile]) -> dict[str, Features]:
        """Return the features of images, without those that have none or that cannot be compared."""
        vectors = self.stored({image.sha256: image for image in images})
        for image in images:
            if image.sha256 not in vectors:
                continue
            fault = feature_fault(self.card, vectors[image.sha256])
            if fault:
                del vectors[image.sha256]
                self.problems.append(ScoringProblem(image.path, image.sha256, self.card.model, f"{image.path}: {fault}"))
        return vectors

    def stored(self, keys: Mapping[str, ImageFile]) -> dict[str, Features]:
        """Return what the store holds under these keys of images; what it lacks without a reason is lost."""
        vectors = self.store.get(self.encoder.recipe.key, list(keys))
        for key, image in keys.items():
            if key not in vectors and image.sha256 not in self.failed:
                self.lost[key] = image.path
        return vectors

    def miss_pair(self, left: ImageFile, right: ImageFile) -> None:
        """Note a pair without a score as lost, unless one of its images failed."""
        if left.sha256 not in self.failed and right.sha256 not in self.failed:
            self.lost[pair_key(left.sha256, right.sha256)] = f"{left.path} and {right.path}"

    def row(self, image: ImageRecord, value: float, *, concept: str = "", other_arm: str = "") -> RunScore:
        """Return the row of an image's score."""
        name, direction = self.card.name, self.card.direction
        return RunScore(
            image.case, image.arm, image.seed, image.sha256, name, concept, other_arm, value, direction, self.signature
        )

    @cached_property
    def signature(self) -> str:
        """Return the recipe of all its scores."""
        return self.card.signature(self.encoder.recipe)


def referenced(manifest: Manifest, case: Case) -> list[tuple[str, tuple[ImageFile, ...]]]:
    """Return the concepts of a case that have references, with them."""
    return [(name, shown) for name in case.concepts if (shown := manifest.concept(name).references)]


def has_prompt(task: MetricTask, case: Case) -> bool:
    """Return whether a case has a plain prompt; one without is a problem."""
    if case.plain_prompt.strip():
        return True
    reason = f"case {case.id}: {task.card.name} was not scored, for its plain prompt is empty"
    task.problems.append(ScoringProblem(case.id, "", task.card.model, reason))
    return False
