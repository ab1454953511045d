"""Many machines or GPUs for one run, by Ray: each slot holds the model, takes the next piece of work, and sends images back."""

import socket
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from evalkit.errors import UserError
from generation.artist import Artist
from generation.experiment import Experiment
from generation.pipeline import first_line
from generation.tally import Tally
from generation.work import Drawn, Work, paint

# A piece of work on which this many workers died is at fault itself: too large for the memory, most likely.
DEATHS = 3
# What a piece of work gave: its images, and what it took.
Harvest = tuple[list[Drawn], Tally]


class Painter:
    """A worker: one model on one GPU, or on as many CPU threads as the process that called it."""

    def __init__(self, experiment: Experiment, folder: Path, device: str, threads: int, batch_size: int) -> None:
        torch.set_num_threads(threads)
        self.artist = Artist(experiment, folder, torch.device(device))
        self.batch_size = batch_size

    def draw(self, work: Work) -> Harvest:
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

    What it took the workers is added to `tally`. `address` is that of a Ray cluster, or "local" for this
    machine. A free worker takes the next piece; the piece of a worker that dies goes to another. The files of `folder` and the
    base model must be readable under the same path on every machine.

    Raises:
        UserError: the cluster can't be reached or has no slot, a worker refuses its files, or one piece kills three workers.
    """
    import ray

    threads = torch.get_num_threads()
    ours = not ray.is_initialized()
    if ours:
        try:
            _knock(address)
            ray.init(address=None if address == "local" else address, include_dashboard=False, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--ray {address}: can't be reached ({first_line(error)}); give HOST:PORT of a cluster, auto, or local"
            ) from error
    try:
        pieces = [piece for work in works for piece in work.by_case()]
        for images, spent in _share(ray, (experiment, folder.absolute(), device, threads, batch_size), pieces, address):
            tally.add(spent)
            yield from images
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError or ValueError where nobody listens at `address`: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("local", "auto"):
        socket.create_connection((host, int(port)), timeout=5).close()


def _share(
    ray: Any,  # noqa: ANN401 - the module, imported when asked for
    settings: tuple[Experiment, Path, str, int, int],
    works: Sequence[Work],
    address: str,
) -> Iterator[Harvest]:
    device, threads = settings[2:4]
    gpu = device.startswith("cuda")
    slots = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0)) // (1 if gpu else threads)
    if slots < 1:
        raise UserError(f"--ray {address}: no {'GPU' if gpu else f'slot of {threads} CPU threads'} there; see OMP_NUM_THREADS")
    needs = {"num_gpus": 1} if gpu else {"num_cpus": threads}
    hire = ray.remote(Painter).options(**needs)
    waiting = deque((work, 0) for work in works)
    busy: dict[Any, tuple[Any, Work, int]] = {}
    idle = [hire.remote(*settings) for _ in range(min(slots, len(works)))]
    while waiting or busy:
        while waiting and idle:
            worker, (work, deaths) = idle.pop(), waiting.popleft()
            busy[worker.draw.remote(work)] = (worker, work, deaths)
        done, _ = ray.wait(list(busy), num_returns=1)
        worker, work, deaths = busy.pop(done[0])
        try:
            harvest: Harvest = ray.get(done[0])
        except ray.exceptions.RayActorError as error:
            if deaths + 1 == DEATHS:
                raise UserError(
                    f"{work.cells[0].case.id}, arm {work.arm}: {DEATHS} workers died drawing it ({first_line(error)}); "
                    "give a smaller --batch-size, and see that every machine reads the model and the LoRAs at the same path"
                ) from error
            waiting.append((work, deaths + 1))
            idle.append(hire.remote(*settings))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            raise
        else:
            idle.append(worker)
            yield harvest
