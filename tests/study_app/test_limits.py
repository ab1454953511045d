"""Limits of a served study: paths, joins and open pages per address, messages without machine data, open files."""

import logging

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from evalkit.errors import UserError
from study_app.service.study import StudyService
from study_app.web import request_limits
from study_app.web.first_frame import without_machine
from study_app.web.open_files import AcceptErrorsOnce, most_pages
from study_app.web.request_limits import AddressCounts, Limits, parse_networks
from study_app.web.security import TRY_AGAIN_LATER, SecurityHeaders
from study_app.web.server import own_routes

FAR, LAB = ("192.0.2.7", 1), ("198.51.100.9", 1)


def scope(address: tuple[str, int]) -> dict:
    return {"type": "http", "client": address}


async def anything(scope, receive, send) -> None:
    await PlainTextResponse("here")(scope, receive, send)


def test_only_what_a_study_needs_exists() -> None:
    client = TestClient(Starlette(routes=[Mount("/", anything)], middleware=[Middleware(SecurityHeaders)]))
    closed = (
        "/_stcore/upload_file/s/f", "/media/x.png", "/component/x", "/_stcore/bidi-components/x", "/_stcore/metrics",
        "/_stcore/metrics/", "/_stcore/script-health-check", "/_stcore/agent/x", "/auth/login", "/app/static/x",
        "//media/x", "/STATIC/x", "/anything",
    )  # fmt: skip
    for path in closed:
        for method in ("GET", "PUT", "POST", "DELETE", "OPTIONS"):
            assert client.request(method, f"http://testserver{path}").status_code == 404, path
    for path in ("/", "/static/js/x.js", "/i/x", "/healthz", "/_stcore/health", "/_stcore/host-config"):
        assert client.get(path).status_code == 200, path


def test_the_page_may_connect_to_its_own_host_alone() -> None:
    client = TestClient(Starlette(routes=[Mount("/", anything)], middleware=[Middleware(SecurityHeaders)]))
    policies = {
        host: client.get("/", headers={"host": host}).headers["content-security-policy"].split("connect-src ")[1].split(";")[0]
        for host in ("study.example.org", "localhost:8501", "[::1]:8501", "evil.example; script-src *", "a b")
    }
    assert policies["study.example.org"] == "'self' ws://study.example.org wss://study.example.org"
    assert policies["localhost:8501"] == "'self' ws://localhost:8501 wss://localhost:8501"
    assert policies["[::1]:8501"] == "'self' ws://[::1]:8501 wss://[::1]:8501"
    assert policies["evil.example; script-src *"] == policies["a b"] == "'self'"


def test_joins_are_limited_per_address_and_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(request_limits.time, "monotonic", lambda: now[0])
    counts = AddressCounts(Limits(joins_per_hour=2, unlimited=parse_networks(["198.51.100.0/24"])))
    assert [counts.join(scope(FAR)) for _ in range(4)] == [True, True, False, False]
    assert counts.join(scope(("192.0.2.8", 1)))
    for free in (LAB, ("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), ("testclient", 1)):
        assert all(counts.join(scope(free)) for _ in range(9)), free
    # one customer's IPv6 addresses are one
    assert [counts.join(scope((f"2001:db8::{n}", 1))) for n in range(3)] == [True, True, False]
    now[0] = request_limits.HOUR
    assert counts.join(scope(FAR))
    assert all(AddressCounts(Limits(joins_per_hour=0)).join(scope(FAR)) for _ in range(999))
    with pytest.raises(UserError, match="'lab': is not a network; give for example"):
        parse_networks(["lab"])


def test_a_join_beyond_the_limit_adds_no_one_and_says_so(study) -> None:
    service, counts = StudyService(study.database, study.run), AddressCounts(Limits(joins_per_hour=1))
    client = TestClient(Starlette(routes=own_routes(service, counts)), follow_redirects=False, client=FAR)
    assert client.get("/join").status_code == 303
    token = client.cookies.get(service.blinding.cookie_name())
    client.cookies.clear()
    busy = client.get("/join")
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "600")
    assert service.sentences.busy.heading in busy.text
    assert "set-cookie" not in busy.headers
    # whoever has joined comes back in
    client.cookies.set(service.blinding.cookie_name(), token)
    assert client.get("/join").status_code == 303


def test_open_pages_are_limited_per_address_and_in_all() -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    def client(counts: AddressCounts, address: tuple[str, int]) -> TestClient:
        routes = [WebSocketRoute("/_stcore/stream", talk), WebSocketRoute("/other", talk), Mount("/", anything)]
        return TestClient(Starlette(routes=routes, middleware=[Middleware(SecurityHeaders, counts=counts)]), client=address)

    counts = AddressCounts(Limits(pages_per_address=2, pages=4))
    far, lab = client(counts, FAR), client(counts, LAB)
    with far.websocket_connect("/_stcore/stream"), far.websocket_connect("/_stcore/stream"):
        with pytest.raises(WebSocketDisconnect) as refused, far.websocket_connect("/_stcore/stream"):
            pass
        assert refused.value.code == TRY_AGAIN_LATER
        assert lab.get("/").status_code == 200
        with lab.websocket_connect("/_stcore/stream"), lab.websocket_connect("/_stcore/stream"):
            # the process is full: newcomers read that it is busy, images of open pages still come
            assert lab.get("/").status_code == lab.get("/join").status_code == 503
            assert lab.get("/i/x").status_code == 200
        with pytest.raises(WebSocketDisconnect), lab.websocket_connect("/other"):
            pass
    # what was closed counts no more
    with far.websocket_connect("/_stcore/stream"), far.websocket_connect("/_stcore/stream"):
        assert counts.is_full is False


def test_the_first_message_names_neither_path_nor_version() -> None:
    message = ForwardMsg()
    message.new_session.main_script_path = "/srv/secret/site-packages/study_app/web/streamlit_script.py"
    message.new_session.name = "streamlit_script"
    initial = message.new_session.initialize
    initial.environment_info.python_version, initial.environment_info.streamlit_version = "3.11.7", "1.67.0"
    initial.environment_info.server_os = "Linux"
    initial.user_info.installation_id, initial.session_id = "machine", "session"
    data = without_machine(message.SerializeToString())
    for text in (b"/srv/secret", b"3.11.7", b"1.67.0", b"Linux", b"machine"):
        assert text not in data
    read = ForwardMsg()
    read.ParseFromString(data)
    # the page refuses a message without these parts
    assert read.new_session.initialize.HasField("environment_info")
    assert read.new_session.initialize.HasField("user_info")
    assert read.new_session.initialize.session_id == "session"
    other = ForwardMsg()
    other.delta.new_element.markdown.body = "streamlit_script"
    assert without_machine(other.SerializeToString()) == other.SerializeToString()


def test_open_files_bound_the_pages_and_their_exhaustion_is_logged_once() -> None:
    assert most_pages(1024) == 231
    assert most_pages(64) == 1
    once = AcceptErrorsOnce()
    record = logging.makeLogRecord({"msg": "socket.accept() out of system resource"})
    assert [once.filter(record) for _ in range(3)] == [True, False, False]
    assert once.filter(logging.makeLogRecord({"msg": "something else"}))
