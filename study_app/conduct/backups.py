"""Copies of the database while it is served: every so often and at the end, each opened and checked, old ones removed."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.backup import copy_sqlite
from db.session import Database
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.plan.blinding import FOLDER

KEPT = 10
SECONDS_PER_MINUTE = 60.0
_log = logging.getLogger(__name__)


@contextmanager
def backups(database: Database, run: Path, minutes: int) -> Iterator[None]:
    """Copy a SQLite database every so many minutes and on leaving; 0 minutes, and a server's database, are left alone."""
    if minutes == 0 or database.file is None:
        yield
        return
    file, over = database.file, threading.Event()

    def work() -> None:
        while not over.wait(SECONDS_PER_MINUTE * minutes):
            _copy_or_log(file, run)

    thread = threading.Thread(target=work, name="backups", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _copy_or_log(file, run)


def back_up(file: Path, run: Path) -> Path:
    """Copy the database into the run's backups, remove all but the newest copies made here, and return the new one.

    Raises:
        UserError: the copy can't be written or is not sound.
    """
    folder = run / FOLDER / "backups"
    copy = folder / f"served-{utc_now():%Y%m%dT%H%M%S%fZ}.db"
    copy_sqlite(file, copy)
    for old in sorted(folder.glob("served-*.db"))[:-KEPT]:
        old.unlink()
    return copy


def _copy_or_log(file: Path, run: Path) -> None:
    try:
        back_up(file, run)
    except UserError as error:
        # serving goes on: the database itself is whole
        _log.error("backup failed: %s", error)
