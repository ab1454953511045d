"""Commands on a study that has begun: `evalkit study status`, `pause`, `lock`, `export`, `verify`, `backup` and others."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.console import Json
from study_app.run_database import Db, Run, begun, opened

if TYPE_CHECKING:
    from study_app.conduct.live_statistics import LiveStatistics, Proportion
    from study_app.conduct.progress import StudyStatus


def status(run: Run, db: Db = None, as_json: Json = False) -> None:
    """Show progress and conduct of a study, blind: never what was chosen of any arm."""
    from db.utc import utc_now
    from evalkit.cli.console import print_json, print_table, stdout, table
    from study_app.conduct.live_statistics import watch
    from study_app.conduct.progress import study_status

    with opened(run, db) as database:
        study_id = begun(database, run)
        progress, seen = study_status(database, study_id), watch(database, study_id, utc_now())
    if as_json:
        print_json(_document(progress, seen))
        return
    headers = ("comparisons of", "comparisons", "complete", "judgments", "reserved", "needed")
    rows = [
        (" | ".join(group.arms), *map(str, (group.comparisons, group.complete, group.judged, group.held, group.places)))
        for group in progress.groups
    ]
    print_table(table(headers, rows))
    console = stdout()
    for line in (*_progress_lines(progress), *_conduct_lines(seen)):
        console.print(line)


def _progress_lines(progress: "StudyStatus") -> list[str]:
    from evalkit.plural import plural

    share = 100 * progress.judged / progress.places
    simulated = f" ({progress.simulated:,} of them simulated)" if progress.simulated else ""
    lines = [
        f"{progress.judged:,} of {plural(progress.places, 'judgment')} ({share:.1f} %)",
        f"participants: {progress.arrived:,} arrived{simulated}, {progress.consented:,} consented, "
        f"{progress.finished:,} finished, {progress.partly:,} partly done, {progress.turned_away:,} turned away",
    ]
    if progress.surplus or progress.lapsed:
        lines.append(
            f"judgments after their comparison was complete: {progress.surplus:,}; "
            f"reservations that expired without an answer: {progress.lapsed:,}"
        )
    if progress.latest is not None:
        lines.append(f"last judgment: {progress.latest:%Y-%m-%d %H:%M:%S} UTC")
    return lines


def _conduct_lines(seen: "LiveStatistics") -> list[str]:
    """Return pace, inter-rater agreement, side bias, checks and rule violations."""
    from evalkit.plural import plural

    lines = [f"last hour: {plural(seen.last_hour, 'judgment')} by {plural(seen.active, 'participant')}"]
    if seen.finish_at is not None:
        lines.append(f"complete at the pace of the last day: {seen.finish_at:%Y-%m-%d %H:%M} UTC")
    if seen.agreed.of:
        alpha = "" if seen.alpha is None else f"; Krippendorff's alpha {seen.alpha:.2f}"
        equal = 100 * seen.agreed.count / seen.agreed.of
        lines.append(f"inter-rater agreement: {equal:.0f} % of pairs of answers to one comparison are equal{alpha}")
    lines.append(f"left image chosen: {_share(seen.left)}")
    if seen.null_sided.of:
        lines.append(f"null pairs with a side chosen: {_share(seen.null_sided)}; left among these: {_share(seen.null_left)}")
    lines += [f"{kind} as expected: {_share(share)}" for kind, share in seen.passed.items()]
    for person, broken in seen.people:
        if broken:
            lines.append(f"[yellow]participant {person.participant_id}: {'; '.join(broken)}[/yellow]")
    if seen.paused:
        lines.append("[yellow]paused: no comparison is assigned until `evalkit study resume`[/yellow]")
    if seen.locked_at is not None:
        lines.append(f"locked on {seen.locked_at:%Y-%m-%d %H:%M} UTC")
    return lines


def _share(share: "Proportion") -> str:
    if share.interval is None:
        return "none yet"
    low, high = share.interval
    return (
        f"{share.count:,} of {share.of:,} ({100 * share.count / share.of:.0f} %, 95 % CI {100 * low:.0f} to {100 * high:.0f})"
    )


def _document(progress: "StudyStatus", seen: "LiveStatistics") -> dict[str, object]:
    """Return what `status` prints, as JSON: as blind as the text."""

    def share(value: "Proportion") -> dict[str, object]:
        return {"count": value.count, "of": value.of, "interval": value.interval}

    return {
        "comparisons": progress.groups,
        "judgments": progress.judged,
        "judgments_needed": progress.places,
        "participants": {
            "arrived": progress.arrived,
            "simulated": progress.simulated,
            "consented": progress.consented,
            "finished": progress.finished,
            "partly_done": progress.partly,
            "turned_away": progress.turned_away,
        },
        "surplus_judgments": progress.surplus,
        "expired_reservations": progress.lapsed,
        "last_judgment": progress.latest,
        "last_hour": {"judgments": seen.last_hour, "participants": seen.active},
        "complete_at": seen.finish_at,
        "agreement": {**share(seen.agreed), "krippendorff_alpha": seen.alpha},
        "left_chosen": share(seen.left),
        "null_pairs_with_side": share(seen.null_sided),
        "null_pairs_left": share(seen.null_left),
        "checks": {kind: share(value) for kind, value in seen.passed.items()},
        "rule_violations": {person.participant_id: broken for person, broken in seen.people if broken},
        "paused": seen.paused,
        "locked_at": seen.locked_at,
    }


def amend(
    run: Run,
    per_comparison: Annotated[int, typer.Option(min=1, max=1000, help="Participants per comparison from now on.")],
    because: Annotated[str, typer.Option(help="The reason; it is part of the export and the report.")] = "",
    db: Db = None,
) -> None:
    """Change how many people judge each comparison while the study runs; the audit log and the report state it."""
    from db.session import write
    from db.utc import utc_now
    from evalkit.cli.console import stdout
    from evalkit.plural import plural
    from study_app.conduct.amendments import amend_target

    with opened(run, db) as database:
        study_id = begun(database, run)
        with write(database) as session:
            count = amend_target(session, study_id, per_comparison, because, utc_now())
    changed = plural(count, "comparison")
    stdout().print(f"amend: {plural(per_comparison, 'participant')} per comparison now; {changed} changed", markup=False)


def pause(run: Run, db: Db = None) -> None:
    """Assign no more comparisons for now; answers to open pages are still accepted."""
    _act(run, db, "pause")


def resume(run: Run, db: Db = None) -> None:
    """Assign comparisons again after `pause`."""
    _act(run, db, "resume")


def lock(run: Run, db: Db = None) -> None:
    """End the study for good: no more judgments are accepted."""
    _act(run, db, "lock")


def _act(run: Path, db: str | None, action: str) -> None:
    from db.session import write
    from db.utc import utc_now
    from evalkit.cli.console import stdout
    from study_app.conduct import actions

    functions: dict[str, Callable[..., object]] = {
        "pause": actions.pause, "resume": actions.resume, "lock": actions.lock,
    }  # fmt: skip
    with opened(run, db) as database:
        study_id = begun(database, run)
        with write(database) as session:
            functions[action](session, study_id, utc_now())
    stdout().print(f"{action}: done, and recorded in the audit log")


def password(
    run: Run,
    own: Annotated[bool, typer.Option("--own", help="Type a password instead of generating one.")] = False,
) -> None:
    """Set the password of the dashboard at /admin: a new random one unless --own; existing sessions end."""
    from evalkit.cli.console import stdout
    from evalkit.run.manifest import Manifest
    from study_app.conduct.password import set_password

    Manifest.load(run)
    typed = typer.prompt("password", hide_input=True, confirmation_prompt=True) if own else None
    made = set_password(run, typed)
    stdout().print(
        "the password of the dashboard at /admin is set" if own else f"the dashboard's password, shown only once: {made}",
        markup=False,
    )


def export(
    run: Run,
    db: Db = None,
    to: Annotated[Path | None, typer.Option(help="The zip file. Default: RUN/study/export.zip.")] = None,
) -> None:
    """Write judgments, assignments, participants, design, manifest, audit log and hashes to one zip file."""
    from evalkit.cli.console import command_line, stdout
    from evalkit.plural import plural
    from study_app.conduct.export import export_study
    from study_app.plan.blinding import FOLDER

    target = to or run / FOLDER / "export.zip"
    with opened(run, db) as database:
        rows = export_study(database, run, target)
    console = stdout()
    console.print(f"{target}: {plural(rows, 'judgment')}", markup=False)
    console.print(f"to check it offline: {command_line('study', 'verify', target)}", markup=False)


def verify(
    export: Annotated[Path, typer.Argument(help="A zip file written by `evalkit study export`.")],
    chain: Annotated[str | None, typer.Option(help="The published hash that the audit log must end in.")] = None,
    as_json: Json = False,
) -> None:
    """Verify an export offline: rebuild every table from the audit log and compare byte for byte."""
    from evalkit.cli.console import print_json, stdout
    from evalkit.plural import plural
    from study_app.conduct.verify import verify_export

    sound = verify_export(export, chain)
    if as_json:
        print_json({"file": export, "sound": True, **vars(sound)})
        return
    counts = f"{plural(sound.judgments, 'judgment')}, {plural(sound.events, 'event')}"
    stdout().print(f"{export}: sound: {counts}, chain {sound.chain}", markup=False)
    if chain is None:
        stdout().print("the log is consistent; give the published hash with --chain to prove that it is the original log")
    if sound.erasures_chain is not None:
        erased = plural(sound.erasures, "participant")
        stdout().print(f"erased after the lock: {erased}, chain {sound.erasures_chain}", markup=False)
    for limit in sound.limits:
        stdout().print(f"not proven: {limit}", markup=False)


def backup(
    run: Run,
    db: Db = None,
    to: Annotated[Path | None, typer.Option(help="The copy. Default: RUN/study/backups/TIME.db.")] = None,
) -> None:
    """Copy the database while it is in use, and check the copy by opening it."""
    from db.backup import copy_sqlite
    from db.utc import utc_now
    from evalkit.cli.console import stdout
    from evalkit.errors import UserError
    from study_app.plan.blinding import FOLDER

    with opened(run, db) as database:
        file = database.file
    if file is None:
        raise UserError(f"{database.name}: this database is on a server; copy it with PostgreSQL's own pg_dump")
    target = to or run / FOLDER / "backups" / f"{utc_now():%Y%m%dT%H%M%SZ}.db"
    if target.exists():
        raise UserError(f"{target}: this file exists; choose another name")
    copy_sqlite(file, target)
    stdout().print(f"{target}: complete, opened and checked", markup=False)


def restore(
    run: Run, copy: Annotated[Path, typer.Argument(help="A copy made by `evalkit study backup` or `serve`.")], db: Db = None
) -> None:
    """Replace the database by a checked copy; stop the server first. The replaced files are kept."""
    from db.restore import restore_sqlite
    from db.session import database_file, default_url
    from evalkit.cli.console import stdout
    from evalkit.errors import UserError
    from evalkit.plural import plural
    from evalkit.run.manifest import Manifest

    Manifest.load(run)
    url = db or default_url(run)
    file = database_file(url)
    if file is None:
        raise UserError("restore: this database is on a server; restore it with PostgreSQL's own pg_restore")
    restored = restore_sqlite(file, copy)
    if restored.lost is None:
        stdout().print("the replaced database could not be read, so the judgments lost are not known")
    else:
        stdout().print(f"{plural(restored.lost, 'judgment')} made after the copy are not in it")
    if restored.replaced is not None:
        stdout().print(f"replaced files: {restored.replaced}*", markup=False)
    stdout().print(f"{file}: restored, {plural(restored.judgments, 'judgment')}", markup=False)


def doctor(
    run: Run,
    db: Db = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the study.")] = 8501,
    as_json: Json = False,
) -> None:
    """Check database, password, port and images, and print what to do; exits 1 if something is wrong."""
    from rich.console import Console

    from evalkit.cli.console import print_json
    from study_app.conduct.doctor import examine

    with opened(run, db) as database:
        findings = examine(database, run, port)
    if as_json:
        print_json([{"state": finding.state, "finding": finding.what} for finding in findings])
    else:
        console = Console(soft_wrap=True)
        marks = {"good": "[green]good[/green]", "warning": "[yellow]warning[/yellow]", "wrong": "[red]wrong[/red]"}
        for finding in findings:
            console.print(f"{marks[finding.state]}  {finding.what}")
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)
