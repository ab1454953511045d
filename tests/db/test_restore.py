"""A backup is restored without the write-ahead log of the database it replaces."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from db.backup import check_sqlite, copy_sqlite
from db.restore import restore_sqlite
from db.session import default_url, open_database
from evalkit.errors import UserError
from study_app.conduct.export import export_study
from study_app.conduct.progress import study_status
from study_app.conduct.verify import verify_export
from study_app.plan.initialize import find_study
from study_app.simulation.people import Behaviour, simulate
from tests.runs import make_run
from tests.study_app.test_command import call

JUDGING = """
import sys, os, signal
from pathlib import Path
from db.session import default_url, open_database
from study_app.plan.initialize import find_study
from study_app.simulation import people
from study_app.simulation.people import Behaviour, simulate
people.BATCH = 10
run = Path(sys.argv[1])
database = open_database(default_url(run))
done = []
def tell():
    done.append(1)
    if len(done) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
simulate(database, find_study(database, run).id, 2, Behaviour(), 1, tell)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "a run #1 ?%20", scores=False)
    return tmp_path / "a run #1 ?%20"


def test_a_study_killed_while_people_judge_is_restored_and_continues(run: Path, tmp_path: Path) -> None:
    call("simulate", run, "--participants", 1)
    copy = tmp_path / "copy #2.db"
    copy_sqlite(run / "study.db", copy)
    kept = sqlite3.connect(copy).execute("SELECT count(*) FROM judgments").fetchone()[0]
    # ten judgments are one transaction: the third one is cut off
    killed = subprocess.run([sys.executable, "-c", JUDGING, str(run), "25"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (run / "study.db-wal").stat().st_size > 0
    restored = restore_sqlite(run / "study.db", copy)
    assert restored.judgments == kept == 18
    assert restored.lost == 20
    assert restored.replaced is not None
    assert not (run / "study.db-wal").exists()
    assert stat.S_IMODE((run / "study.db").stat().st_mode) == 0o600
    # what was replaced is kept, and still readable with its own log
    check_sqlite(restored.replaced)
    database = open_database(default_url(run))
    study = find_study(database, run)
    assert study is not None
    assert study_status(database, study.id).judgments == kept
    simulate(database, study.id, 2, Behaviour(), 1)
    export_study(database, run, tmp_path / "export.zip")
    assert verify_export(tmp_path / "export.zip").judgments > kept
    database.close()


def test_a_plain_copy_over_a_killed_database_is_what_restore_avoids(run: Path, tmp_path: Path) -> None:
    call("simulate", run, "--participants", 1)
    with pytest.raises(UserError, match="is the database itself"):
        restore_sqlite(run / "study.db", run / "study.db")
    (tmp_path / "no.db").write_bytes(b"SQLite format 3\x00" + bytes(200))
    with pytest.raises(UserError, match=r"no\.db"):
        restore_sqlite(run / "study.db", tmp_path / "no.db")
    with pytest.raises(UserError, match="does not exist"):
        restore_sqlite(run / "study.db", tmp_path / "nothing.db")
    copy_sqlite(run / "study.db", tmp_path / "copy.db")
    holder = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM runs').fetchall(); "
        "print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(run / "study.db")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another process has the database open"):
            restore_sqlite(run / "study.db", tmp_path / "copy.db")
        other.kill()


def test_a_copy_in_a_folder_of_any_name_is_the_one_that_is_checked(tmp_path: Path) -> None:
    folder = tmp_path / "x#y?z%41 é"
    folder.mkdir()
    (folder / "damaged.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="is not a readable SQLite database"):
        check_sqlite(folder / "damaged.db")


def test_a_database_in_a_read_only_folder_is_readable(run: Path) -> None:
    call("simulate", run, "--participants", 1)
    folder = run.parent / "archive"
    shutil.copytree(run, folder)
    os.chmod(folder / "study.db", 0o400)
    os.chmod(folder, 0o500)
    try:
        check_sqlite(folder / "study.db")
    finally:
        os.chmod(folder, 0o700)
