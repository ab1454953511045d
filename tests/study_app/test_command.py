"""`evalkit study ...` on the command line, and what it says of mistakes."""

import csv
import hashlib
import io
import socket
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from db.models import Assignment, Comparison, Judgment
from db.session import Database, default_url, open_database, read
from evalkit.errors import UserError
from study_app.command import app
from study_app.conduct.backups import backups
from study_app.conduct.doctor import examine, wal_bug
from tests.runs import make_run


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return f"{result.output}[exit {result.exit_code}]"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", arms=("plain", "fancy"), scores=False)
    return tmp_path / "run"


def test_init_is_idempotent_and_frozen_once_people_came(run: Path) -> None:
    assert "study begun: 6 comparisons, 5 participants each" in call("init", run)
    assert "nothing was changed" in call("init", run)
    # nobody has come yet, so the design may still change
    assert "study begun: 6 comparisons, 2 participants each" in call("init", run, "--per-comparison", 2, "--cannot-tell")
    call("simulate", run, "--participants", 1)
    with pytest.raises(UserError, match=r"its design is frozen \(cannot_tell True -> False, per_comparison 2 -> 5\)"):
        call("init", run)


def test_simulate_begins_with_the_defaults_and_says_so(run: Path) -> None:
    said = call("simulate", run, "--effect", "fancy=2")
    assert "`evalkit study init` was not run; the study begins with the defaults: 5 participants per comparison" in said
    assert "5 simulated participants gave 30 judgments, all marked as simulated" in said


def test_simulate_says_what_is_left(run: Path) -> None:
    assert "24 of 30 judgments are left" in call("simulate", run, "--participants", 1)


def test_status_is_blind(run: Path) -> None:
    call("simulate", run, "--effect", "fancy=9", "--participants", 5)
    said = call("status", run)
    assert "30 of 30 judgments (100.0 %)" in said
    assert "5 arrived (5 of them simulated), 5 consented, 5 finished" in said
    # plain | fancy: 6 comparisons, 6 complete, 30 judgments, 0 held, 30 wanted; no share of either
    numbers = [cell.strip() for line in said.splitlines() if "plain | fancy" in line for cell in line.split("│")[2:-1]]
    assert numbers == ["6", "6", "30", "0", "30"]


def test_the_database_can_be_named_where_nobody_else_reads_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_DB", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    call("init", run)
    assert (tmp_path / "elsewhere.db").exists()
    assert not (run / "study.db").exists()


def test_export_holds_everything_and_its_hashes_fit(run: Path) -> None:
    call("simulate", run)
    assert "30 judgments" in call("export", run)
    with zipfile.ZipFile(run / "study" / "export.zip") as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    for line in files["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name]).hexdigest() == digest
    assert set(files) == {
        "SHA256SUMS", "about.json", "answers.csv", "assignments.csv", "check_answers.csv", "checks.csv", "codebook.md",
        "comparisons.csv", "design.json",
        "erasures.jsonl", "events.jsonl", "further_images.csv", "further_pictures.csv", "judgments.csv", "manifest.json",
        "participants.csv",
        "replies.csv", "screens.csv", "votes.csv", "withdrawals.csv",
    }  # fmt: skip
    tables = {name: list(csv.DictReader(io.StringIO(data.decode()))) for name, data in files.items() if name.endswith(".csv")}
    assert {name: len(rows) for name, rows in tables.items()} == {
        "comparisons.csv": 6, "participants.csv": 5, "assignments.csv": 30, "judgments.csv": 30, "answers.csv": 0,
        "checks.csv": 0, "withdrawals.csv": 0, "further_images.csv": 0, "further_pictures.csv": 0,
        "replies.csv": 0, "screens.csv": 0, "check_answers.csv": 0, "votes.csv": 30,
    }  # fmt: skip
    assert {row["simulated"] for row in tables["participants.csv"]} == {"1"}
    assert b"token" not in b"".join(files.values())


def test_backup_is_whole_and_never_overwrites(run: Path, tmp_path: Path) -> None:
    call("simulate", run)
    assert "complete, opened and checked" in call("backup", run, "--to", tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("SELECT count(*) FROM judgments").fetchone() == (30,)
    copy.close()
    with pytest.raises(UserError, match="this file exists"):
        call("backup", run, "--to", tmp_path / "copy.db")


def test_doctor_finds_what_is_wrong(run: Path) -> None:
    assert "the study has not been initialized" in call("doctor", run)
    call("init", run)
    assert "18 images match the manifest, each with its blinded image" in call("doctor", run)
    secret = run / "study" / "secret"
    secret.chmod(0o644)
    next((run / "study" / "stimuli").glob("*.png")).unlink()
    next((run / "images").rglob("*.png")).write_bytes(b"other")
    said = call("doctor", run)
    assert "others can read it" in said
    assert "1 of 24 blinded images missing" in said
    assert "1 of 18 images differ from the manifest" in said
    assert said.endswith("[exit 1]")


@pytest.mark.parametrize(
    ("version", "affected"),
    [((3, 40, 1), True), ((3, 44, 6), False), ((3, 44, 5), True), ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False)],
)
def test_the_wal_bug_is_known_by_version(version: tuple[int, int, int], affected: bool) -> None:
    assert wal_bug(version) is affected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status",), "no study has begun in"),
        (("export",), "the study has not been initialized"),
        (("init", "--language", "xx"), "language 'xx': has no texts; known languages: de, en"),
        (("simulate", "--effect", "fancy"), "--effect 'fancy': not ARM=NUMBER; write for example direct=0.8"),
        (("simulate", "--effect", "other=1"), "effect 'other': no such arm; known: plain, fancy"),
        (("simulate", "--effect", "fancy=inf"), "is a number of logits"),
        (("simulate", "--effect", "fancy=1", "--effect", "fancy=2"), "given twice"),
        (("status", "--db", "mysql://host/name"), "mysql is not supported"),
    ],
)
def test_a_mistake_is_one_line(run: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        call(words[0], run, *words[1:])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no manifest.json"):
        call("init", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_arm_alone_cannot_be_compared(tmp_path: Path) -> None:
    make_run(tmp_path, arms=("plain",), scores=False)
    with pytest.raises(UserError, match="has one arm, plain; a comparison needs two"):
        call("init", tmp_path)


def test_help_needs_no_database_and_no_streamlit() -> None:
    code = (
        "import sys, study_app.command;"
        "heavy = {'streamlit', 'sqlalchemy', 'torch', 'PIL', 'pydantic'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr == ""


WORKER = """
import sys
from pathlib import Path
from db.utc import utc_now
from db.session import default_url, open_database, write
from study_app.service.assignment import reserve
from study_app.plan.initialize import find_study
from study_app.service.record_judgment import record_judgment
from study_app.service.participant_state import find_person
from study_app.service.participants import add_participant

run = Path(sys.argv[1])
database = open_database(default_url(run))
with write(database) as session:
    person = add_participant(session, find_study(database, run).id, utc_now())[0].id
while True:
    with write(database) as session:
        assignment = reserve(session, person, utc_now())
    if assignment is None:
        break
    with write(database) as session:
        record_judgment(session, find_person(session, person), assignment.id, "left", utc_now())
    sys.stdout.write(f"{assignment.id}\\n")
    sys.stdout.flush()
"""


def test_no_acknowledged_judgment_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, concepts=4, seeds=3, scores=False)
    call("init", run)
    acknowledged: set[int] = set()
    for kill_after in (3, 7, 5):
        with subprocess.Popen([sys.executable, "-c", WORKER, str(run)], stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            acknowledged |= {int(worker.stdout.readline()) for _ in range(kill_after)}
            worker.kill()
            # what was acknowledged before the kill came through the pipe in any case
            acknowledged |= {int(line) for line in worker.stdout.read().split()}
    database = open_database(default_url(run))
    with read(database) as session:
        judged = session.scalars(select(Judgment.assignment_id)).all()
        filled = dict((row[0], row[1]) for row in session.execute(select(Comparison.id, Comparison.filled)))
        held = session.scalars(select(Assignment.comparison_id).where(Assignment.state.in_(("open", "done")))).all()
    database.close()
    assert len(acknowledged) >= 15
    assert acknowledged <= set(judged)
    assert len(judged) == len(set(judged))
    assert filled == {comparison: held.count(comparison) for comparison in filled}


def test_doctor_warns_of_a_port_that_is_open_to_the_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("init", run)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert f"port {port}: open" not in call("doctor", run, "--port", port)
        listening.listen()
        # what stands for this machine's address among others
        monkeypatch.setattr("study_app.conduct.doctor._own_address", lambda: "127.0.0.1")
        assert f"port {port}: open to the network at 127.0.0.1" in call("doctor", run, "--port", port)


@pytest.mark.postgres
def test_doctor_refuses_a_password_that_everybody_tries(run: Path, postgres_url: str) -> None:
    database = open_database(postgres_url)
    weak = Database(database.url.set(password="postgres"), database.engine)
    assert "its password is easily guessed" in " ".join(finding.what for finding in examine(weak, run))
    strong = Database(database.url.set(password="6f0c8a"), database.engine)
    assert "easily guessed" not in " ".join(finding.what for finding in examine(strong, run))
    database.close()


def test_doctor_refuses_a_password_file_that_others_can_read(run: Path) -> None:
    call("password", run)
    assert "study/password: readable by its owner alone" in call("doctor", run)
    (run / "study" / "password").chmod(0o640)
    assert "study/password: others can read it" in call("doctor", run)


@pytest.mark.postgres
def test_the_commands_do_on_postgresql_what_they_do_on_sqlite(run: Path, postgres_url: str) -> None:
    db = ("--db", postgres_url)
    assert "30 judgments" in call("simulate", run, *db)
    assert "30 of 30 judgments (100.0 %)" in call("status", run, *db)
    assert "participant 1 is excluded" in call("exclude", run, 1, "--because", "asked us to", *db)
    for words in (("include", 1), ("void", 2), ("pause",), ("resume",), ("erase", 2), ("lock",)):
        assert "done, and recorded in the audit log" in call(words[0], run, *words[1:], *db)
    assert "30 judgments" in call("export", run, *db)
    assert "30 judgments" in call("verify", run / "study" / "export.zip")
    # a server's database is copied with the server's own tool, by command and while serving
    with pytest.raises(UserError, match="copy it with PostgreSQL's own pg_dump"):
        call("backup", run, *db)
    database = open_database(postgres_url)
    with backups(database, run, 1):
        assert not (run / "study" / "backups").exists()
    database.close()
