"""Amendments while a study runs: in the log, in the export, in the report; and pilots that a rule keeps out."""

import json
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import select

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.report.study_tables import preference_table
from db.models import Comparison, Study
from db.session import Database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct.actions import exclude_by_rules, lock
from study_app.conduct.amendments import amend_target
from study_app.conduct.export import export_study
from study_app.conduct.export_archive import SUMS_NAME, read_archive, write_archive
from study_app.conduct.verify import verify_export
from study_app.plan.design import Design, Rules
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from tests.runs import make_run
from tests.study_app.conftest import begin
from tests.study_app.test_command import call


def test_a_higher_and_a_lower_target_are_in_log_export_and_report(database: Database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=1, same_people=True))
    simulate(database, study.study_id, 1, Behaviour(), seed=1)
    with write(database) as session:
        assert amend_target(session, study.study_id, 3, "power was too low", utc_now()) == study.comparisons
    simulate(database, study.study_id, 2, Behaviour(), seed=2)
    with write(database) as session:
        # what is judged stays: nothing changes below three
        with pytest.raises(UserError, match="has a target of 1 already"):
            amend_target(session, study.study_id, 1, "enough", utc_now())
    with write(database) as session:
        amend_target(session, study.study_id, 4, "one more", utc_now())
    with write(database) as session:
        amend_target(session, study.study_id, 2, "enough", utc_now())
    with read(database) as session:
        assert set(session.execute(select(Comparison.filled, Comparison.target)).all()) == {(3, 3)}
        run_id = session.get_one(Study, study.study_id).run_id
    target = tmp_path / "export.zip"
    export_study(database, study.run, target)
    assert verify_export(target).judgments == 3 * study.comparisons
    findings = analyze_run(read_run(database, run_id))
    notes = " ".join(preference_table(findings).notes)
    assert "3 judgments per comparison (6 comparisons changed; power was too low)" in notes
    assert notes.count("Amended on") == 3


def test_a_forged_amendment_is_found(database: Database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=2))
    with write(database) as session:
        amend_target(session, study.study_id, 3, "more", utc_now())
    target = tmp_path / "export.zip"
    export_study(database, study.run, target)

    with zipfile.ZipFile(target) as bundle:
        events = [json.loads(line) for line in bundle.read("events.jsonl").splitlines()]
    assert [event["content"]["target"] for event in events if event["kind"] == "amended"] == [3]
    files = {name: data for name, data in read_archive(target)[0].items() if name != SUMS_NAME}
    files["comparisons.csv"] = files["comparisons.csv"].replace(b",3,0,", b",2,0,")
    write_archive(tmp_path / "forged.zip", files)
    with pytest.raises(UserError, match=r"comparisons\.csv"):
        verify_export(tmp_path / "forged.zip")
    with write(database) as session:
        lock(session, study.study_id, utc_now())
        with pytest.raises(UserError, match="the study is locked"):
            amend_target(session, study.study_id, 4, "more", utc_now())


def test_amend_on_the_command_line(tmp_path: Path) -> None:
    begun = begin_on_disk(tmp_path)
    with pytest.raises(UserError, match="the reason is missing"):
        call("amend", begun, "--per-comparison", 7)
    printed = call("amend", begun, "--per-comparison", 7, "--because", "more power")
    assert "amend: 7 participants per comparison now; 6 comparisons changed" in printed
    assert "0 of 42 judgments" in call("status", begun)


def begin_on_disk(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", arms=("plain", "fancy"), scores=False)
    call("init", tmp_path / "run")
    return tmp_path / "run"


def test_a_pilot_is_kept_out_by_its_rule(database: Database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=1, rules=Rules(pilot=1)))
    service = StudyService(database, study.run)
    people = [study.join() for _ in range(3)]
    # who comes first without judging is not the pilot
    for who in people[1:]:
        service.answer(who, service.trial(who), "left", Timing())
    with write(database) as session:
        excluded = exclude_by_rules(session, study.study_id, utc_now())
        assert exclude_by_rules(session, study.study_id, utc_now()) == []
    assert [(person.participant_id, person.because) for person in excluded] == [(people[1], "was one of the first 1, a pilot")]
    with read(database) as session:
        run_id = session.get_one(Study, study.study_id).run_id
    assert len(read_run(database, run_id).judgments) == 1
