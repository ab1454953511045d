"""SQLite databases in a run folder that hold judgments."""

import sqlite3
from contextlib import closing
from pathlib import Path

from evalkit.plural import plural


def databases_with_judgments(run: Path) -> dict[Path, int]:
    """Return the SQLite files in a run folder that hold judgments, with their number; nothing is written or migrated."""
    counts = {}
    for file in sorted(run.glob("*.db")):
        try:
            with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                (count,) = connection.execute("SELECT count(*) FROM judgments").fetchone()
        except sqlite3.Error:
            continue  # not a database, or not one of evalkit's
        if count:
            counts[file] = int(count)
    return counts


def other_database_hint(run: Path, opened: Path | None) -> str | None:
    """Return a sentence that names another database of the run with judgments, or None if there is none."""
    others = {
        file: count
        for file, count in databases_with_judgments(run).items()
        if opened is None or file.resolve() != opened.resolve()
    }
    if not others:
        return None
    file, count = max(others.items(), key=lambda item: item[1])
    return f"{file} holds {plural(count, 'judgment')}; to use it, add --db sqlite:///{file}"
