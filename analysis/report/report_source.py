"""The database a report was made from, stored next to it, so that no report is replaced by one with fewer judgments."""

import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from db.session import Database
from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from evalkit.plural import plural

FILE_NAME = "source.json"
# A report without a stored source was made from judgments if it has one of these tables.
VOTE_TABLES = ("verdicts.csv", "agreement.csv", "shares.csv")


class ReportSource(BaseModel):
    """Database and number of judgments of a report; a SQLite file is stored relative to the report's folder."""

    database: str
    judgments: int


def check_replaceable(out: Path, database: Database, judgments: int) -> None:
    """Raise a UserError if `out` holds a report whose judgments a new one from `database` would lose."""
    earlier = _read(out)
    if earlier is None or earlier.judgments == 0:
        return
    same = earlier.database in ("", _stored_name(out, database))
    if same and judgments:
        return
    url = _url(out, earlier)
    made = plural(earlier.judgments, "judgment") if earlier.judgments > 0 else "judgments"
    origin = f" in {url}" if url else ""
    update = "" if same else f"add --db {url} to update it, "
    now = plural(judgments, "judgment") if judgments else "no judgments"
    raise UserError(
        f"{out}: its report was made from {made}{origin}, but {database.name} has {now}; "
        f"{update}--out FOLDER to keep both reports, or --replace"
    )


def record_source(out: Path, database: Database, judgments: int) -> None:
    """Store the database and the number of judgments of the report in `out`."""
    source = ReportSource(database=_stored_name(out, database), judgments=judgments)
    write_atomic(out / FILE_NAME, source.model_dump_json(indent=1) + "\n")


def _read(out: Path) -> ReportSource | None:
    file = out / FILE_NAME
    if file.exists():
        try:
            return ReportSource.model_validate_json(file.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a report's source file; delete it if the report may be replaced") from error
    made = any((out / "tables" / name).exists() for name in VOTE_TABLES)
    return ReportSource(database="", judgments=-1) if made else None


def _stored_name(out: Path, database: Database) -> str:
    if database.file is None:
        return database.name
    return Path(os.path.relpath(database.file.resolve(), out.resolve())).as_posix()


def _url(out: Path, source: ReportSource) -> str:
    """Return the URL of a report's database as `--db` takes it in this folder; empty if it is unknown."""
    if not source.database or "://" in source.database:
        return source.database
    path = (out.resolve() / source.database).resolve()
    relative = Path(os.path.relpath(path))
    return f"sqlite:///{path if relative.parts[0] == '..' else relative}"
