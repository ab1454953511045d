"""What nobody may have or run: guessed tokens, others' images, forged cookies, files beside the study, markup in free text."""

import csv
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from db.models import Participant
from db.session import Database, read, write
from db.utc import utc_now
from study_app.conduct import actions as conduct
from study_app.conduct.export import export_study
from study_app.conduct.live_statistics import watch
from study_app.conduct.progress import CaseProgress, Group, study_status
from study_app.conduct.verify import verify_export
from study_app.plan.design import Design, Rules
from study_app.plan.questionnaire import Question
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.service.view_models import TrialPage
from study_app.web.dashboard import dashboard_page
from study_app.web.security import POLICY_VIOLATION, SecurityHeaders
from study_app.web.server import own_routes
from tests.study_app.conftest import begin

HOSTILE = '</td><script>alert("1")</script><img src=x onerror=alert(1)>'
FORGED = ("", "x", "0" * 64, "../secret", "' OR 1=1 --", "%00", "None", "1", "a" * 5000)


@pytest.fixture
def service(database: Database, tmp_path: Path) -> StudyService:
    design = Design(
        per_comparison=2,
        rules=Rules(after=1, one_side=0.5),
        questionnaire=(Question(name="remarks", text="Anything else?", kind="text"),),
    )
    return StudyService(database, begin(database, tmp_path / "run", design, concepts=2).run)


@pytest.fixture
def client(service: StudyService) -> TestClient:
    app = Starlette(routes=own_routes(service), middleware=[Middleware(SecurityHeaders)])
    return TestClient(app, follow_redirects=False, raise_server_exceptions=False)


def arrive(service: StudyService, client: TestClient) -> tuple[int, str, TrialPage]:
    """Join, give the browser the cookie, and return who it is, their token and what they judge now."""
    token = service.join()
    who = service.visitor(token).id
    for step in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(who, step)
    be(service, client, token)
    return who, token, service.trial(who)


def be(service: StudyService, client: TestClient, token: str) -> None:
    client.cookies.clear()
    client.cookies.set(service.blinding.cookie_name(), token)


def test_every_guess_at_an_images_token_is_of_nothing(service: StudyService, client: TestClient) -> None:
    _, _, trial = arrive(service, client)
    url = trial.images[0]
    assert client.get(url).status_code == 200
    token = url.removeprefix("/i/")
    near = [token[:at] + ("0" if sign != "0" else "1") + token[at + 1 :] for at, sign in enumerate(token)]
    for guess in (*near, token[:-1], f"{token}0", token.upper() + "A", "0" * len(token), "*", "%25", "%00", "%0d%0aX: y"):
        answer = client.get(f"/i/{guess}")
        assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (404, "not found", "no-store")
        assert "x" not in answer.headers


def test_nobody_elses_cookie_and_no_forged_one_opens_an_image(service: StudyService, client: TestClient) -> None:
    _, mine, trial = arrive(service, client)
    urls = [*trial.images, *(url for concept in trial.concepts for url in concept.references)]
    other = service.join()
    for token in (other, mine[:-1], mine.swapcase(), *FORGED):
        be(service, client, token)
        assert {client.get(url).status_code for url in urls} == {404}
    be(service, client, mine)
    assert {client.get(url).status_code for url in urls} == {200}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_cookie_is_nobodys(service: StudyService, client: TestClient, forged: str) -> None:
    be(service, client, forged)
    assert client.get("/done").headers["location"] == "/"
    joined = client.get("/join")
    assert joined.status_code == 303
    assert forged[:40] not in joined.headers["set-cookie"] or len(forged) < 2
    with read(service.database) as session:
        assert session.scalar(select(func.count()).select_from(Participant)) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/i/../manifest.json", "/i/..%2fmanifest.json", "/i/..%2f..%2fstudy%2fsecret", "/i/%2e%2e/%2e%2e/study.db",
        "/i/....//study.db", "/i/..%5c..%5cstudy.db", "/i/%252e%252e%252fstudy.db", "/i//etc/passwd", "/manifest.json",
        "/study/secret", "/study/export.zip", "/admin/../study.db", "/images/star-ring/plain/0.png",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_what_is_served(service: StudyService, client: TestClient, path: str) -> None:
    arrive(service, client)
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.text.lower() == "not found"


def test_only_what_is_asked_for_is_answered_and_headers_cannot_be_added(service: StudyService, client: TestClient) -> None:
    arrive(service, client)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert {client.request(method, path).status_code for path in ("/join", "/done", "/i/x", "/healthz")} == {405}
    client.cookies.clear()
    answer = client.get("/join?lang=%0d%0aSet-Cookie:%20evil=1")
    assert answer.headers["location"] == "/"
    assert "evil" not in str(answer.headers)
    assert client.get("/join", headers={"content-length": str(2**20 + 1)}).status_code == 413


@pytest.mark.parametrize(
    "origin", ["https://elsewhere.example", "http://testserver.elsewhere.example", "http://testserver:81", "null", ""]
)
def test_a_page_of_another_site_opens_no_websocket(origin: str) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(1000)

    app = Starlette(routes=[WebSocketRoute("/_stcore/stream", talk)], middleware=[Middleware(SecurityHeaders)])
    client = TestClient(app)
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/_stcore/stream", headers={"origin": origin}):
        pass
    assert refused.value.code == POLICY_VIOLATION
    # the study's own page, with TLS before the server or without, and a program that is no browser
    for own in ({"origin": "http://testserver"}, {"origin": "https://testserver"}, {}):
        with client.websocket_connect("/_stcore/stream", headers=own) as opened, pytest.raises(WebSocketDisconnect) as closed:
            opened.receive_text()
        assert closed.value.code == 1000


def test_what_people_type_stays_text_in_the_export_and_out_of_the_dashboard(
    service: StudyService, client: TestClient, tmp_path: Path
) -> None:
    who, _, trial = arrive(service, client)
    while trial is not None:
        service.answer(who, trial, "left", Timing())
        trial = service.trial(who)
    typed = f'{HOSTILE}, "quoted"\nand a new line; DROP TABLE judgments'
    assert service.reply(who, {"remarks": typed}) == []
    with write(service.database) as session:
        conduct.exclude(session, service.study_id, who, f"={HOSTILE}", utc_now())
    export_study(service.database, service.blinding.run, tmp_path / "export.zip")
    assert verify_export(tmp_path / "export.zip").judgments == 2
    with zipfile.ZipFile(tmp_path / "export.zip") as bundle:
        tables = {
            name: list(csv.DictReader(io.StringIO(bundle.read(f"{name}.csv").decode(), newline="")))
            for name in ("replies", "participants")
        }
    assert [row["reply"] for row in tables["replies"]] == [typed]
    # what a spreadsheet would run is marked as text
    assert tables["participants"][0]["excluded_because"] == f"'={HOSTILE}"


def test_the_dashboard_shows_whatever_it_is_given_as_text(service: StudyService, client: TestClient) -> None:
    who, _, trial = arrive(service, client)
    service.answer(who, trial, "left", Timing())
    now, study = utc_now(), (service.database, service.study_id)
    seen = watch(*study, now)
    shown = dashboard_page(
        replace(study_status(*study), groups=(Group((HOSTILE, "b"), 1, 0, 1, 0, 2),)),
        replace(seen, people=tuple((person, (HOSTILE,)) for person, _ in seen.people), passed={HOSTILE: seen.left}),
        [CaseProgress(HOSTILE, 1, 0, 1, 2)],
        now,
    )
    assert shown.count("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;") == 4
    # one script, the page's own
    assert shown.count("<script") == shown.count('<script type="module">') == 1
    assert "<script>alert" not in shown
    assert "<img" not in shown
