"""Distributed sampling with Ray: each worker holds the model and returns its images."""

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import torch

from evalkit.run.ray_workers import share
from generation.experiment import Experiment
from generation.sampler import Sampler
from generation.schedule import GeneratedImage, WorkItem, sample_images
from generation.timings import GenerationStats

# The result of a work item: its images and its statistics.
WorkResult = tuple[list[GeneratedImage], GenerationStats]


class SamplingWorker:
    """A Ray worker: one model on one GPU, or on as many CPU threads as the calling process uses."""

    def __init__(self, experiment: Experiment, folder: Path, device: str, threads: int, batch_size: int) -> None:
        torch.set_num_threads(threads)
        self.sampler = Sampler(experiment, folder, torch.device(device))
        self.batch_size = batch_size

    def do(self, item: WorkItem) -> WorkResult:
        """Return the images of a work item and its statistics."""
        self.sampler.stats = stats = GenerationStats()
        return list(sample_images(self.sampler, item, self.batch_size)), stats


def generate_with_ray(
    experiment: Experiment,
    folder: Path,
    address: str,
    device: str,
    batch_size: int,
    items: Sequence[WorkItem],
    stats: GenerationStats,
) -> Generator[GeneratedImage, None, None]:
    """Yield the images of `items`, case by case as they are finished, from one worker per GPU or CPU slot.

    Close it to let the workers go: after an error in the loop over it they would hold their slots until it is collected.

    The statistics of the workers are added to `stats`. The files of `folder` and the base model must be readable under the same
    path on every machine; see `evalkit.run.ray_workers.share`.
    """
    pieces = [piece for item in items for piece in item.by_case()]
    settings = (experiment, folder.absolute(), device, torch.get_num_threads(), batch_size)
    results: Generator[WorkResult, None, None] = share(SamplingWorker, settings, pieces, address, device=device, name=_name)
    with closing(results):
        for images, worker_stats in results:
            stats.add(worker_stats)
            yield from images


def _name(item: WorkItem) -> str:
    """Return the name of a work item in error messages."""
    return f"{item.requests[0].case.id}, arm {item.arm}"
