"""Copies made while the study is served: each whole, the last with every judgment, old ones removed, a failed one survived."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from db.backup import check_sqlite
from db.session import open_database
from study_app.conduct import backups as scheduled
from study_app.conduct.backups import KEPT, backups
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.runs import make_run


@pytest.fixture
def service(tmp_path: Path):
    run = tmp_path / "run"
    make_run(run, arms=("plain", "fancy"), scores=False)
    database = open_database(f"sqlite:///{run / 'study.db'}")
    begin_study(database, run, Design())
    yield StudyService(database, run)
    database.close()


def judge_all(service: StudyService) -> int:
    participant, count = service.visitor(service.join()).id, 0
    while (trial := service.trial(participant)) is not None:
        service.answer(participant, trial, "left", Timing())
        count += 1
    return count


def judged(copy: Path) -> int:
    with closing(sqlite3.connect(copy)) as opened:
        return int(opened.execute("SELECT count(*) FROM judgments").fetchone()[0])


def test_copies_made_while_people_judge_are_whole_and_the_last_one_has_all(service: StudyService, monkeypatch) -> None:
    monkeypatch.setattr(scheduled, "SECONDS_PER_MINUTE", 0.05)
    run, total = service.blinding.run, 0
    folder = run / "study" / "backups"
    with backups(service.database, run, 1):
        for _ in range(5):
            total += judge_all(service)
        end = time.monotonic() + 60
        while not any(folder.glob("served-*.db")) and time.monotonic() < end:
            time.sleep(0.05)
    copies = sorted(folder.glob("served-*.db"))
    assert 2 <= len(copies) <= KEPT
    for copy in copies:
        check_sqlite(copy)
    counts = [judged(copy) for copy in copies]
    assert counts == sorted(counts)
    assert counts[-1] == total == 30


def test_only_the_newest_copies_stay(service: StudyService, monkeypatch) -> None:
    monkeypatch.setattr(scheduled, "KEPT", 3)
    run = service.blinding.run
    made = [scheduled.back_up(service.database.file, run) for _ in range(5)]
    assert sorted((run / "study" / "backups").iterdir()) == made[-3:]


def test_a_copy_that_fails_does_not_end_serving(service: StudyService, caplog) -> None:
    run = service.blinding.run
    (run / "study" / "backups").write_text("in the way")
    with backups(service.database, run, 60):
        assert judge_all(service) == 6
    assert "backup failed" in caplog.text
