"""`evalkit export` and `evalkit import-votes`: tidy files of a run, and votes from other tools."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="the run folder")]
Db = Annotated[str | None, typer.Option(metavar="URL", help="database (default: sqlite:///RUN/study.db)")]


def export(
    run: Run,
    db: Db = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="where to write (default: RUN/tidy)")] = None,
    no_simulated: Annotated[bool, typer.Option("--no-simulated", help="leave simulated votes out")] = False,
) -> None:
    """Write a run's votes and scores as tidy CSV files with a codebook."""
    from analysis.database_rows import read_run
    from analysis.transfer.tidy import write_tidy
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.cli.console import stdout
    from evalkit.plural import plural
    from evalkit.run.manifest import Manifest

    # a folder that is no run is refused before a database is created in it
    Manifest.load(run)
    database = open_database(db if db is not None else default_url(run))
    try:
        data = read_run(database, load_run(database, run).run_id, False if no_simulated else None)
    finally:
        database.close()
    folder = out if out is not None else run / "tidy"
    counts = write_tidy(data, folder)
    rows = ", ".join(f"{name} ({plural(number, 'row')})" for name, number in counts.items())
    stdout().print(f"export: {folder}: {rows}, codebook.md", markup=False)
    if len(data.several):
        left_out = plural(len(data.several), "judgment")
        stdout().print(f"note: {left_out} of several images at once not written; `evalkit study export` has all", markup=False)


def import_votes(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="votes as .csv, .json or .jsonl, one row per vote")],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="the run folder that holds the images")],
    db: Db = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="a column of FILE under another name, as participant=PROLIFIC_PID"),
    ] = None,
) -> None:
    """Import votes on a run's images that were collected elsewhere, as an external study.

    FILE has the columns participant, case, seed, arm_left, arm_right and chosen_arm (an arm, tie or both_bad), and may have
    response_ms and flags. `evalkit export` writes such a file.
    """
    from analysis.transfer.external_study import store_votes
    from analysis.transfer.vote_file import read_votes
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.cli.console import command_line, stdout
    from evalkit.errors import UserError
    from evalkit.io.atomic_files import sha256_file
    from evalkit.plural import plural
    from evalkit.run.manifest import Manifest

    manifest = Manifest.load(run)
    known = ("participant", "case", "seed", "arm_left", "arm_right", "chosen_arm", "response_ms", "flags")
    mapping = dict(word.partition("=")[::2] for word in columns or ())
    for name, column in mapping.items():
        if name not in known or not column:
            raise UserError(f"--columns {name}={column}: is not a column to map; write NAME=COLUMN with {', '.join(known)}")
    votes = read_votes(file, manifest, mapping)
    database = open_database(db if db is not None else default_url(run))
    try:
        run_id = load_run(database, run).run_id
        new = store_votes(database, run_id, votes, file.name, sha256_file(file))
    finally:
        database.close()
    people = plural(len({vote.participant for vote in votes}), "participant")
    state = "stored as external" if new else "already stored, nothing changed"
    stdout().print(f"import-votes: {plural(len(votes), 'vote')} of {people}: {state}", markup=False)
    ties = sum(vote.chosen is None for vote in votes)
    if ties:
        stdout().print(f"{plural(ties, 'answer')} `tie` or `both_bad` read as a tie", markup=False)
    stdout().print(f"next: {command_line('analyze', run, *(('--db', db) if db else ()))}", markup=False)
