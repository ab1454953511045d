"""A full disk and a read-only database: the participant is told, what was acknowledged stays, and afterwards all goes on."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, select

from db.models import Judgment
from db.session import Database, DatabaseError, open_database, read, write
from db.utc import utc_now
from study_app.plan.audit_log import append
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.service.study import StudyService
from tests.runs import make_run
from tests.study_app.test_pages import Walk, ready


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path / "run", concepts=2, seeds=2, arms=("plain", "fancy"), scores=False)
    database = open_database(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    begin_study(database, tmp_path / "run", Design(per_comparison=500))
    walk = Walk(StudyService(database, tmp_path / "run"), monkeypatch)
    walk.token = walk.service.join()
    ready(walk)
    walk.press("Left")
    yield walk
    database.close()


@contextmanager
def listening(database: Database, name: str, listener: Callable[..., object]) -> Iterator[None]:
    """Let all new connections hear this, and no old one be used again."""
    database.engine.dispose()
    event.listen(database.engine, name, listener)
    try:
        yield
    finally:
        event.remove(database.engine, name, listener)
        database.engine.dispose()


def judged(database: Database) -> list[str]:
    with read(database) as session:
        return list(session.scalars(select(Judgment.choice).order_by(Judgment.id)))


def told_and_nothing_lost(walk: Walk) -> None:
    walk.press("Right")
    assert {error.value for error in walk.page.error} == {walk.service.sentences.trouble.storage}
    assert judged(walk.service.database) == ["left"]


def goes_on(walk: Walk) -> None:
    walk.open()
    assert "1 of 2 done" in walk.text
    walk.press("Right")
    assert judged(walk.service.database) == ["left", "right"]
    with sqlite3.connect(walk.service.database.file) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()


def fill(service: StudyService) -> None:
    """Log something small until not even that finds room."""
    while True:
        with write(service.database) as session:
            append(session, service.study_id, "noted", {}, utc_now())


def test_a_full_disk_is_told_and_nothing_acknowledged_is_lost(walk: Walk) -> None:
    database = walk.service.database

    def no_more_pages(connection: sqlite3.Connection, _: object) -> None:
        # SQLite raises a limit below what is used to what is used
        connection.execute("PRAGMA max_page_count=1")

    with listening(database, "connect", no_more_pages):
        with pytest.raises(DatabaseError, match="full"):
            fill(walk.service)
        told_and_nothing_lost(walk)
    goes_on(walk)


def test_a_read_only_database_is_told_and_nothing_acknowledged_is_lost(walk: Walk) -> None:
    database = walk.service.database

    def read_only(*_: object) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{database.file}?mode=ro", uri=True, check_same_thread=False)

    with sqlite3.connect(database.file) as other, listening(database, "do_connect", read_only):
        # as long as anyone has it open, its write-ahead log can be read
        other.execute("SELECT count(*) FROM judgments").fetchone()
        with pytest.raises(DatabaseError, match="readonly"):
            walk.service.join()
        told_and_nothing_lost(walk)
    other.close()
    goes_on(walk)
