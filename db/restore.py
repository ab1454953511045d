"""Restoration of a SQLite database from a backup, with the replaced files kept."""

import fcntl
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from db.backup import PRIVATE, check_sqlite, read_only
from db.utc import utc_now
from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside

# SQLite's lock bytes: every connection of WAL mode holds a shared lock on them (sqlite.org/lockingv3.html)
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
_SIDE_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Restored:
    """Result of a restoration: the database's new path for the replaced file, judgments in the copy, judgments lost.

    `lost` is None if the replaced database could not be read.
    """

    replaced: Path | None
    judgments: int
    lost: int | None


def restore_sqlite(file: Path, copy: Path) -> Restored:
    """Put a checked copy in the place of the database `file`.

    The database, its write-ahead log and its shared memory are moved aside first: a stale log would be replayed into the copy
    and damage it. Stop the server before.

    Raises:
        UserError: the copy is missing or damaged, or another process has the database open.
    """
    if not copy.is_file():
        raise UserError(f"{copy}: the copy does not exist; the copies are in RUN/study/backups")
    if file.exists() and copy.samefile(file):
        raise UserError(f"{copy}: is the database itself; give a copy of it")
    check_sqlite(copy)
    judgments = _count(copy)
    if judgments is None:
        raise UserError(f"{copy}: is not a database of evalkit; give a copy made by `evalkit study backup`")
    _refuse_open(file)
    before = _count(file) if file.exists() else 0
    replaced = _move_aside(file)
    with temporary_beside(file, PRIVATE) as temporary:
        shutil.copyfile(copy, temporary)
    check_sqlite(file)
    return Restored(replaced, judgments, None if before is None else max(0, before - judgments))


def _count(file: Path) -> int | None:
    """Return the number of judgments in a database, its write-ahead log included; None if it cannot be read."""
    try:
        with closing(read_only(file)) as database:
            return int(database.execute("SELECT count(*) FROM judgments").fetchone()[0])
    except sqlite3.Error:
        return None


def _refuse_open(file: Path) -> None:
    if not file.exists():
        return
    with file.open("rb+") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        except OSError:
            raise UserError(f"{file}: another process has the database open; stop `evalkit study serve` first") from None


def _move_aside(file: Path) -> Path | None:
    aside = file.with_name(f"{file.name}.replaced-{utc_now():%Y%m%dT%H%M%S%fZ}")
    moved = False
    for suffix in _SIDE_FILES:
        old = file.with_name(file.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
            moved = True
    return aside if moved else None
