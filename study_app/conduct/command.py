"""`evalkit study status` and what changes a running study, from `exclude` to `lock` and `erase`; and `verify`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study_app.run_database import Db, Run, begun, opened

if TYPE_CHECKING:
    from study_app.conduct.live_statistics import LiveStatistics, Proportion

Who = Annotated[int, typer.Argument(help="The participant's number, as `status` shows it.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the study's."""
    for command in (status, exclude, include, void, pause, resume, lock, erase, password, verify):
        app.command()(command)


def status(run: Run, db: Db = None) -> None:
    """Show progress, pace and data quality, blind: no arm's share of the choices."""
    from rich.console import Console
    from rich.table import Table

    from db.utc import utc_now
    from study_app.conduct.live_statistics import watch
    from study_app.conduct.progress import study_status

    with opened(run, db) as database:
        study_id = begun(database, run)
        found, seen = study_status(database, study_id), watch(database, study_id, utc_now())
    table = Table("comparisons of", "comparisons", "complete", "judgments", "held now", "wanted")
    for group in found.groups:
        figures = (group.comparisons, group.complete, group.judged, group.held, group.places)
        table.add_row(" | ".join(group.arms), *(str(figure) for figure in figures))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"{found.judged} of {found.places} judgments ({100 * found.judged / found.places:.1f} %)")
    simulated = f" ({found.simulated} of them simulated)" if found.simulated else ""
    console.print(f"participants: {found.arrived} arrived{simulated}, {found.consented} agreed, {found.finished} finished")
    if found.surplus or found.lapsed:
        console.print(f"judgments outside the target: {found.surplus}; lapsed reservations: {found.lapsed}")
    if found.latest is not None:
        console.print(f"last judgment: {found.latest:%Y-%m-%d %H:%M:%S} UTC")
    for line in _lines(seen):
        console.print(line)


def _lines(seen: "LiveStatistics") -> list[str]:
    """Return what is told of pace, sides, checks and people."""
    lines = [f"last hour: {seen.last_hour} judgments by {seen.active} people"]
    if seen.finish_at is not None:
        lines.append(f"complete at the pace of the last day: {seen.finish_at:%Y-%m-%d %H:%M} UTC")
    if seen.agreed.of:
        alpha = "" if seen.alpha is None else f"; Krippendorff's alpha {seen.alpha:.2f}"
        lines.append(
            f"pairs of answers to one comparison that are equal: {100 * seen.agreed.count / seen.agreed.of:.0f} %{alpha}"
        )
    lines.append(f"left chosen: {_share(seen.left)}")
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
    return f"{share.count} of {share.of} ({100 * share.count / share.of:.0f} %, 95 % CI {100 * low:.0f} to {100 * high:.0f})"


def exclude(
    run: Run,
    who: Annotated[int | None, typer.Argument(help="The participant's number; omit it with --by-rules.")] = None,
    because: Annotated[str, typer.Option(help="The reason; it is part of the export.")] = "",
    by_rules: Annotated[
        bool, typer.Option("--by-rules", help="Exclude all participants who break the design's rules.")
    ] = False,
    db: Db = None,
) -> None:
    """Exclude a participant, or all who break the design's rules; their judgments stay, marked, and their places are freed."""
    from rich.console import Console

    from db.session import write
    from db.utc import utc_now
    from evalkit.errors import UserError
    from study_app.conduct import actions as conduct

    if by_rules == (who is not None):
        raise UserError("exclude: no participant is given; give a participant's number with --because, or --by-rules")
    console = Console(soft_wrap=True)
    with opened(run, db) as database:
        study_id = begun(database, run)
        with write(database) as session:
            if who is not None:
                conduct.exclude(session, study_id, who, because, utc_now())
                out = [conduct.Excluded(who, because)]
            else:
                out = conduct.exclude_by_rules(session, study_id, utc_now())
    for person in out:
        console.print(f"participant {person.participant_id} is excluded: {person.because}")
    if not out:
        console.print("no participant breaks a rule of the design")


def include(run: Run, who: Who, db: Db = None) -> None:
    """Reverse the exclusion of a participant."""
    _conduct(run, db, "include", who)


def void(run: Run, who: Who, db: Db = None) -> None:
    """Free the reservations of a participant who will not return."""
    _conduct(run, db, "void", who)


def pause(run: Run, db: Db = None) -> None:
    """Assign no more comparisons for now; answers to open pages are still accepted."""
    _conduct(run, db, "pause")


def resume(run: Run, db: Db = None) -> None:
    """Assign comparisons again after a pause."""
    _conduct(run, db, "resume")


def lock(run: Run, db: Db = None) -> None:
    """End the study permanently: no judgment is accepted any more."""
    _conduct(run, db, "lock")


def erase(run: Run, who: Who, db: Db = None) -> None:
    """Erase a participant's identity; their judgments stay."""
    _conduct(run, db, "erase", who)


def _conduct(run: Path, db: str | None, act: str, *who: int) -> None:
    from rich.console import Console

    from db.session import write
    from db.utc import utc_now
    from study_app.conduct import actions as conduct

    acts: dict[str, Callable[..., object]] = {
        "include": conduct.include, "void": conduct.void, "pause": conduct.pause, "resume": conduct.resume,
        "lock": conduct.lock, "erase": conduct.erase,
    }  # fmt: skip
    with opened(run, db) as database:
        study_id = begun(database, run)
        with write(database) as session:
            acts[act](session, study_id, *who, utc_now())
    Console(soft_wrap=True).print(f"{act}: done, and in the study's log")


def password(
    run: Run,
    own: Annotated[bool, typer.Option("--own", help="Type a password instead of generating one.")] = False,
) -> None:
    """Set the password of the dashboard at /admin, random unless --own; sessions under the old one end."""
    from rich.console import Console

    from evalkit.run.manifest import Manifest
    from study_app.conduct.password import set_password

    Manifest.load(run)
    typed = typer.prompt("password", hide_input=True, confirmation_prompt=True) if own else None
    made = set_password(run, typed)
    Console(soft_wrap=True).print(
        "the dashboard at /admin has its password" if own else f"the dashboard's password, shown this once: {made}",
        markup=False,
    )


def verify(export: Annotated[Path, typer.Argument(help="A zip file of `evalkit study export`.")]) -> None:
    """Check an export offline: every hash, the chain of its log, and that judgments and log tell the same."""
    from rich.console import Console

    from study_app.conduct.verify import verify_export

    sound = verify_export(export)
    Console(soft_wrap=True).print(f"{export}: sound: {sound.judgments} judgments, {sound.events} events, chain {sound.chain}")
