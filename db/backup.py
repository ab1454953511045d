"""Online backup of a SQLite database, with an integrity check of the copy."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside
from evalkit.plural import plural

# a database holds recruiters' ids and replies: for its owner alone
PRIVATE = 0o600


def copy_sqlite(file: Path, copy: Path) -> None:
    """Write a checked copy of the database `file` to `copy`, for its owner alone; other connections may keep writing.

    Uses VACUUM INTO (sqlite.org/lang_vacuum.html): a plain copy of the file misses what is still in the write-ahead log.

    Raises:
        UserError: `file` is not a database, the copy cannot be written, or the copy is damaged.
    """
    if not file.is_file():
        raise UserError(f"{file}: the database does not exist; give the file of an existing one")
    with temporary_beside(copy, PRIVATE) as temporary:
        try:
            with closing(sqlite3.connect(file, timeout=15, isolation_level=None)) as source:
                source.execute("VACUUM INTO ?", (str(temporary),))
        except sqlite3.Error as error:
            raise UserError(
                f"{copy}: the copy of {file} failed: {error}; free space on the disk, or copy to another folder"
            ) from error
        check_sqlite(temporary)


def is_archive(file: Path) -> bool:
    """Return whether a SQLite file exists and cannot be changed, because of its own permissions or those of its folder."""
    return file.exists() and not (os.access(file, os.W_OK) and os.access(file.resolve().parent, os.W_OK))


def read_only(file: Path, check_same_thread: bool = True) -> sqlite3.Connection:
    """Open a SQLite file for reading, whatever its name; one that cannot be written, as an unchanging archive."""
    # as_uri quotes "#", "?" and "%", which would otherwise cut the path
    mode = "mode=ro&immutable=1" if is_archive(file) else "mode=ro"
    return sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True, check_same_thread=check_same_thread)


def scrub_sqlite(file: Path) -> bool:
    """Rewrite a SQLite database without its freed pages and empty its write-ahead log, so that deleted rows leave no bytes.

    Return whether it was possible; another process that reads at this moment prevents it.
    """
    try:
        with closing(sqlite3.connect(file, timeout=15, isolation_level=None)) as database:
            database.execute("VACUUM")
            busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False
    return not busy


def check_sqlite(file: Path) -> None:
    """Check the pages and foreign keys of a SQLite file; raise a UserError that names the first fault."""
    try:
        with closing(read_only(file)) as database:
            problems = [row[0] for row in database.execute("PRAGMA integrity_check")]
            dangling = database.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        raise UserError(
            f"{file}: is not a readable SQLite database ({error}); restore a backup with `evalkit study restore`"
        ) from error
    if problems != ["ok"]:
        raise UserError(f"{file}: the database is damaged ({problems[0]}); restore a backup with `evalkit study restore`")
    if dangling:
        raise UserError(
            f"{file}: {plural(len(dangling), 'row refers', 'rows refer')} to missing rows; "
            "restore a backup with `evalkit study restore`"
        )
