"""Writers that meet on a SQLite file: in the order they came, one commit for those who queue, and each told how it went."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import event, select

from db import models
from db import write_queue as turns
from db.session import Database, DatabaseError, open_database, read, write
from tests.db.test_schema import run_row

PATIENCE = 60


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path / 'study.db'}")
    yield database
    database.close()


def together(database: Database, count: int, work: Callable[[int], None]) -> list[BaseException | None]:
    """Let so many writers queue behind one that waits for them all, and return what each of them was told."""
    told: list[BaseException | None] = [None] * count

    def one(number: int) -> None:
        try:
            work(number)
        except (DatabaseError, RuntimeError) as error:
            told[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    # the first one may fail with the others
    with suppress(DatabaseError), write(database):
        for number, thread in enumerate(threads):
            thread.start()
            end = time.monotonic() + PATIENCE
            while len(turns._QUEUE) < number + 2 and time.monotonic() < end:
                time.sleep(0.001)
    for thread in threads:
        thread.join(PATIENCE)
    assert not turns._QUEUE
    return told


def names(database: Database) -> list[str]:
    with read(database) as session:
        return list(session.scalars(select(models.Run.name).order_by(models.Run.id)))


def add(database: Database, number: int) -> None:
    with write(database) as session:
        session.add(run_row(name=f"run {number}", experiment_sha256=f"{number:064d}"))


def test_writers_who_queue_share_a_commit_and_keep_their_order(file: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SHARED_SECONDS", PATIENCE)
    commits: list[object] = []
    event.listen(file.engine, "commit", commits.append)
    assert together(file, 8, lambda number: add(file, number)) == [None] * 8
    assert len(commits) == 1
    assert names(file) == [f"run {number}" for number in range(8)]


def test_none_is_put_off_for_long(file: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SHARED_SECONDS", 0.0)
    commits: list[object] = []
    event.listen(file.engine, "commit", commits.append)
    assert together(file, 4, lambda number: add(file, number)) == [None] * 4
    assert len(commits) == 5


def test_what_one_raises_undoes_nothing_of_the_others(file: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SHARED_SECONDS", PATIENCE)

    def work(number: int) -> None:
        with write(file) as session:
            session.add(run_row(name=f"run {number}", experiment_sha256=f"{number:064d}"))
            session.flush()
            if number in (1, 3):
                raise RuntimeError("stop")

    told = together(file, 4, work)
    assert [type(error) for error in told] == [type(None), RuntimeError, type(None), RuntimeError]
    assert names(file) == ["run 0", "run 2"]


def test_where_the_database_undoes_the_transaction_all_of_its_writers_are_told(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SHARED_SECONDS", PATIENCE)

    def work(number: int) -> None:
        with write(file) as session:
            session.add(run_row(name=f"run {number}", experiment_sha256=f"{number:064d}"))
            session.flush()
            if number == 1:
                # as SQLite itself does where the disk is full
                inner = session.connection().connection.driver_connection
                assert isinstance(inner, sqlite3.Connection)
                inner.execute("ROLLBACK")

    told = together(file, 3, work)
    assert isinstance(told[0], DatabaseError)
    assert isinstance(told[1], DatabaseError)
    assert told[2] is None
    assert names(file) == ["run 2"]


def test_who_waits_too_long_is_told_and_the_others_go_on(file: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.session.BUSY_SECONDS", 0.01)
    told: list[str] = []

    def late() -> None:
        with pytest.raises(DatabaseError) as caught:
            add(file, 1)
        told.append(str(caught.value))

    with write(file) as session:
        waiter = threading.Thread(target=late)
        waiter.start()
        waiter.join(PATIENCE)
        session.add(run_row(name="run 0", experiment_sha256="0" * 64))
    assert "other writers held it" in told[0]
    add(file, 2)
    assert names(file) == ["run 0", "run 2"]
