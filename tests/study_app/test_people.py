"""Participants by number or recruiter's id: payment, voiding, erasure; private files and archives."""

import csv
import json
import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import make_url, select
from starlette.applications import Starlette
from starlette.testclient import TestClient

import db.backup
from db.models import Assignment, Identity, Judgment, Participant
from db.session import default_url, open_database, read
from evalkit.errors import UserError
from study_app.conduct.doctor import examine
from study_app.conduct.people import people_of, resolve_participant
from study_app.plan.design import Design, Entry
from study_app.plan.questionnaire import Question
from study_app.plan.recruitment import Recruited
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.web.server import own_routes
from tests.runs import make_run
from tests.study_app.conftest import begin
from tests.study_app.test_command import call

RECRUITED = Entry(recruitment="prolific", completion_code="C1ABC")
ANN, BEN = "5f0000000000000000000a11", "5f0000000000000000000b22"


@pytest.fixture
def service(database, tmp_path: Path) -> StudyService:
    question = Question(name="age", text="How old are you?", kind="text")
    begun = begin(database, tmp_path / "run", Design(per_comparison=2, entry=RECRUITED, questionnaire=(question,)))
    return StudyService(database, begun.run)


def arrive(service: StudyService, external: str, judged: int) -> int:
    token = service.join(Recruited("prolific", external, "s1"))
    who = service.visitor(token).id
    for step in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(who, step)
    for _ in range(judged):
        service.answer(who, service.trial(who), "left", Timing(reaction_ms=900))
    return who


def url(service: StudyService) -> str:
    return service.database.url.render_as_string(hide_password=False)


def test_people_are_listed_with_what_payment_needs_and_a_code_only_if_earned(service: StudyService, tmp_path: Path) -> None:
    ann, ben = arrive(service, ANN, 2), arrive(service, BEN, 0)
    run = service.blinding.run
    listed = json.loads(call("people", run, "--db", url(service), "--json").rpartition("[exit")[0])
    assert [(row["participant"], row["external_id"], row["judged"], row["state"], row["code"]) for row in listed] == [
        (ann, ANN, 2, "judging", "C1ABC"), (ben, BEN, 0, "arrived", None),
    ]  # fmt: skip
    file = tmp_path / "people.csv"
    call("people", run, "--db", url(service), "--csv", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [row["external_id"] for row in csv.DictReader(file.read_text().splitlines())] == [ANN, BEN]


def test_commands_take_the_recruiters_id_and_prolifics_file_frees_at_once(service: StudyService, tmp_path: Path) -> None:
    ann = arrive(service, ANN, 1)
    ben = arrive(service, BEN, 1)
    service.trial(ann), service.trial(ben)
    file = tmp_path / "prolific.csv"
    file.write_text(f"Submission id,Participant id,Status\n1,{ANN},RETURNED\n2,{BEN},ACTIVE\n3,5f00,TIMED-OUT\n")
    assert "1 participant" in call("void", service.blinding.run, "--returned", file, "--db", url(service))
    with read(service.database) as session:
        held = session.scalars(select(Assignment.participant_id).where(Assignment.state == "open")).all()
        assert held == [ben]
        assert resolve_participant(session, service.study_id, BEN) == ben
    call("exclude", service.blinding.run, BEN, "--because", "asked for it", "--db", url(service))
    with read(service.database) as session:
        states = {person.external_id: person.state for person in people_of(session, service.study_id)}
    assert states == {ANN: "judging", BEN: "excluded"}


def test_an_erased_person_leaves_no_bytes_and_is_turned_away_on_return(service: StudyService) -> None:
    token = service.join(Recruited("prolific", ANN, "s1"), "de")
    who = service.visitor(token).id
    service.answer(who, service.trial(who), "left", Timing())
    service.reply(who, {"age": "as old as the hills of Rome"})
    said = call("erase", service.blinding.run, ANN, "--db", url(service))
    assert "recorded in the audit log" in said
    if (file := service.database.file) is not None:
        # the server's own connections are idle; nothing of what was erased is on disk
        names = [file, *file.parent.glob(f"{file.name}-*")]
        for text in (ANN, "hills of Rome"):
            assert [path for path in names if text.encode() in path.read_bytes()] == []
    with read(service.database) as session:
        assert session.scalars(select(Identity)).all() == []
        assert len(session.scalars(select(Judgment)).all()) == 1
    app = Starlette(routes=own_routes(service))
    client = TestClient(app, follow_redirects=False)
    for browser in (client, TestClient(app, follow_redirects=False, cookies={service.blinding.cookie_name(): token})):
        answer = browser.get("/join", params={"PROLIFIC_PID": ANN, "lang": "de"})
        assert answer.status_code == 200
        assert "gelöscht" in answer.text
        assert "set-cookie" not in answer.headers
    assert client.get("/join", params={"PROLIFIC_PID": BEN}).status_code == 303
    with read(service.database) as session:
        assert len(session.scalars(select(Participant)).all()) == 2


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", arms=("plain", "fancy"), scores=False)
    return tmp_path / "run"


def test_what_holds_data_of_people_is_its_owners_alone(run: Path) -> None:
    call("simulate", run, "--participants", 1)
    call("backup", run)
    call("export", run)
    copy = next((run / "study" / "backups").glob("*.db"))
    for file in (run / "study.db", copy, run / "study" / "export.zip"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert f"still holds what was erased, delete or replace it: {copy}" in call("erase", run, 1)
    database = open_database(default_url(run))
    try:
        assert [finding for finding in examine(database, run) if finding.state == "wrong"] == []
        copy.chmod(0o640)
        (wrong,) = [finding for finding in examine(database, run) if finding.state == "wrong"]
        assert f"chmod 600 {copy}" in wrong.what
    finally:
        database.close()


def test_status_and_doctor_read_an_archive(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("simulate", run, "--participants", 1)
    file = run / "study.db"
    before, allowed = file.read_bytes(), os.access

    def read_only(path, mode, **options) -> bool:
        # permissions do not bind root
        return mode != os.W_OK and allowed(path, mode, **options)

    monkeypatch.setattr(db.backup.os, "access", read_only)
    assert "6 of 30 judgments" in call("status", run)
    assert "an archive that can only be read" in call("doctor", run)
    with pytest.raises(UserError, match="readonly database"):
        call("pause", run)
    assert file.read_bytes() == before
    file.with_name("study.db-wal").write_bytes(b"x")
    with pytest.raises(UserError, match="has to be merged"):
        call("status", run)


@pytest.mark.postgres
def test_doctor_accepts_a_login_through_a_socket_without_a_password(run: Path, postgres_url: str) -> None:
    assert make_url(postgres_url).query["host"].startswith("/")
    database = open_database(postgres_url)
    try:
        assert [finding for finding in examine(database, run) if "easily guessed" in finding.what] == []
    finally:
        database.close()
