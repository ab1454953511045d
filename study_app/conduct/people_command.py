"""Commands on the participants of a study: `evalkit study people`, `exclude`, `include`, `void`, `erase`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.console import Json
from study_app.run_database import Db, Run, begun, opened

Participant = Annotated[str, typer.Argument(help="The participant's number, or the recruiter's id.")]


def people(
    run: Run,
    db: Db = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the table to this CSV file, for its owner alone.")] = None,
    bonus: Annotated[
        Path | None,
        typer.Option("--bonus", help="Write recruiter's ids and bonuses to this file, for Prolific's bulk payment."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every participant with recruiter's ids, state, judgments, minutes, checks and completion code, to pay them."""
    from db.session import read
    from evalkit.cli.console import print_json, print_table, stdout, table
    from evalkit.plural import plural
    from study_app.conduct.people import people_of, write_bonuses, write_people

    with opened(run, db) as database:
        study_id = begun(database, run)
        with read(database) as session:
            records = people_of(session, study_id)
    if bonus is not None:
        paid = write_bonuses(bonus, records)
        stdout().print(f"{bonus}: {plural(paid, 'bonus', 'bonuses')}; delete the file when they are paid", markup=False)
    if csv is not None:
        write_people(csv, records)
        stdout().print(f"{csv}: {plural(len(records), 'participant')}; delete the file when they are paid", markup=False)
    if as_json:
        print_json([vars(record) for record in records])
    elif csv is None and bonus is None:
        headers = ("participant", "recruiter's id", "session", "state", "judged", "minutes", "checks", "code")
        rows = [
            (
                f"{record.participant}{' (simulated)' if record.simulated else ''}", record.external_id or "",
                record.session_id or "", record.state, str(record.judged),
                "" if record.minutes is None else f"{record.minutes:.1f}",
                f"{record.checks_passed} of {record.checks}", record.code or "",
            )
            for record in records
        ]  # fmt: skip
        print_table(table(headers, rows))


def exclude(
    run: Run,
    who: Annotated[str | None, typer.Argument(help="Number or recruiter's id; omit it with --by-rules.")] = None,
    because: Annotated[str, typer.Option(help="The reason; it is part of the export.")] = "",
    by_rules: Annotated[bool, typer.Option("--by-rules", help="Exclude everyone who violates the design's rules.")] = False,
    db: Db = None,
) -> None:
    """Exclude a participant, or all who violate the design's rules; their judgments are kept and marked."""
    from db.session import write
    from db.utc import utc_now
    from evalkit.cli.console import stdout
    from evalkit.errors import UserError
    from study_app.conduct import actions
    from study_app.conduct.people import resolve_participant

    if by_rules == (who is not None):
        raise UserError("exclude: give a participant's number with --because, or --by-rules, but not both")
    console = stdout()
    with opened(run, db) as database:
        study_id = begun(database, run)
        with write(database) as session:
            if who is not None:
                number = resolve_participant(session, study_id, who)
                actions.exclude(session, study_id, number, because, utc_now())
                excluded = [actions.Excluded(number, because)]
            else:
                excluded = actions.exclude_by_rules(session, study_id, utc_now())
    for person in excluded:
        console.print(f"participant {person.participant_id} is excluded: {person.because}", markup=False)
    if not excluded:
        console.print("no one violates a rule of the design")


def include(run: Run, who: Participant, db: Db = None) -> None:
    """Include a participant who was excluded again."""
    from study_app.conduct import actions

    _act(run, db, actions.include, [who])
    _report("include")


def void(
    run: Run,
    who: Annotated[str | None, typer.Argument(help="Number or recruiter's id; omit it with --returned.")] = None,
    returned: Annotated[
        Path | None, typer.Option(help="Prolific's CSV file of submissions: all who returned theirs or timed out.")
    ] = None,
    db: Db = None,
) -> None:
    """Release the comparisons reserved for participants who will not come back."""
    from evalkit.cli.console import stdout
    from evalkit.errors import UserError
    from evalkit.plural import plural
    from study_app.conduct import actions
    from study_app.conduct.people import returned_ids

    if (who is None) == (returned is None):
        raise UserError("void: give a participant's number or recruiter's id, or --returned FILE, but not both")
    if who is not None:
        _act(run, db, actions.void, [who])
        _report("void")
        return
    if returned is not None:
        freed = _act(run, db, actions.void, returned_ids(returned), skip_unknown=True)
        stdout().print(f"void: {plural(len(freed), 'participant')} of {returned}, recorded in the audit log", markup=False)


def erase(run: Run, who: Participant, db: Db = None) -> None:
    """Delete the identity of a participant from the database and its log files; the answers are kept without it."""
    from evalkit.cli.console import stdout
    from study_app.conduct import actions
    from study_app.conduct.erasure import earlier_files, scrub

    _act(run, db, actions.erase, [who])
    _report("erase")
    console = stdout()
    with opened(run, db) as database:
        if not scrub(database):
            console.print(
                "the write-ahead log is in use and may still hold the identity; repeat this once the server has stopped"
            )
        if database.file is None:
            console.print(
                "PostgreSQL's own archives and dumps may still hold the identity; delete them when they are not needed"
            )
        files = earlier_files(database, run)
    for file in files:
        console.print(f"still holds what was erased, delete or replace it: {file}", markup=False)


def _report(action: str) -> None:
    from evalkit.cli.console import stdout

    stdout().print(f"{action}: done, and recorded in the audit log")


def _act(run: Path, db: str | None, action: Callable[..., object], names: list[str], skip_unknown: bool = False) -> list[int]:
    """Apply an action to participants in one transaction, and return their numbers."""
    from db.session import write
    from db.utc import utc_now
    from evalkit.errors import UserError
    from study_app.conduct.people import resolve_participant

    numbers: list[int] = []
    with opened(run, db) as database:
        study_id = begun(database, run)
        with write(database) as session:
            for name in names:
                try:
                    numbers.append(resolve_participant(session, study_id, name))
                except UserError:
                    if not skip_unknown:
                        raise
            for number in numbers:
                action(session, study_id, number, utc_now())
    return numbers
