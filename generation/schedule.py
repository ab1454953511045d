"""Work schedule of a run: the missing images, split into work items, and the sampling of one item."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import TypeVar

from PIL import Image

from evalkit.io.atomic_files import sha256_bytes
from evalkit.run import image_records
from evalkit.run.shard import Shard
from generation.experiment import Experiment
from generation.sampler import ImageRequest, Sampler
from generation.seeds import noise_sha256

Item = TypeVar("Item")


@dataclass(frozen=True)
class WorkItem:
    """Image requests that share one merge: an arm, and cases with the same concepts."""

    arm: str
    concepts: tuple[str, ...]
    requests: tuple[ImageRequest, ...]

    def by_case(self) -> Iterator["WorkItem"]:
        """Yield the same work as one item per case."""
        for _, requests in groupby(self.requests, key=lambda request: request.case.id):
            yield WorkItem(self.arm, self.concepts, tuple(requests))


@dataclass(frozen=True)
class GeneratedImage:
    """A finished image: its record for the manifest, and its bytes as PNG."""

    image: image_records.ImageRecord
    png: bytes


def plan_work(experiment: Experiment, finished: Collection[image_records.Cell], shard: Shard | None = None) -> list[WorkItem]:
    """Return the work that `finished` lacks, by arm; requests that share a merge are in one item.

    Requests with and without a negative prompt are in separate items, since a batch can't mix them.
    """

    def group(request: ImageRequest) -> tuple[tuple[str, ...], bool]:
        return request.case.merged, request.case.negative_prompt is None

    cases = experiment.cases if shard is None else shard.of(experiment.cases)
    items = []
    for arm in experiment.arms:
        missing = [
            ImageRequest(case, seed) for case in cases for seed in case.seeds if (case.id, arm.label, seed) not in finished
        ]
        for (concepts, _), requests in groupby(sorted(missing, key=group), key=group):
            items.append(WorkItem(arm.label, concepts, tuple(requests)))
    return items


def sample_images(sampler: Sampler, item: WorkItem, batch_size: int) -> Iterator[GeneratedImage]:
    """Generate the images of a work item, `batch_size` at a time; the bytes of an image do not depend on its batch."""
    arm = next(arm for arm in sampler.experiment.arms if arm.label == item.arm)
    with sampler.merged(arm, item.concepts):
        for batch in _batches(item.requests, batch_size):
            for request, pixels in zip(batch, sampler.generate(batch), strict=True):
                buffer = BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                png = buffer.getvalue()
                height, width = pixels.shape[:2]
                record = image_records.ImageRecord(
                    path=image_records.image_path(request.case.id, item.arm, request.seed),
                    sha256=sha256_bytes(png),
                    width=width,
                    height=height,
                    case=request.case.id,
                    arm=item.arm,
                    seed=request.seed,
                    latents_sha256=noise_sha256(sampler.noise(request.seed)),
                )
                yield GeneratedImage(record, png)


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
