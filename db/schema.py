"""Schema migration to this version; databases of newer versions are refused."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect

from db.backup import copy_sqlite, is_archive
from evalkit.errors import UserError
from evalkit.plural import plural

if TYPE_CHECKING:  # Alembic is imported lazily
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
# any number, the same in every process: PostgreSQL's lock for "someone migrates"
_LOCK = 0x6576616C


def migrate(engine: Engine, name: str) -> None:
    """Make the tables, or bring them to the newest revision, in one transaction.

    `name` identifies the database in messages. An older SQLite file is first copied to a file next to it, named after its
    revision.

    Raises:
        UserError: the tables are another program's or of a newer evalkit.
    """
    with engine.connect() as connection:
        current = check_revision(connection, name)
    if current == newest():
        return
    if engine.dialect.name == "sqlite" and is_archive(Path(engine.url.database or "")):
        raise UserError(f"{name}: has an older schema and cannot be written; copy it to another folder and open it there")
    if current is not None and engine.dialect.name == "sqlite":
        _copy_before(engine, current)
    from alembic import command

    with engine.execution_options(write=True).connect() as connection:
        if engine.dialect.name == "sqlite":
            # outside any transaction, where the pragma counts: a batch migration drops and remakes tables that others refer to
            _plain(connection, "PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                if engine.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                # another process may have been faster
                if check_revision(connection, name) != newest():
                    configuration = alembic_configuration()
                    configuration.attributes["connection"] = connection
                    command.upgrade(configuration, "head")
                _refuse_dangling(connection, name)
        finally:
            if engine.dialect.name == "sqlite":
                _plain(connection, "PRAGMA foreign_keys=ON")


def alembic_configuration() -> "Config":
    """Return Alembic's configuration for our migrations; put a connection into its `attributes`."""
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration


def newest() -> str:
    """Return the revision this version of evalkit works with."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(alembic_configuration()).get_current_head()
    if head is None:
        raise RuntimeError(f"{MIGRATIONS}: the installation lacks its migrations")
    return head


def check_revision(connection: Connection, name: str) -> str | None:
    """Return the revision of the database, None for an empty one.

    Raises:
        UserError: the tables are another program's or of a newer evalkit.
    """
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        foreign_tables = inspect(connection).get_table_names()
        if foreign_tables:
            raise UserError(
                f"{name}: holds tables of another program ({', '.join(foreign_tables[:3])}); give an empty database"
            )
        return None
    known = {script.revision for script in ScriptDirectory.from_config(alembic_configuration()).walk_revisions()}
    if current not in known:
        raise UserError(f"{name}: its schema ({current}) is newer than this version of evalkit; update evalkit to open it")
    return current


def _copy_before(engine: Engine, revision: str) -> None:
    file = Path(engine.url.database or "")
    copy = file.with_name(f"{file.name}.before-{newest()}-was-{revision}")
    if not copy.exists():
        copy_sqlite(file, copy)


def _plain(connection: Connection, statement: str) -> None:
    """Run a statement on the driver's connection, outside SQLAlchemy's transactions."""
    cursor = connection.connection.cursor()
    cursor.execute(statement)
    cursor.close()


def _refuse_dangling(connection: Connection, name: str) -> None:
    if connection.dialect.name == "sqlite":
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if dangling:
            raise UserError(
                f"{name}: {plural(len(dangling), 'row refers', 'rows refer')} to missing rows; nothing was changed; "
                "restore a backup with `evalkit study restore`"
            )
