"""Copy a SQLite database while it is in use, and prove the copy by opening it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside
from evalkit.plural import plural


def copy_sqlite(file: Path, copy: Path) -> None:
    """Write a whole, checked copy of the database `file` to `copy`; writers may continue meanwhile.

    Uses VACUUM INTO (sqlite.org/lang_vacuum.html): a plain copy of the file would miss what is still in the write-ahead log.

    Raises:
        UserError: `file` is not a database, the copy can't be written, or the copy is not sound.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no database to copy")
    with temporary_beside(copy) as temporary:
        try:
            with closing(sqlite3.connect(file, timeout=15, isolation_level=None)) as source:
                source.execute("VACUUM INTO ?", (str(temporary),))
        except sqlite3.Error as error:
            raise UserError(f"{copy}: the copy of {file} failed: {error}") from error
        check_sqlite(temporary)


def check_sqlite(file: Path) -> None:
    """Open a SQLite file and check its pages and references; raise a UserError that names the fault."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            found = [row[0] for row in database.execute("PRAGMA integrity_check")]
            dangling = database.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        raise UserError(f"{file}: is no sound SQLite database: {error}") from error
    if found != ["ok"]:
        raise UserError(f"{file}: is damaged: {found[0]}")
    if dangling:
        raise UserError(f"{file}: {plural(len(dangling), 'row refers', 'rows refer')} to missing rows")
