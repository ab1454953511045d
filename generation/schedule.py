"""What is left to draw, cut into pieces that machines can share, and the drawing of one piece."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import TypeVar

from PIL import Image as Pictures

from evalkit.io.atomic_files import sha256_bytes
from evalkit.run import image_records as described
from evalkit.run.shard import Shard
from generation.experiment import Experiment
from generation.sampler import Artist, Cell
from generation.seeds import noise_sha256

Item = TypeVar("Item")


@dataclass(frozen=True)
class Work:
    """Cells that one merge serves: an arm, and cases with the same concepts."""

    arm: str
    concepts: tuple[str, ...]
    cells: tuple[Cell, ...]

    def by_case(self) -> Iterator["Work"]:
        """Yield the same work cut at every case."""
        for _, cells in groupby(self.cells, key=lambda cell: cell.case.id):
            yield Work(self.arm, self.concepts, tuple(cells))


@dataclass(frozen=True)
class Drawn:
    """A finished image: its bytes as PNG and its manifest entry."""

    image: described.ImageRecord
    png: bytes


def plan_work(experiment: Experiment, finished: Collection[described.Cell], shard: Shard | None = None) -> list[Work]:
    """Return what is not in `finished`, arm after arm, cells that share a merge together.

    Those with and without a negative prompt are separate, since a batch can't mix them.
    """

    def shared(cell: Cell) -> tuple[tuple[str, ...], bool]:
        return cell.case.merged, cell.case.negative_prompt is None

    cases = experiment.cases if shard is None else shard.of(experiment.cases)
    works = []
    for arm in experiment.arms:
        missing = [Cell(case, seed) for case in cases for seed in case.seeds if (case.id, arm.label, seed) not in finished]
        for (concepts, _), cells in groupby(sorted(missing, key=shared), key=shared):
            works.append(Work(arm.label, concepts, tuple(cells)))
    return works


def paint(artist: Artist, work: Work, batch_size: int) -> Iterator[Drawn]:
    """Draw the cells of `work`, `batch_size` at a time; the bytes depend on the cell alone, not on its company."""
    arm = next(arm for arm in artist.experiment.arms if arm.label == work.arm)
    with artist.merged(arm, work.concepts):
        for batch in _chunks(work.cells, batch_size):
            for cell, pixels in zip(batch, artist.draw(batch), strict=True):
                buffer = BytesIO()
                Pictures.fromarray(pixels).save(buffer, "PNG")
                png = buffer.getvalue()
                height, width = pixels.shape[:2]
                image = described.ImageRecord(
                    path=described.image_path(cell.case.id, work.arm, cell.seed),
                    sha256=sha256_bytes(png),
                    width=width,
                    height=height,
                    case=cell.case.id,
                    arm=work.arm,
                    seed=cell.seed,
                    latents_sha256=noise_sha256(artist.noise(cell.seed)),
                )
                yield Drawn(image, png)


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
