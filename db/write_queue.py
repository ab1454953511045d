"""Fair write queue for SQLite with group commit."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

# A commit waits for the disk, far longer than a judgment takes to write. A writer that finishes while others queue passes the
# open transaction to the next one and waits for the shared commit, but for no longer than this.
SHARED_SECONDS = 0.05


class TooLongError(Exception):
    """Other writers held the file for longer than the given patience."""


@dataclass
class _Batch:
    """One open transaction shared by several writers, committed once."""

    connection: Connection
    began: float = field(default_factory=time.monotonic)
    settled: threading.Event = field(default_factory=threading.Event)
    # why the commit failed
    error: BaseException | None = None


@dataclass
class _Turn:
    """One writer's position in the queue."""

    engine: Engine
    come: threading.Event = field(default_factory=threading.Event)
    # passed on by the previous writer
    batch: _Batch | None = None


# Writers of one process queue here instead of in SQLite's busy handler, and no checkpoint (which runs inside COMMIT) overlaps
# another writer: SQLite before 3.51.3 can damage a WAL file then (sqlite.org/wal.html, "the WAL-reset bug"). A plain lock would
# let a busy thread take it again and again while others wait for ever.
_QUEUE: deque[_Turn] = deque()
_LOCK = threading.Lock()


@contextmanager
def writing(engine: Engine, patience: float) -> Iterator[Connection]:
    """Yield a connection inside a transaction when it is this thread's turn; on exit, return once all is on disk.

    The changes of earlier writers in the transaction are not on disk yet, so roll back to your own savepoint only. If the
    block raises, the changes of the other writers are kept. `patience` is in seconds.

    Raises:
        TooLongError: the turn did not come within `patience`.
        OperationalError: the transaction or its commit failed, for all of its writers.
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
    """Pass the open transaction to the next writer; return whether there was one."""
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
    """Leave the queue and wake the next writer."""
    with _LOCK:
        _QUEUE.remove(turn)
        if _QUEUE:
            _QUEUE[0].come.set()


def _settle(batch: _Batch) -> None:
    """Commit a shared transaction and notify all its writers."""
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
    """Return whether the transaction is still open: SQLite rolls it back if the disk is full or unreadable."""
    connection = batch.connection
    if connection.invalidated or connection.in_nested_transaction():
        return False
    return bool(getattr(connection.connection.driver_connection, "in_transaction", False))
