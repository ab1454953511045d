"""The dashboard: only by its password, slow to guess, and blind."""

import json
import re
import stat
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from db.session import Database, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct import actions as conduct
from study_app.conduct import login_log, password
from study_app.plan.design import Checks, Design, Rules
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from study_app.web.security import SecurityHeaders
from study_app.web.server import own_routes
from tests.study_app.conftest import begin
from tests.study_app.test_command import call


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a guess cheap."""
    monkeypatch.setattr(password, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def service(database: Database, tmp_path: Path) -> StudyService:
    design = Design(checks=Checks(null_pairs=0.5), rules=Rules(after=3, one_side=0.5))
    return StudyService(database, begin(database, tmp_path / "run", design).run)


@pytest.fixture
def client(service: StudyService) -> TestClient:
    app = Starlette(routes=own_routes(service), middleware=[Middleware(SecurityHeaders)])
    return TestClient(app, follow_redirects=False)


def log_in(client: TestClient, given: str):
    return client.post("/admin", data={"password": given})


def test_without_a_password_there_is_no_dashboard(client: TestClient) -> None:
    assert client.get("/admin").status_code == 404
    assert log_in(client, "").status_code == 404


def test_nothing_is_shown_without_login_and_a_forged_cookie_is_none(service: StudyService, client: TestClient) -> None:
    password.set_password(service.blinding.run)
    name = f"{service.blinding.cookie_name()}_admin"
    for forged in ("", "x", "99999999999.", f"99999999999.{'0' * 32}", "-1.x", "9" * 400, "²."):
        answer = client.get("/admin", headers={"cookie": f"{name}={forged}".encode()})
        assert answer.status_code == 401
        assert "judgments" not in answer.text
        assert answer.headers["cache-control"] == "no-store"


def test_the_password_opens_and_a_new_one_ends_the_visit(service: StudyService, client: TestClient) -> None:
    made = password.set_password(service.blinding.run)
    answer = log_in(client, made)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/admin" in cookie
    assert client.get("/admin").status_code == 200
    assert client.get("/admin").headers["x-frame-options"] == "DENY"
    password.set_password(service.blinding.run)
    assert client.get("/admin").status_code == 401


def test_a_visit_ends_when_it_is_over_or_logged_out(service: StudyService, client: TestClient, monkeypatch) -> None:
    made = password.set_password(service.blinding.run)
    log_in(client, made)
    assert client.post("/admin/out").status_code == 303
    assert client.get("/admin").status_code == 401
    log_in(client, made)
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: 4e9)
    assert client.get("/admin").status_code == 401


def test_guessing_is_slowed_for_the_guesser_alone_in_all_processes(service: StudyService, monkeypatch) -> None:
    made = password.set_password(service.blinding.run)
    doors, now = [password.AdminPassword(service.blinding.run) for _ in range(3)], [1e9]
    monkeypatch.setattr(login_log.time, "time", lambda: now[0])
    checked = []
    for second in range(600):
        now[0] = 1e9 + second
        # one process after the other: they share the count
        if doors[second % 3].opens("a guess", "address 192.0.2.1") is not None:
            checked.append(second)
    assert checked[:5] == [0, 1, 3, 7, 15]
    assert len(checked) <= 16
    assert doors[0].opens(made, "address 192.0.2.1") is None
    assert doors[0].opens(made, "address 192.0.2.2") is True
    # a clock set back by an hour does not close the door for an hour
    now[0] -= 3600
    assert doors[1].opens(made, "address 192.0.2.1") is True


def test_the_right_password_opens_while_others_guess_from_the_same_address(service: StudyService, client: TestClient) -> None:
    made = password.set_password(service.blinding.run)
    assert log_in(client, made).status_code == 303
    guesser = TestClient(client.app, follow_redirects=False)
    assert log_in(guesser, "wrong").status_code == 401
    assert log_in(guesser, made).status_code == 429
    client.post("/admin/out")
    assert client.get("/admin").status_code == 401
    assert log_in(client, made).status_code == 303


def test_logging_out_ends_the_session_wherever_its_cookie_was_copied(service: StudyService, client: TestClient) -> None:
    log_in(client, password.set_password(service.blinding.run))
    name = f"{service.blinding.cookie_name()}_admin"
    copied = client.cookies.get(name, path="/admin")
    client.post("/admin/out")
    other = TestClient(Starlette(routes=own_routes(service)), cookies={name: copied})
    assert other.get("/admin").status_code == 401


def test_a_guess_too_soon_and_a_body_too_large_are_refused(service: StudyService, client: TestClient) -> None:
    password.set_password(service.blinding.run)
    assert log_in(client, "wrong").status_code == 401
    assert log_in(client, "wrong").status_code == 429
    assert log_in(client, "x" * 10_000).status_code == 413
    assert client.post("/admin", content=(b"x" * 1000 for _ in range(20))).status_code == 413
    assert client.post("/admin", content=b"", headers={"content-length": str(2**20 + 1)}).status_code == 413


def test_only_the_hash_is_kept_for_its_owner_alone_and_never_a_default(service: StudyService) -> None:
    run = service.blinding.run
    made = password.set_password(run)
    file = password.password_file(run)
    assert made not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert password.set_password(run) != made
    assert json.loads(file.read_text())["argon2"].startswith("$argon2id$")
    with pytest.raises(UserError, match="has 5 characters; give 12 to 1024"):
        password.set_password(run, "short")


def test_the_dashboard_shows_how_the_study_goes_and_no_arms_share(service: StudyService, client: TestClient) -> None:
    simulate(service.database, service.study_id, 4, Behaviour({"fancy": 9.0}, side_bias=2.0, lapse=0.0), 1)
    log_in(client, password.set_password(service.blinding.run))
    shown = client.get("/admin").text
    for said in (
        "24 of 30 (80.0 %)", "4 arrived", "of the participants are simulated", "pairs of answers to one comparison are equal",
        "null pairs with a side chosen", "star-ring", "chose one side in", "data-seconds=\"10\"",
    ):  # fmt: skip
        assert said in shown
    # the arms are named where progress is told, and there alone
    assert len(re.findall("fancy", shown)) == 1
    assert "plain | fancy</td><td>6</td><td>0</td><td>24</td><td>0</td><td>30" in shown
    with write(service.database) as session:
        conduct.lock(session, service.study_id, utc_now())
    assert "Locked on" in client.get("/admin").text


def test_the_command_shows_a_new_password_once(service: StudyService) -> None:
    said = call("password", service.blinding.run)
    made = re.search(r"shown only once: (\S+)\[exit 0", said.replace("\n", ""))
    assert made is not None
    assert password.AdminPassword(service.blinding.run).opens(made[1]) is True
    with pytest.raises(UserError, match="manifest"):
        call("password", service.blinding.run.parent)


# as `evalkit study password` wrote it before argon2, of "a password of before"
SCRYPT_FILE = {
    "salt": "20e726a8e64b05683756d2110ccd8f02",
    "scrypt": "6a7c7fff4e4a8f62c5e56f8bd347b32b360ea73af1ca6d778531a48a4920c621",
    "n": 65536,
    "r": 8,
    "p": 2,
}


def test_a_password_file_made_before_argon2_still_opens(service: StudyService, client: TestClient) -> None:
    password.password_file(service.blinding.run).write_text(json.dumps(SCRYPT_FILE))
    assert log_in(client, "another password").status_code == 401
    assert password.AdminPassword(service.blinding.run).opens("a password of before") is True
