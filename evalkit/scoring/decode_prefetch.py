"""Work done prefetch in threads, its results in order, and never more of them waiting than fit into a part of the memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Condition
from typing import Generic, TypeVar

# Bytes of finished work that may wait to be taken: 32 prepared images are 5 MB, one of 12,000 x 12,000 pixels is 432 MB.
BUDGET = 512 * 1024 * 1024
Item = TypeVar("Item")
Made = TypeVar("Made")


class MemoryGate(Generic[Made]):
    """Lets work begin while the results that wait are small enough, and always the work that is waited for."""

    def __init__(self, weigh: Callable[[Made], int], budget: int) -> None:
        """Begin with nothing waiting; `weigh` tells the bytes of a result."""
        self._weigh, self._budget = weigh, budget
        self._held, self._next, self._shut = 0, 0, False
        self._changed = Condition()

    def make(self, number: int, work: Callable[[], Made]) -> Made:
        """Do work when it may begin; its result waits from then on."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._budget or number == self._next or self._shut)
        made = work()
        with self._changed:
            self._held += self._weigh(made)
        return made

    def take(self, future: "Future[Made]") -> None:
        """Wait for the next result, which waits no longer."""
        failed = future.exception() is not None
        with self._changed:
            self._next += 1
            self._held -= 0 if failed else self._weigh(future.result())
            self._changed.notify_all()

    def shut(self) -> None:
        """Drop all pending work: no one takes results any more."""
        with self._changed:
            self._shut = True
            self._changed.notify_all()


def prefetch(
    items: Iterable[Item],
    work: Callable[[Item], Made],
    weigh: Callable[[Made], int],
    *,
    threads: int,
    depth: int,
    budget: int = BUDGET,
) -> "Generator[tuple[Item, Future[Made]]]":
    """Yield each item in order with its finished work, done in `threads`, for at most `depth` items prefetch.

    While results of `budget` bytes wait, only the work that is needed next begins: one result per thread may come on top.
    """
    gate = MemoryGate(weigh, budget)
    waiting: deque[tuple[Item, Future[Made]]] = deque()

    def next_one() -> "tuple[Item, Future[Made]]":
        item, future = waiting.popleft()
        gate.take(future)
        return item, future

    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for number, item in enumerate(items):
                waiting.append((item, pool.submit(gate.make, number, partial(work, item))))
                if len(waiting) > depth:
                    yield next_one()
            while waiting:
                yield next_one()
        finally:
            gate.shut()
            pool.shutdown(wait=False, cancel_futures=True)
