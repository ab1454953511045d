"""Draws a run with the workers of a Ray cluster: each holds the model, and sends its images back."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from evalkit.run.ray_workers import share
from generation.experiment import Experiment
from generation.sampler import Artist
from generation.schedule import Drawn, Work, paint
from generation.timings import Tally

# What a piece of work gave: its images, and what it took.
Harvest = tuple[list[Drawn], Tally]


class Painter:
    """A worker: one model on one GPU, or on as many CPU threads as the process that called it."""

    def __init__(self, experiment: Experiment, folder: Path, device: str, threads: int, batch_size: int) -> None:
        torch.set_num_threads(threads)
        self.artist = Artist(experiment, folder, torch.device(device))
        self.batch_size = batch_size

    def do(self, work: Work) -> Harvest:
        """Return the images of `work` and what they took."""
        self.artist.tally = tally = Tally()
        return list(paint(self.artist, work, self.batch_size)), tally


def draw_with_ray(
    experiment: Experiment,
    folder: Path,
    address: str,
    device: str,
    batch_size: int,
    works: Sequence[Work],
    tally: Tally,
) -> Iterator[Drawn]:
    """Yield the images of `works`, case by case as they are finished, drawn by one worker per GPU or CPU slot.

    What it took the workers is added to `tally`. The files of `folder` and the base model must be readable under the same path
    on every machine; `evalkit.run.ray_workers.share` describes the rest.
    """
    pieces = [piece for work in works for piece in work.by_case()]
    settings = (experiment, folder.absolute(), device, torch.get_num_threads(), batch_size)
    harvests: Iterator[Harvest] = share(Painter, settings, pieces, address, device=device, name=_name)
    for images, spent in harvests:
        tally.add(spent)
        yield from images


def _name(work: Work) -> str:
    """Return what errors call a piece of work."""
    return f"{work.cells[0].case.id}, arm {work.arm}"
