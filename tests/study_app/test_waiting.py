"""Seats, waiting and ending: who holds a seat, who waits, who has finished, and what newcomers are told."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from starlette.applications import Starlette
from starlette.testclient import TestClient

from db.models import Assignment, Participant
from db.session import read, write
from db.utc import utc_now
from study_app.conduct import actions
from study_app.plan.design import Design, Entry
from study_app.service.openness import Openness
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.web.server import own_routes
from tests.study_app.conftest import begin

STEPS = ("consented_at", "instructed_at", "practiced_at")


def serve(database, run: Path, concepts: int = 2, **design) -> StudyService:
    return StudyService(database, begin(database, run, Design(**design), concepts=concepts).run)


def arrive(service: StudyService) -> int:
    who = service.visitor(service.join()).id
    for step in STEPS:
        service.finish_step(who, step)
    return who


def judge(service: StudyService, who: int) -> bool:
    trial = service.trial(who)
    if trial is not None:
        service.answer(who, trial, "left", Timing())
    return trial is not None


def lapse(service: StudyService) -> None:
    """Let every reservation be older than its lease."""
    with write(service.database) as session:
        past = utc_now() - timedelta(hours=1)
        session.execute(update(Assignment).where(Assignment.state == "open").values(expires_at=past))


def test_a_visitor_who_leaves_keeps_no_seat_and_the_same_people_finish(database, tmp_path: Path) -> None:
    service = serve(database, tmp_path / "run", per_comparison=2, same_people=True)
    gone = [arrive(service), arrive(service)]
    assert all(service.trial(who) is not None for who in gone)
    late = arrive(service)
    turn = service.turn(late)
    assert turn.trial is None
    assert turn.is_waiting
    assert service.openness() is Openness.WAITING
    lapse(service)
    stayed = [late, arrive(service)]
    for who in stayed:
        while judge(service, who):
            pass
    with read(database) as session:
        assert {person.id for person in session.scalars(select(Participant)) if person.finished_at is not None} == set(stayed)
    # whoever lost the seat does not judge a third time what two have judged
    assert service.trial(gone[0]) is None
    assert service.openness() is Openness.ENDED


def test_a_voided_or_excluded_participants_seat_goes_to_another(database, tmp_path: Path) -> None:
    service = serve(database, tmp_path / "run", concepts=3, per_comparison=1, same_people=True)
    for leave in (
        lambda session, who: actions.void(session, service.study_id, who, utc_now()),
        lambda session, who: actions.exclude(session, service.study_id, who, "left", utc_now()),
    ):
        who = arrive(service)
        assert judge(service, who)
        service.trial(who)
        assert service.turn(arrive(service)).is_waiting
        with write(database) as session:
            leave(session, who)
    last = arrive(service)
    while judge(service, last):
        pass
    assert service.openness() is Openness.ENDED


def test_finished_is_only_who_has_nothing_left_and_a_place_that_frees_goes_to_who_waits(database, tmp_path: Path) -> None:
    service = serve(database, tmp_path / "run", per_comparison=1)
    holder, waiting = arrive(service), arrive(service)
    assert service.trial(holder) is not None
    while judge(service, waiting):
        pass
    assert service.turn(waiting).is_waiting
    with read(database) as session:
        assert session.get_one(Participant, waiting).finished_at is None
    lapse(service)
    assert judge(service, waiting)
    turn = service.turn(waiting)
    assert (turn.trial, turn.is_waiting) == (None, False)
    with read(database) as session:
        assert session.get_one(Participant, waiting).finished_at is not None


def test_own_quota_judged_is_finished_whatever_others_hold(database, tmp_path: Path) -> None:
    service = serve(database, tmp_path / "run", per_comparison=3, per_participant=1)
    who = arrive(service)
    assert judge(service, who)
    assert service.turn(who).is_waiting is False
    with read(database) as session:
        assert session.get_one(Participant, who).finished_at is not None


@pytest.mark.parametrize("action", [actions.pause, actions.lock])
def test_newcomers_learn_of_a_closed_study_before_they_join(database, tmp_path: Path, action) -> None:
    service = serve(database, tmp_path / "run", per_comparison=1)
    assert service.openness() is Openness.OPEN
    with write(database) as session:
        action(session, service.study_id, utc_now())
    assert service.openness() is (Openness.PAUSED if action is actions.pause else Openness.ENDED)
    if action is actions.lock:
        client = TestClient(Starlette(routes=own_routes(service)), follow_redirects=False)
        assert "set-cookie" not in client.get("/join").headers


def test_the_paid_code_is_for_those_who_judged(database, tmp_path: Path) -> None:
    entry = Entry(completion_url="https://recruiter.example/?cc={code}", completion_code="PAID")
    service = serve(database, tmp_path / "run", per_comparison=1, entry=entry)
    idle, active = service.join(), service.join()
    for token in (idle, active):
        who = service.visitor(token).id
        for step in STEPS:
            service.finish_step(who, step)
    while judge(service, service.visitor(active).id):
        pass
    assert service.trial(service.visitor(idle).id) is None
    places = {}
    for token in (idle, active):
        service.trial(service.visitor(token).id)
        cookies = {service.blinding.cookie_name(): token}
        client = TestClient(Starlette(routes=own_routes(service)), follow_redirects=False, cookies=cookies)
        places[token] = client.get("/done").headers["location"]
    assert places == {idle: "/", active: "https://recruiter.example/?cc=PAID"}
