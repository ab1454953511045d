"""Database sessions: durable SQLite (WAL, full synchronisation) or PostgreSQL, by URL."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from db.backup import PRIVATE, is_archive, read_only
from db.schema import migrate
from db.write_queue import TooLongError, writing
from evalkit.errors import UserError

Kept = TypeVar("Kept")
BUSY_SECONDS = 15
_HOOKS = "before commit"
_PRAGMAS = (
    f"busy_timeout={BUSY_SECONDS * 1000}",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    # what is erased is overwritten, not only unlinked
    "secure_delete=ON",
)


class DatabaseError(UserError):
    """The database cannot be read or written: full disk, missing permission, server unreachable, or locked."""


@dataclass(frozen=True)
class Database:
    """An open database; give it to `read` and `write`."""

    url: URL
    engine: Engine
    # cache of values that cannot change any more
    kept: dict[tuple[object, ...], object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Return the URL as it may be shown: without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """Return the file of a SQLite database, None for a server."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    @property
    def is_archive(self) -> bool:
        """Return whether this is a SQLite file that can only be read."""
        return self.file is not None and is_archive(self.file)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def default_url(run: Path) -> str:
    """Return the URL of the database inside a run folder."""
    return f"sqlite:///{run / 'study.db'}"


def database_file(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for a server; raise a UserError for anything else."""
    checked = _check_url(url)
    return Path(checked.database or "") if checked.get_backend_name() == "sqlite" else None


def open_database(url: str) -> Database:
    """Return the database at `url`, its tables made or brought up to date.

    `url` is `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`. A SQLite file of an older schema is copied to
    a file next to it before the migration. A new SQLite file is readable by its owner alone. A file that cannot be written is
    opened as an archive, for reading.

    Raises:
        UserError: the URL is not one of these, the database can't be reached, holds tables of another program, or its schema is
            newer than this evalkit.
    """
    checked = _check_url(url)
    if checked.get_backend_name() == "sqlite":
        _prepare_file(Path(checked.database or ""))
    database = Database(url=checked, engine=_make_engine(checked))
    try:
        with _translated(database):
            migrate(database.engine, database.name)
    except UserError:
        database.close()
        raise
    return database


@contextmanager
def read(database: Database) -> Iterator[Session]:
    """Yield a read-only session with a consistent snapshot."""
    engine = database.engine
    if database.file is None:
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with _translated(database), Session(engine, info={"kept": database.kept}) as session:
        yield session


@contextmanager
def write(database: Database) -> Iterator[Session]:
    """Yield a session that is committed on exit, or rolled back if the block raises.

    Once this returns, the changes are on disk. On SQLite the writers of one process queue and share commits; an error of one
    writer rolls back nothing of another. Objects stay readable after the commit.
    """
    with _translated(database), _transaction(database) as session:
        session.info["kept"] = database.kept
        yield session
        for hook in session.info.pop(_HOOKS, ()):
            hook(session)


def before_commit(session: Session, hook: Callable[[Session], None]) -> None:
    """Run `hook` at the end of the `write` block, in the same transaction, unless the block raises."""
    session.info.setdefault(_HOOKS, []).append(hook)


def writers_meet(session: Session) -> bool:
    """Return whether several writers can be active, so that rows must be locked; SQLite has one writer."""
    return session.get_bind().dialect.name != "sqlite"


def keep(session: Session, key: tuple[object, ...], make: Callable[[], Kept]) -> Kept:
    """Return the value of `make`, computed once per open database and key; only for values that cannot change."""
    cache: dict[tuple[object, ...], Kept] = session.info["kept"]
    if key not in cache:
        cache[key] = make()
    return cache[key]


def forget_kept(session: Session) -> None:
    """Clear the cache of values read once."""
    session.info["kept"].clear()


def _check_url(url: str) -> URL:
    allowed = "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
    try:
        # a path is taken as it is: "?" and "#" in it start no query
        path = url.removeprefix("sqlite:///")
        parsed = make_url(url) if path == url else URL.create("sqlite", database=path)
    except ArgumentError:
        raise UserError(f"database {url!r}: no database URL; {allowed}") from None
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise UserError(f"database {parsed.render_as_string()}: {parsed.get_backend_name()} is not supported; {allowed}")
    if not parsed.database or parsed.database == ":memory:":
        raise UserError(f"database {url!r}: names no file, and judgments must not live in memory; {allowed}")
    folder = Path(parsed.database).parent
    if not folder.is_dir():
        raise UserError(f"database {url!r}: the folder {folder} does not exist; create it first")
    return parsed.set(drivername="sqlite")


def _prepare_file(file: Path) -> None:
    """Create a missing SQLite file for its owner alone; SQLite gives its write-ahead log the same permissions."""
    if not file.exists():
        with suppress(OSError):  # reported when the database is opened
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, PRIVATE))
    elif is_archive(file):
        log = file.with_name(f"{file.name}-wal")
        if log.exists() and log.stat().st_size > 0:
            raise UserError(f"{file}: cannot be written, but {log.name} has to be merged into it; copy both to another folder")


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20)
    file = Path(url.database or "")
    if is_archive(file):
        archive = create_engine(url, creator=lambda: read_only(file, check_same_thread=False))
        event.listen(archive, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(archive, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return archive
    engine = create_engine(url, pool_size=10, max_overflow=100, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _set_up(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # Python's transaction control begins late and deferred, so BEGIN is emitted here
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("write", False)
        if connection.info.get("writes") is not writes:
            connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
            connection.info["writes"] = writes
        # a deferred transaction that becomes a writer fails at once if another was faster, whatever the busy timeout
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _transaction(database: Database) -> Iterator[Session]:
    if database.file is None:
        with Session(database.engine, expire_on_commit=False) as session, session.begin():
            yield session
        return
    patience = 4 * BUSY_SECONDS
    try:
        with (
            writing(database.engine, patience) as connection,
            Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session,
            session.begin(),
        ):
            yield session
    except TooLongError:
        raise DatabaseError(f"{database.name}: other writers held it for {patience} s; try again") from None


@contextmanager
def _translated(database: Database) -> Iterator[None]:
    """Translate operational database errors (full, locked, unreachable, damaged) into one-line errors."""
    try:
        yield
    except DBAPIError as error:
        damaged = type(error.orig).__name__ == "DatabaseError"
        if not (isinstance(error, OperationalError) or damaged or error.connection_invalidated):
            raise
        reason = str(error.orig).strip().splitlines()[0]
        raise DatabaseError(f"{database.name}: {reason}") from error
