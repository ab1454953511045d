"""Many machines or GPUs for one task, by Ray: each slot holds the models, takes a piece of work, and sends back results."""

import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from evalkit.errors import UserError, first_line

# A piece of work on which this many workers died is at fault itself: too large for the memory, most likely.
DEATHS = 3
Work = TypeVar("Work")
Made = TypeVar("Made")
Work_contra = TypeVar("Work_contra", contravariant=True)
Made_co = TypeVar("Made_co", covariant=True)


class Worker(Protocol[Work_contra, Made_co]):
    """What sits in a slot: on one GPU, or on as many CPU threads as the process that hired it."""

    def do(self, work: Work_contra) -> Made_co:
        """Return what a piece of work gives."""


def share(
    hire: Callable[..., Worker[Work, Made]],
    settings: tuple[object, ...],
    works: Sequence[Work],
    address: str,
    *,
    device: str,
    name: Callable[[Work], str],
) -> Generator[Made, None, None]:
    """Yield what the pieces of `works` give, as they are finished, made by one worker `hire(*settings)` per GPU or CPU slot.

    Its workers hold their slots until it is exhausted or closed: loop over it within `contextlib.closing`.

    `address` is that of a Ray cluster, or "local" for this machine. A free worker takes the next piece; the piece of a worker
    that dies goes to another. Files must be readable under the same path on every machine. `name` is how errors call a piece.

    Raises:
        UserError: the cluster can't be reached or has no slot, a worker refuses its files, or one piece kills three workers.
    """
    import ray as installed
    import torch

    # typed in part
    ray: Any = installed
    threads = torch.get_num_threads()
    gpu = device.startswith("cuda")
    with _cluster(ray, address):
        slots = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0)) // (1 if gpu else threads)
        if slots < 1:
            what = "GPU" if gpu else f"slot of {threads} CPU threads"
            raise UserError(f"--ray {address}: no {what} there; see OMP_NUM_THREADS")
        remote = ray.remote(hire).options(**({"num_gpus": 1} if gpu else {"num_cpus": threads}))
        waiting = deque((work, 0) for work in works)
        busy: dict[Any, tuple[Any, Work, int]] = {}
        idle = [remote.remote(*settings) for _ in range(min(slots, len(works)))]
        while waiting or busy:
            while waiting and idle:
                worker, (work, deaths) = idle.pop(), waiting.popleft()
                busy[worker.do.remote(work)] = (worker, work, deaths)
            done, _ = ray.wait(list(busy), num_returns=1)
            worker, work, deaths = busy.pop(done[0])
            try:
                made: Made = ray.get(done[0])
            except ray.exceptions.RayActorError as error:
                if deaths + 1 == DEATHS:
                    raise UserError(
                        f"{name(work)}: {DEATHS} workers died at it ({first_line(error)}); give a smaller --batch-size, "
                        "and see that every machine reads all files at the same path"
                    ) from error
                waiting.append((work, deaths + 1))
                idle.append(remote.remote(*settings))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise UserError(str(error.cause)) from error
                raise
            else:
                idle.append(worker)
                yield made


@contextmanager
def _cluster(ray: Any, address: str) -> Iterator[None]:  # noqa: ANN401 - the module, imported when asked for
    """Be connected to a cluster while a block runs; one that was there before stays."""
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
        yield
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError or ValueError if no server listens at `address`: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("local", "auto"):
        socket.create_connection((host, int(port)), timeout=5).close()
