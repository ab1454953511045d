"""Traces of an erased participant outside the database's rows: freed pages, write-ahead log, copies, exports."""

from pathlib import Path

from sqlalchemy import text

from db.backup import scrub_sqlite
from db.session import Database
from study_app.plan.blinding import FOLDER

_TABLES = ("identities", "participants", "replies", "screens")


def scrub(database: Database) -> bool:
    """Overwrite what deleted rows left in the database's own files; return whether that was possible now."""
    if database.file is not None:
        return scrub_sqlite(database.file)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for table in _TABLES:
            connection.execute(text(f"VACUUM {table}"))
    return True


def earlier_files(database: Database, run: Path) -> list[Path]:
    """Return the copies and exports of the study in the run folder; they hold what an erasure deletes afterwards."""
    copies = sorted((run / FOLDER / "backups").glob("*.db"))
    if database.file is not None:
        for state in ("before", "replaced"):
            copies += sorted(database.file.parent.glob(f"{database.file.name}.{state}-*"))
    return [*copies, *sorted((run / FOLDER).glob("*.zip")), *sorted((run / FOLDER).glob("*.csv"))]
