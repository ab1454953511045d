"""`evalkit export` and `evalkit import-votes`: tidy files of a run, and votes from other tools."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
Db = Annotated[str | None, typer.Option(metavar="URL", help="The database. Default: RUN/study.db.")]


def export(
    run: Run,
    db: Db = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to write. Default: RUN/tidy.")] = None,
    no_simulated: Annotated[bool, typer.Option("--no-simulated", help="Leave simulated votes out.")] = False,
) -> None:
    """Write a run's votes and scores as tidy CSV files with a codebook."""
    from analysis.database_rows import read_run
    from analysis.transfer.database_votes import database_votes
    from analysis.transfer.tidy import write_tidy
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.cli.console import stdout
    from evalkit.io.atomic_files import check_folder
    from evalkit.plural import plural
    from evalkit.run.manifest import Manifest

    # a folder that is not a run is refused before a database is created in it
    Manifest.load(run)
    check_folder("--out", out)
    database = open_database(db if db is not None else default_url(run))
    try:
        run_id = load_run(database, run).run_id
        # votes carry their flags, so here none are left out by default
        data, votes = read_run(database, run_id, simulated=True), database_votes(database, run_id)
    finally:
        database.close()
    if no_simulated:
        votes = [vote for vote in votes if "simulated" not in vote.flags]
    folder = out if out is not None else run / "tidy"
    counts = write_tidy(votes, data.concepts_of, data.scores, folder)
    written = f"votes.csv ({plural(counts['votes.csv'], 'vote')}), scores.csv ({plural(counts['scores.csv'], 'score')})"
    stdout().print(f"export: {folder}: {written}, codebook.md", markup=False)


def import_votes(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Votes as .csv, .tsv, .json or .jsonl; some layouts take several.")
    ],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="The run folder that holds the images.")],
    db: Db = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The layout: tidy, prolific, google-forms, label-studio, potato, arena, imagenhub or dreambench.",
        ),
    ] = "tidy",
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="A column of FILE under another name, as participant=PROLIFIC_PID."),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A table that maps a tool's items: item, case, seed, arm_left, arm_right."),
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="NAME", help="The question to analyze, if FILE has several. Default: overall.")
    ] = None,
    tie_within: Annotated[
        float, typer.Option(min=0, help="Ratings that differ by at most this much are a tie. Default: equal ones.")
    ] = 0.0,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Of two ratings the lower one wins.")] = False,
    without_images: Annotated[
        bool, typer.Option("--without-images", help="Make RUN from the votes alone; it gets no images.")
    ] = False,
) -> None:
    """Import votes that were collected elsewhere, as an external study.

    FILE has the columns participant, case, seed, arm_left, arm_right and chosen_arm (an arm, tie or both_bad); arm_a and
    arm_b if sides are not known; or arm with rank (rankings, best of N) or with rating, one row per arm. Optional:
    concepts, question, order, response_ms, flags. `evalkit export` writes such a file. --layout reads other tools' files.
    """
    from analysis.transfer.external_study import store_votes
    from analysis.transfer.ratings import RatingRule
    from analysis.transfer.vote_files import digest, read_vote_rows, read_votes
    from analysis.transfer.vote_rows import votes_of_rows
    from analysis.transfer.votes_run import votes_run, with_seeds
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.cli.console import command_line, stdout
    from evalkit.plural import plural
    from evalkit.run.manifest import FILE_NAME, Manifest

    # a folder that is not a run is refused before anything is read
    manifest = Manifest.load(run) if (run / FILE_NAME).exists() or not without_images else None
    mapping = dict(word.partition("=")[::2] for word in columns or ())
    rule = RatingRule(tie_within, lower_is_better)
    rows = read_vote_rows(files, layout, mapping, items)
    if manifest is not None and not (without_images and manifest.source == "votes"):
        votes = read_votes(files, rows, manifest, question, rule)
    else:
        where = ", ".join(str(file) for file in files)
        new_run, votes = votes_run(votes_of_rows(where, with_seeds(rows), None, question, rule), run.name, digest(files))
        if manifest is None:
            new_run.save(run)
        if not votes.concepts:
            stdout().print("no concepts stated: each case counts as a concept of its own", markup=False)
    database = open_database(db if db is not None else default_url(run))
    try:
        run_id = load_run(database, run).run_id
        names = ", ".join(file.name for file in files)
        is_new = store_votes(database, run_id, votes, names, digest(files), layout)
    finally:
        database.close()
    people = plural(len({vote.participant for vote in votes.votes}), "participant")
    state = "stored as external" if is_new else "already stored, nothing changed"
    console = stdout()
    console.print(f"import-votes: {plural(len(votes.votes), 'vote')} of {people}: {state}", markup=False)
    ties = sum(not vote.best for vote in votes.votes)
    if ties:
        console.print(f"{plural(ties, 'answer')} `tie` or `both_bad` read as a tie", markup=False)
    if not all(vote.sides_known for vote in votes.votes):
        console.print("sides are not known, so no side effect is estimated", markup=False)
    for note in (*([f"ratings: {votes.rule}"] if votes.rule else []), *votes.notes):
        console.print(note, markup=False)
    console.print(f"next: {command_line('analyze', run, *(('--db', db) if db else ()))}", markup=False)


def import_scores(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Scores as .csv, .tsv, .json or .jsonl, one row per score.")],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="The run folder.")],
    columns: Annotated[
        list[str] | None, typer.Option(metavar="NAME=COLUMN", help="A column of FILE under another name, as value=score.")
    ] = None,
) -> None:
    """Import scores that another tool computed for a run's images; their signature marks them as external.

    FILE has the columns metric, direction (higher, lower or none), case, seed, arm and value, and may have signature, concept
    and other_arm. `evalkit export` writes such a file.
    """
    from analysis.transfer.score_rows import OPTIONAL, REQUIRED, add_scores, read_external_scores
    from evalkit.cli.console import command_line, stdout
    from evalkit.errors import UserError
    from evalkit.plural import plural
    from evalkit.run.manifest import Manifest

    manifest = Manifest.load(run)
    mapping = dict(word.partition("=")[::2] for word in columns or ())
    for name, column in mapping.items():
        if name not in (*REQUIRED, *OPTIONAL) or not column:
            raise UserError(
                f"--columns {name}={column}: is not a column to map; write NAME=COLUMN with {', '.join((*REQUIRED, *OPTIONAL))}"
            )
    scores = read_external_scores(file, manifest, mapping)
    replaced = add_scores(run, scores)
    metrics = sorted({score.metric for score in scores})
    state = f", {replaced:,} earlier ones replaced" if replaced else ""
    stdout().print(
        f"import-scores: {plural(len(scores), 'score')} of {', '.join(metrics)}: stored as external{state}", markup=False
    )
    stdout().print(f"next: {command_line('analyze', run)}", markup=False)
