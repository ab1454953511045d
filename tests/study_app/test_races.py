"""Races: double clicks, two tabs, a stale tab, reloads, a clock that jumps, the last place; on SQLite and on PostgreSQL."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from db.models import Assignment, Comparison, Judgment
from db.session import read, write
from db.utc import utc_now
from study_app.service.assignment import LEASE
from study_app.service.record_judgment import Recorded, Timing
from study_app.service.study import StudyService
from tests.study_app.test_conduct import live


@pytest.fixture
def service(study) -> StudyService:
    return StudyService(study.database, study.run)


def at_once(what, arguments):
    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(lambda each: what(*each), arguments))


def choices(study) -> list[str]:
    with read(study.database) as session:
        return list(session.scalars(select(Judgment.choice).order_by(Judgment.id)))


def test_clicks_and_keys_at_the_same_moment_are_one_judgment(study, service) -> None:
    participant = study.join()
    trial = service.trial(participant)
    presses = [(participant, trial, choice, Timing()) for choice in ("left", "right") * 4]
    became = at_once(service.answer, presses)
    assert Counter(became) == {Recorded.STORED: 1, Recorded.ALREADY: 7}
    assert choices(study) == [presses[became.index(Recorded.STORED)][2]]
    # whatever else was pressed, the next page is unanswered
    assert service.trial(participant).owner != trial.owner
    assert len(choices(study)) == 1
    live(study)


def test_two_tabs_show_the_same_page_and_answer_it_once(study, service) -> None:
    participant = study.join()
    tabs = at_once(service.trial, [(participant,)] * 4)
    assert len({(tab.owner, tab.key, tab.images) for tab in tabs}) == 1
    assert service.answer(participant, tabs[0], "left", Timing()) is Recorded.STORED
    # the second tab is a page behind: it may go on, but not change what was said
    assert service.answer(participant, tabs[1], "right", Timing()) is Recorded.ALREADY
    assert choices(study) == ["left"]


def test_a_reload_at_every_step_changes_nothing(study, service) -> None:
    token = service.join()
    visitor = service.visitor(token)
    for step in ("consented_at", "instructed_at"):
        assert service.visitor(token) == visitor
        service.finish_step(visitor.id, step)
        visitor = service.visitor(token)
    assert service.practice(visitor.id) == service.practice(visitor.id)
    service.finish_step(visitor.id, "practiced_at")
    for count in range(study.comparisons):
        trial = service.trial(visitor.id)
        again = StudyService(study.database, study.run).trial(visitor.id)
        assert (again, again.done) == (trial, count)
        service.answer(visitor.id, trial, "left", Timing())
    assert service.trial(visitor.id) is None
    assert service.trial(visitor.id) is None
    assert service.visitor(token).progress.finished


def test_a_stale_tab_still_counts_where_there_is_room_and_is_kept_outside_where_there_is_none(
    study, service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with write(study.database) as session:
        session.execute(update(Comparison).where(Comparison.id != 1).values(target=1, filled=1))
        session.execute(update(Comparison).where(Comparison.id == 1).values(target=1))
    early, late = study.join(), study.join()
    stale = service.trial(early)
    assert service.trial(late) is None
    now = utc_now()
    monkeypatch.setattr("study_app.service.study.utc_now", lambda: now + 2 * LEASE)
    taken = service.trial(late)
    assert taken is not None
    assert service.answer(late, taken, "left", Timing()) is Recorded.STORED
    assert service.answer(early, stale, "right", Timing()) is Recorded.SURPLUS
    with read(study.database) as session:
        assert session.get_one(Comparison, 1).filled == 1
        assert session.scalars(select(Judgment.surplus).order_by(Judgment.id)).all() == [False, True]


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_jumps_loses_nothing_and_over_fills_nothing(study, service, monkeypatch, jump: timedelta) -> None:
    people = [study.join() for _ in range(3)]
    trials = [service.trial(person) for person in people]
    now = utc_now()
    monkeypatch.setattr("study_app.service.study.utc_now", lambda: now + jump)
    for person, trial in zip(people, trials, strict=True):
        assert service.answer(person, trial, "left", Timing()) is Recorded.STORED
        while (following := service.trial(person)) is not None:
            monkeypatch.setattr("study_app.service.study.utc_now", lambda: now - jump)
            service.answer(person, following, "right", Timing())
            monkeypatch.setattr("study_app.service.study.utc_now", lambda: now + jump)
    assert Counter(choices(study)) == {"left": 3, "right": 3 * (study.comparisons - 1)}
    live(study)


def test_the_last_place_goes_to_one_of_those_who_ask_at_the_same_moment(study, service) -> None:
    with write(study.database) as session:
        session.execute(update(Comparison).where(Comparison.id != 1).values(target=1, filled=1))
        session.execute(update(Comparison).where(Comparison.id == 1).values(target=1))
    people = [study.join() for _ in range(8)]
    given = at_once(service.trial, [(person,) for person in people])
    assert sum(trial is not None for trial in given) == 1
    with read(study.database) as session:
        assert session.scalar(select(func.count()).select_from(Assignment)) == 1
        assert session.get_one(Comparison, 1).filled == 1
