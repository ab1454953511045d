"""Who writes to a SQLite file when: one at a time, in the order they came; those who queue share one commit."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

# A commit waits for the disk, far longer than a judgment takes to write. So whoever is done while others queue hands the open
# transaction on, and waits until the one commit of all of them is on disk; but none is put off for longer than this.
SHARED_SECONDS = 0.05


class TooLongError(Exception):
    """Others held the file for all the time one was ready to wait."""


@dataclass
class _Batch:
    """What several writers wrote, one after the other, on its way to the disk in one commit."""

    connection: Connection
    began: float = field(default_factory=time.monotonic)
    settled: threading.Event = field(default_factory=threading.Event)
    # why none of it was kept
    error: BaseException | None = None


@dataclass
class _Turn:
    """One writer's place in the queue."""

    engine: Engine
    come: threading.Event = field(default_factory=threading.Event)
    # handed on by the writer before
    batch: _Batch | None = None


# Writers of one process queue here instead of in SQLite's busy handler, and no checkpoint (which runs inside COMMIT) overlaps
# another writer: SQLite before 3.51.3 can damage a WAL file then (sqlite.org/wal.html, "the WAL-reset bug"). A plain lock would
# let a busy thread take it again and again while others wait for ever.
_QUEUE: deque[_Turn] = deque()
_LOCK = threading.Lock()


@contextmanager
def writing(engine: Engine, patience: float) -> Iterator[Connection]:
    """Give a connection inside a transaction when it is this thread's turn; on leaving, return once all is on disk.

    What earlier writers left in the transaction is not on disk yet, so undo no more than a savepoint of your own: where the
    block raises, only that must be undone, and what the others wrote is kept. `patience` is in seconds.

    Raises:
        TooLongError: the turn did not come in time.
        OperationalError: the transaction or its commit failed; nothing of it was kept, for none of its writers.
    """
    turn = _queue(engine, patience)
    batch, failed = turn.batch, True
    try:
        if batch is None:
            batch = _begin(engine)
        yield batch.connection
        failed = False
    finally:
        if batch is None:
            _leave(turn)
        elif not _hand_on(turn, batch):
            try:
                _settle(batch)
            finally:
                _leave(turn)
        if batch is not None and not failed:
            batch.settled.wait()
    if batch.error is not None:
        raise OperationalError("COMMIT", None, getattr(batch.error, "orig", None) or batch.error) from batch.error


def _queue(engine: Engine, patience: float) -> _Turn:
    """Return once it is this thread's turn."""
    turn = _Turn(engine)
    with _LOCK:
        _QUEUE.append(turn)
        if _QUEUE[0] is turn:
            turn.come.set()
    try:
        come = turn.come.wait(patience)
    except BaseException:
        if turn.batch is not None:
            _settle(turn.batch)
        _leave(turn)
        raise
    if not come:
        with _LOCK:
            # it may have come this moment
            if not turn.come.is_set():
                _QUEUE.remove(turn)
                raise TooLongError
    return turn


def _begin(engine: Engine) -> _Batch:
    connection = engine.connect().execution_options(write=True)
    try:
        connection.begin()
    except BaseException:
        connection.close()
        raise
    return _Batch(connection)


def _hand_on(turn: _Turn, batch: _Batch) -> bool:
    """Give the open transaction to the next writer; return whether one was waiting."""
    if not _is_whole(batch) or time.monotonic() - batch.began > SHARED_SECONDS:
        return False
    with _LOCK:
        follower = _QUEUE[1] if len(_QUEUE) > 1 else None
        if follower is None or follower.engine is not turn.engine:
            return False
        _QUEUE.popleft()
        follower.batch = batch
        follower.come.set()
    return True


def _leave(turn: _Turn) -> None:
    """Leave the queue, and let the next one begin."""
    with _LOCK:
        _QUEUE.remove(turn)
        if _QUEUE:
            _QUEUE[0].come.set()


def _settle(batch: _Batch) -> None:
    """Bring a transaction to disk and tell all its writers how it went."""
    try:
        if not _is_whole(batch):
            raise OperationalError("COMMIT", None, OSError("the database undid the transaction"))
        batch.connection.commit()
    except BaseException as error:
        batch.error = error
        if not isinstance(error, DBAPIError):
            raise
    finally:
        try:
            batch.connection.close()
        finally:
            batch.settled.set()


def _is_whole(batch: _Batch) -> bool:
    """Return whether the transaction is still open: SQLite rolls it back if a disk is full or unreadable."""
    connection = batch.connection
    if connection.invalidated or connection.in_nested_transaction():
        return False
    return bool(getattr(connection.connection.driver_connection, "in_transaction", False))
