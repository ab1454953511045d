"""Pre-flight checks of a study server: database, secret, password, port and images."""

import resource
import shlex
import socket
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from db.backup import check_sqlite
from db.session import Database
from evalkit.distribution import documentation
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.plural import plural
from evalkit.run.manifest import Manifest
from study_app.conduct.erasure import earlier_files
from study_app.conduct.password import password_file
from study_app.plan.blinding import FOLDER, Blinding, pictures
from study_app.plan.initialize import find_study
from study_app.simulation.people import has_simulated

# Two connections could damage a WAL file (sqlite.org/wal.html, "the WAL-reset bug"); fixed in 3.51.3 and these backports.
_BUG_SINCE, _BUG_UNTIL = (3, 7, 0), (3, 51, 3)
_FIXED = ((3, 44, 6), (3, 50, 7))

# an open page needs up to four
FILES_PER_PAGE, FEWEST_FILES = 4, 4096
_DEFAULT_PASSWORDS = ("", "postgres", "password", "evalkit", "study", "admin", "changeme", "secret", "PASSWORD")


@dataclass(frozen=True)
class Finding:
    """Result of one check; `wrong` must be fixed before participants arrive."""

    state: Literal["good", "warning", "wrong"]
    what: str


def examine(database: Database, run: Path, port: int = 8501) -> tuple[Finding, ...]:
    """Check everything a study server needs; each finding states the problem and the fix."""
    findings = [*_database(database), *_secrets(run), *_private_files(database, run), *_network(port), _open_files()]
    study = find_study(database, run)
    if study is None:
        findings.append(Finding("warning", f"the study has not been initialized; run `evalkit study init {run}`"))
        return tuple(findings)
    findings += _images(run)
    cookie = Blinding(run).cookie_name()
    findings.append(Finding("good", f"participants' cookie: {cookie}; a proxy can balance several processes by it"))
    if has_simulated(database, study.id):
        findings.append(Finding("warning", "simulated judgments are in this database; for people, use a fresh one with --db"))
    return tuple(findings)


def wal_bug(version: tuple[int, int, int]) -> bool:
    """Return whether a SQLite version has the WAL-reset bug."""
    backported = any(version[:2] == fixed[:2] and version >= fixed for fixed in _FIXED)
    return _BUG_SINCE <= version < _BUG_UNTIL and not backported


def _database(database: Database) -> list[Finding]:
    if database.file is None:
        findings = [Finding("good", f"{database.name}: answers, and its schema is this version's")]
        password = database.url.password
        # a login through a socket file proves the user by the operating system, and needs no password
        host = database.url.host or str(database.url.query.get("host", "/"))
        is_socket = host.startswith("/")
        guessed = password is not None and password in (*_DEFAULT_PASSWORDS, database.url.username)
        if guessed and not (is_socket and password == ""):
            findings.append(Finding("wrong", f"{database.name}: its password is easily guessed; set another one"))
        return findings
    findings = []
    try:
        check_sqlite(database.file)
        archive = ", an archive that can only be read" if database.is_archive else ""
        findings.append(Finding("good", f"{database.file}: sound, and its schema is this version's{archive}"))
    except UserError as error:
        findings.append(Finding("wrong", str(error)))
    if wal_bug(sqlite3.sqlite_version_info[:3]):
        findings.append(
            Finding(
                "warning",
                f"SQLite {sqlite3.sqlite_version} can damage a database that several processes write at once; one server "
                "process is safe, several need PostgreSQL or SQLite 3.51.3",
            )
        )
    return findings


def _secrets(run: Path) -> list[Finding]:
    """Check permissions of the study's secret and password hash; neither has a default."""
    findings = []
    for path in (run / FOLDER / "secret", password_file(run)):
        if not path.exists():
            continue
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            findings.append(Finding("wrong", f"{path}: others can read it; run: chmod 600 {path}"))
        else:
            findings.append(Finding("good", f"{path}: readable by its owner alone"))
    return findings


def _private_files(database: Database, run: Path) -> list[Finding]:
    """Check permissions of the database, its copies and exports, which hold recruiters' ids and replies."""
    files = [*([] if database.file is None else [database.file]), *earlier_files(database, run)]
    readable = [file for file in files if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077]
    if readable:
        names = " ".join(shlex.quote(str(file)) for file in readable)
        return [Finding("wrong", f"others can read {plural(len(readable), 'file')} with people's data; run: chmod 600 {names}")]
    return [Finding("good", f"{plural(len(files), 'file')} with people's data: for the owner alone")] if files else []


def _network(port: int) -> list[Finding]:
    """Check whether the study's port is reachable from the network."""
    address = _own_address()
    if address is None:
        return []
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return [Finding("good", f"port {port}: closed to the network")]
    return [
        Finding(
            "warning",
            f"port {port}: open to the network at {address}, without TLS; serve with --host 127.0.0.1 behind a "
            f"proxy ({documentation('deploy.md')})",
        )
    ]


def _open_files() -> Finding:
    """Check how many pages can be open at once; `serve` raises the soft limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEWEST_FILES:
        return Finding(
            "warning",
            f"a process may open {hard:,} files, enough for about {max(1, hard // FILES_PER_PAGE):,} open pages; set "
            f"LimitNOFILE=65536 in the service, or ulimit -Hn ({documentation('deploy.md')})",
        )
    return Finding("good", "limit of open files: enough for thousands of open pages")


def _own_address() -> str | None:
    """Return this machine's network address, or None; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # an address of the documentation's block (RFC 5737)
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def _images(run: Path) -> list[Finding]:
    """Compare the run's files with the manifest, and check that each has its blinded image."""
    blinding = Blinding(run)
    changed = []
    blinded = list(pictures(Manifest.load(run)))
    # a reference has two blinded copies: one to show, and one to be judged in a check
    every = [picture for kind, picture in blinded if kind != "probe"]
    for picture in every:
        file = run / picture.path
        if not file.exists() or sha256_file(file) != picture.sha256:
            changed.append(picture.path)
    lacking = sum(not blinding.path(kind, picture.sha256).exists() for kind, picture in blinded)
    findings = []
    if changed:
        findings.append(
            Finding(
                "wrong", f"{len(changed)} of {plural(len(every), 'image')} differ from the manifest, the first: {changed[0]}"
            )
        )
    if lacking:
        findings.append(
            Finding("wrong", f"{lacking} of {plural(len(blinded), 'blinded image')} missing; run `evalkit study init` again")
        )
    return findings or [
        Finding("good", f"{plural(len(every), 'image matches', 'images match')} the manifest, each with its blinded image")
    ]
