"""How many requests are in flight: fewer after errors, slowly more again, none after a stop."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# so many answers in a row let one more request into flight
RECOVERY = 10


class Pace:
    """Limit of requests in flight, shared by the threads of a run."""

    def __init__(self, most: int) -> None:
        self.most = self.limit = most
        self.stopped = threading.Event()
        self._in_flight = self._answers = 0
        self._condition = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Wait for a place in flight; yield False if the run was stopped meanwhile."""
        with self._condition:
            while self._in_flight >= self.limit and not self.stopped.is_set():
                self._condition.wait(0.2)
            self._in_flight += 1
        try:
            yield not self.stopped.is_set()
        finally:
            with self._condition:
                self._in_flight -= 1
                self._condition.notify_all()

    def slower(self) -> None:
        """Halve the limit."""
        with self._condition:
            self.limit, self._answers = max(1, self.limit // 2), 0

    def answered(self) -> None:
        """Count an answer."""
        with self._condition:
            self._answers += 1
            if self._answers >= RECOVERY and self.limit < self.most:
                self.limit, self._answers = self.limit + 1, 0
                self._condition.notify_all()

    def stop(self) -> None:
        """Let no further request begin."""
        self.stopped.set()
