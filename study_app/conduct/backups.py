"""Scheduled backups of the served database: checked copies, the oldest ones removed."""

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
    """Back up a SQLite database every `minutes` minutes and on exit; 0 disables it, PostgreSQL is not backed up."""
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
    """Copy the database to the run's backups, remove all but the newest scheduled copies, and return the new one.

    Raises:
        UserError: the copy cannot be written or is damaged.
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
        # keep serving: the database itself is intact
        _log.error("backup failed: %s", error)
