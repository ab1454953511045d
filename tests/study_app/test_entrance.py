"""Coming in and going: recruiters' ids out of sight at once, tokens scripts can't read, the way back only when done."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from db.models import Identity, Participant
from db.session import Database, read
from study_app.plan.design import Design, Entry
from study_app.plan.recruitment import Recruited
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.web.security import SecurityHeaders
from study_app.web.server import own_routes
from tests.study_app.conftest import begin

PROLIFIC = Entry(recruitment="prolific", completion_url="https://app.prolific.com/submissions/complete?cc={code}")


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Callable[[Design], tuple[TestClient, StudyService]]:
    def serve(design: Design) -> tuple[TestClient, StudyService]:
        service = StudyService(database, begin(database, tmp_path / "run", design).run)
        app = Starlette(routes=own_routes(service), middleware=[Middleware(SecurityHeaders)])
        return TestClient(app, follow_redirects=False), service

    return serve


def test_joining_gives_a_cookie_scripts_cannot_read_and_only_one(served) -> None:
    client, service = served(Design())
    answer = client.get("/join?lang=de")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    assert "set-cookie" not in client.get("/join").headers
    with read(service.database) as session:
        assert session.scalars(select(Participant.language)).all() == ["de"]


def test_behind_tls_the_cookie_goes_over_tls_alone(served) -> None:
    client, _ = served(Design())
    assert "secure" in client.get("/join", headers={"x-forwarded-proto": "https"}).headers["set-cookie"].lower()


def test_a_recruiters_id_leaves_the_address_at_once_and_finds_the_same_person_again(served) -> None:
    client, service = served(Design(entry=PROLIFIC))
    link = "?PROLIFIC_PID=5f0ab&STUDY_ID=s&SESSION_ID=v1"
    first = client.get(f"/{link}")
    assert (first.status_code, first.headers["location"]) == (303, f"/join{link}")
    joined = client.get(f"/join{link}")
    assert (joined.headers["location"], joined.headers["referrer-policy"]) == ("/", "no-referrer")
    assert "5f0ab" not in joined.headers["set-cookie"]
    client.cookies.clear()
    again = client.get("/join?PROLIFIC_PID=5f0ab&SESSION_ID=v2")
    assert again.headers["set-cookie"] != joined.headers["set-cookie"]
    with read(service.database) as session:
        assert len(session.scalars(select(Participant)).all()) == 1
        identity = session.scalars(select(Identity)).one()
    assert (identity.source, identity.external_id, identity.session_id) == ("prolific", "5f0ab", "v2")


def test_mechanical_turk_sends_people_by_its_own_parameters(served) -> None:
    client, service = served(Design(entry=Entry(recruitment="mturk")))
    # a preview of the task names nobody
    assert "set-cookie" not in client.get("/join?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&hitId=H").headers
    first = client.get("/?workerId=A1B2&assignmentId=3XYZ&hitId=H")
    assert first.status_code == 303
    assert "set-cookie" in client.get(first.headers["location"]).headers
    with read(service.database) as session:
        identity = session.scalars(select(Identity)).one()
    assert (identity.source, identity.external_id, identity.session_id) == ("mturk", "A1B2", "3XYZ")


@pytest.mark.parametrize(
    "query", ["", "?PROLIFIC_PID=", "?PROLIFIC_PID=" + "x" * 65, "?PROLIFIC_PID=%3Cscript%3E", "?workerId=A1"]
)
def test_without_the_recruiters_id_nobody_joins_a_recruited_study(served, query: str) -> None:
    client, service = served(Design(entry=PROLIFIC))
    answer = client.get(f"/join{query}")
    assert answer.headers["location"] == "/"
    assert "set-cookie" not in answer.headers
    with read(service.database) as session:
        assert session.scalars(select(Participant)).all() == []


def test_the_way_back_opens_when_all_is_done(served) -> None:
    client, service = served(Design(entry=PROLIFIC))
    assert client.get("/done").headers["location"] == "/"
    client.get("/join?PROLIFIC_PID=5f0ab")
    assert client.get("/done").headers["location"] == "/"
    with read(service.database) as session:
        participant = session.scalars(select(Participant)).one()
    service.answer(participant.id, service.trial(participant.id), "left", Timing())
    service.finish_step(participant.id, "finished_at")
    code = participant.completion_code
    assert client.get("/done").headers["location"] == f"https://app.prolific.com/submissions/complete?cc={code}"


def test_an_answer_tells_who_visits_and_only_their_present_browser(database: Database, tmp_path: Path) -> None:
    service = StudyService(database, begin(database, tmp_path / "run", Design(entry=PROLIFIC)).run)
    sent, asked = Recruited("prolific", "5f0ab", "v1"), []
    earlier = service.join(sent)
    visitor = service.visitor(earlier)
    turn = service.answer_and_turn(visitor.id, service.trial(visitor.id), "left", Timing())[1]
    event.listen(database.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert service.visitor(earlier, turn) == visitor
    assert asked == []
    later, other = service.join(sent), service.join(Recruited("prolific", "60aa1", "v1"))
    turn = service.answer_and_turn(visitor.id, turn.trial, "left", Timing())[1]
    assert service.visitor(earlier, turn) is None
    assert service.visitor(None, turn) is None
    assert service.visitor(later, turn).id == visitor.id
    assert service.visitor(other, turn).id != visitor.id


def test_health_is_told(served) -> None:
    client, _ = served(Design())
    assert client.get("/healthz").text == "ok"
