"""The schema: migrations equal models, wrong states are impossible, strangers and newer versions are refused."""

import sqlite3
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from setuptools import find_namespace_packages
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from db import models, schema
from db.backup import check_sqlite, copy_sqlite
from db.session import Database, open_database, read, write
from db.utc import utc_now
from evalkit.errors import UserError


def test_migrations_make_what_the_models_say(database: Database) -> None:
    with database.engine.connect() as connection, warnings.catch_warnings():
        # SQLite can't show indexes on expressions; PostgreSQL's run compares that one
        warnings.filterwarnings("ignore", message="autogenerate skipping|Skipped unsupported reflection")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, models.DatabaseTable.metadata) == []


def test_every_check_of_the_models_is_in_the_database(database: Database) -> None:
    inspector = inspect(database.engine)
    for table in models.DatabaseTable.metadata.sorted_tables:
        wanted = {str(check.name) for check in table.constraints if type(check).__name__ == "CheckConstraint"}
        assert {check["name"] for check in inspector.get_check_constraints(table.name)} == wanted


def test_opening_again_changes_nothing(database: Database, database_url: str) -> None:
    again = open_database(database_url)
    with read(again) as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == schema.newest()
    again.close()


def test_the_wheel_holds_the_migrations() -> None:
    root = Path(models.__file__).parents[1]
    assert "db.migrations.versions" in find_namespace_packages(str(root), include=["db*"])


def test_a_newer_schema_is_refused_in_one_line(database: Database, database_url: str) -> None:
    with write(database) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match=r"schema \(9999\) is newer than this version of evalkit; update evalkit") as caught:
        open_database(database_url)
    assert "\n" not in str(caught.value)


def test_tables_of_another_program_are_left_alone(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE recipes (id INTEGER)")
    other.close()
    with pytest.raises(UserError, match="holds tables of another program \\(recipes\\)"):
        open_database(f"sqlite:///{file}")


def test_an_older_file_is_copied_before_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    for name in ("env.py", "versions/0001_run_scores_study.py"):
        (tmp_path / "migrations" / name).write_text((schema.MIGRATIONS / name).read_text())
    url = f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path / "migrations")
    open_database(url).close()
    (versions / "0002_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('runs', recreate='always') as runs:\n"
        "        runs.add_column(sa.Column('more', sa.Text()))\n"
    )
    open_database(url).close()
    copy = tmp_path / "study.db.before-0002-was-0001"
    check_sqlite(copy)
    with sqlite3.connect(copy) as old:
        assert old.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    old.close()
    opened = open_database(url)
    assert "more" in {column["name"] for column in inspect(opened.engine).get_columns("runs")}
    opened.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "no database URL; give sqlite:///FILE or postgresql://"),
        ("mysql://user:secret@host/name", "mysql is not supported"),
        ("sqlite://", "names no file"),
        ("sqlite:////nowhere/at/all/study.db", "does not exist"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"not a database at all, but long enough to look like one" * 40)
    with pytest.raises(UserError, match="file is not a database"):
        open_database(f"sqlite:///{tmp_path / 'study.db'}")


def test_a_server_that_is_away_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        open_database("postgresql://someone:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sqlite_is_set_up_to_lose_nothing(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'study.db'}")
    with database.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}
    database.close()


def test_reading_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"), read(database) as session:
        session.execute(text("DELETE FROM runs"))


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def half() -> None:
        with write(database) as session:
            session.add(run_row())
            session.flush()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        half()
    with read(database) as session:
        assert session.query(models.Run).count() == 0


def run_row(**other: Any) -> models.Run:
    values = {"name": "r", "experiment_sha256": "a" * 64, "manifest_sha256": "b" * 64, "source": "generated"}
    return models.Run(**{**values, "loaded_at": utc_now(), **other})


def test_moments_come_back_in_utc_and_need_a_zone(database: Database) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    with write(database) as session:
        session.add(run_row(loaded_at=moment))
    with read(database) as session:
        assert session.query(models.Run).one().loaded_at == moment
    with pytest.raises(Exception, match="the timestamp has no time zone"), write(database) as session:
        session.add(run_row(experiment_sha256="c" * 64, loaded_at=datetime(2026, 1, 2)))  # noqa: DTZ001 -- what is refused


def test_a_source_nobody_knows_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError), write(database) as session:
        session.add(run_row(source="dreamt"))


def test_a_backup_holds_what_is_still_in_the_log(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'study.db'}")
    with write(database) as session:
        session.add(run_row())
    copy_sqlite(tmp_path / "study.db", tmp_path / "copy.db")
    database.close()
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    copy.close()


def test_a_damaged_copy_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(UserError, match="is not a readable SQLite database"):
        check_sqlite(tmp_path / "copy.db")
