"""Shared arguments of the study's commands, and access to the database of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from db.session import Database

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
# Arguments are visible to everyone on the machine, so a URL with a password can be given by this variable.
DB_VARIABLE = "EVALKIT_DB"
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar=DB_VARIABLE,
        help="The database: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. Default: RUN/study.db.",
    ),
]


@contextmanager
def opened(run: Path, db: str | None) -> "Iterator[Database]":
    """Open the database of a run for a `with` block; a folder that is not a run is refused before a file is created in it."""
    from db.session import default_url, open_database
    from evalkit.run.manifest import Manifest

    Manifest.load(run)
    database = open_database(db or default_url(run))
    try:
        yield database
    finally:
        database.close()


def begun(database: "Database", run: Path) -> int:
    """Return the id of a run's study; raise a UserError that names the next step if none has begun."""
    from db.run_databases import other_database_hint
    from db.session import write
    from evalkit.cli.console import command_line
    from evalkit.errors import UserError
    from study_app.plan.initialize import find_study
    from study_app.plan.log_start import start_log

    study = find_study(database, run)
    if study is None:
        hint = other_database_hint(run, database.file)
        begin = f"begin it with: {command_line('study', 'init', run)}"
        raise UserError(f"{run}: no study has begun in {database.name}; {f'{hint}; or ' if hint else ''}{begin}")
    if not database.is_archive:
        with write(database) as session:
            start_log(session, study.id)
    return study.id
