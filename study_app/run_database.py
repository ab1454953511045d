"""Shared arguments of the study commands, and the database of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from db.session import Database

Run = Annotated[Path, typer.Argument(help="The run folder.")]
# Keeps the password out of the process arguments, which all users of the machine can read.
DB_VARIABLE = "EVALKIT_DB"
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar=DB_VARIABLE,
        help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. Default: RUN/study.db.",
    ),
]


@contextmanager
def opened(run: Path, db: str | None) -> "Iterator[Database]":
    """Yield the database of a run, closed on exit; a folder without a manifest is refused first."""
    from db.session import default_url, open_database
    from evalkit.run.manifest import Manifest

    Manifest.load(run)
    database = open_database(db or default_url(run))
    try:
        yield database
    finally:
        database.close()


def begun(database: "Database", run: Path) -> int:
    """Return the id of a run's study; raise a UserError if it has not been initialized."""
    from evalkit.errors import UserError
    from study_app.plan.initialize import find_study

    study = find_study(database, run)
    if study is None:
        raise UserError(f"{run}: the study has not been initialized; run `evalkit study init {run}`")
    return study.id
