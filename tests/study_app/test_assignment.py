"""Handing out comparisons: least filled first, never over-filled, never twice, given back after an absence."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from db.models import Assignment, Comparison, Judgment, Participant, StoredImage
from db.session import open_database, read, write
from db.utc import utc_now
from study_app.plan.design import Design
from study_app.service.assignment import LEASE, expire_lapsed, reserve
from study_app.service.participant_state import find_person
from study_app.service.record_judgment import Timing, record_judgment
from study_app.service.study import StudyService
from tests.study_app.conftest import begin


def judge_next(study, participant_id, choice="left"):
    with write(study.database) as session:
        assignment = reserve(session, participant_id, utc_now())
        if assignment is None:
            return None
        record_judgment(session, find_person(session, participant_id), assignment.id, choice, utc_now())
        return assignment.comparison_id


def test_a_participant_gets_every_comparison_once_and_then_none(study) -> None:
    participant = study.join()
    given = [judge_next(study, participant) for _ in range(study.comparisons)]
    assert len(set(given)) == study.comparisons
    assert judge_next(study, participant) is None


def test_reserving_again_gives_the_same_one_and_renews_it(study) -> None:
    participant, now = study.join(), utc_now()
    with write(study.database) as session:
        first = reserve(session, participant, now)
    with write(study.database) as session:
        again = reserve(session, participant, now + timedelta(minutes=5))
    assert (again.id, again.left, again.position) == (first.id, first.left, first.position)
    assert again.expires_at - first.expires_at == timedelta(minutes=5)


def test_the_least_filled_come_first(study) -> None:
    for _ in range(3):
        participant = study.join()
        for _ in range(study.comparisons // 2):
            judge_next(study, participant)
    with read(study.database) as session:
        filled = session.scalars(select(Comparison.filled)).all()
    assert max(filled) - min(filled) <= 1


def test_orders_differ_between_participants_and_follow_their_seeds(study) -> None:
    orders = []
    for seed in (11, 12, 13):
        participant = study.join(seed)
        orders.append([judge_next(study, participant) for _ in range(study.comparisons)])
    assert len({tuple(order) for order in orders}) == 3


def test_sides_are_balanced_within_each_comparison(study) -> None:
    for _ in range(5):
        participant = study.join()
        while judge_next(study, participant) is not None:
            pass
    with read(study.database) as session:
        rows = session.execute(
            select(Assignment.comparison_id, func.sum(Assignment.left), func.count()).group_by(Assignment.comparison_id)
        ).all()
        own = session.execute(
            select(Assignment.participant_id, func.sum(Assignment.left), func.count()).group_by(Assignment.participant_id)
        ).all()
    assert all(count == 5 and left in (2, 3) for _, left, count in rows)
    assert all(abs(2 * left - count) <= 4 for _, left, count in own)


def test_a_lapsed_place_goes_to_another(indecisive) -> None:
    study = indecisive
    now = utc_now()
    away = [study.join(), study.join()]
    with write(study.database) as session:
        session.execute(update(Comparison).where(Comparison.id != 1).values(target=1, filled=1))
        first = [reserve(session, participant, now).comparison_id for participant in away]
        assert first == [1, 1]
        late = study_participant(session, study)
        assert reserve(session, late, now + LEASE) is None
        assert reserve(session, late, now + LEASE + timedelta(seconds=1)).comparison_id == 1
        assert session.get_one(Comparison, 1).filled == 1


def study_participant(session, study):
    from study_app.service.participants import add_participant

    return add_participant(session, study.study_id, utc_now())[0].id


def test_who_comes_back_after_an_absence_gets_the_same_page(study) -> None:
    participant, now = study.join(), utc_now()
    with write(study.database) as session:
        before = reserve(session, participant, now)
        assert expire_lapsed(session, study.study_id, now + 2 * LEASE) == 1
        assert session.get_one(Comparison, before.comparison_id).filled == 0
        assert session.get_one(Assignment, before.id).state == "expired"
        after = reserve(session, participant, now + 2 * LEASE)
        session.expire_all()
        assert (after.id, session.get_one(Assignment, after.id).state) == (before.id, "open")
        assert session.get_one(Comparison, before.comparison_id).filled == 1


def test_many_at_once_fill_every_place_exactly(study) -> None:
    people = [study.join() for _ in range(8)]

    def work(participant: int) -> None:
        while judge_next(study, participant) is not None:
            pass

    with ThreadPoolExecutor(len(people)) as pool:
        list(pool.map(work, people))
    with read(study.database) as session:
        judged = session.execute(
            select(Assignment.comparison_id, func.count()).join(Judgment).group_by(Assignment.comparison_id)
        ).all()
        assert Counter(count for _, count in judged) == {5: study.comparisons}
        assert set(session.scalars(select(Comparison.filled))) == {5}
        assert session.scalar(select(func.count()).select_from(Judgment).where(Judgment.surplus)) == 0


def test_two_tabs_at_once_get_the_same_comparison(study) -> None:
    participant = study.join()

    def work(_: int) -> int:
        with write(study.database) as session:
            return reserve(session, participant, utc_now()).id

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    assert len(set(found)) == 1


def test_the_database_itself_refuses_to_over_fill(study) -> None:
    with pytest.raises(IntegrityError, match="never_over_filled"), write(study.database) as session:
        session.execute(update(Comparison).values(filled=Comparison.target + 1))


def test_the_database_itself_refuses_a_comparison_across_cases(study) -> None:
    with read(study.database) as session:
        images = session.scalars(select(StoredImage).order_by(StoredImage.id)).all()
    one = images[0]
    other = next(image for image in images if image.case_id != one.case_id)
    values = {
        "study_id": study.study_id, "case_id": one.case_id, "seed": one.seed, "image_a_id": one.id, "image_b_id": other.id,
        "priority": 0, "target": 1, "filled": 0, "first_left": 0,
    }  # fmt: skip
    with pytest.raises(IntegrityError), write(study.database) as session:
        session.execute(insert(Comparison).values(values))


def test_the_database_itself_refuses_a_second_open_comparison(study) -> None:
    participant = study.join()
    with write(study.database) as session:
        first = reserve(session, participant, utc_now())
    values = {
        "comparison_id": first.comparison_id % study.comparisons + 1, "participant_id": participant, "position": 1, "left": 0,
        "state": "open", "assigned_at": utc_now(), "expires_at": utc_now(),
    }  # fmt: skip
    with pytest.raises(IntegrityError), write(study.database) as session:
        session.execute(insert(Assignment).values(values))


def test_a_participant_is_never_given_a_comparison_twice(study) -> None:
    participant = study.join()
    while judge_next(study, participant) is not None:
        pass
    with read(study.database) as session:
        assert session.scalar(select(func.count()).select_from(Assignment)) == study.comparisons
        assert session.get_one(Participant, participant).seed >= 0


def test_a_judgment_asks_the_database_equally_often_however_large_the_study(tmp_path) -> None:
    turns, committed = [], set()
    for concepts in (3, 5):
        database = open_database(f"sqlite:///{tmp_path / f'{concepts}.db'}")
        study = begin(database, tmp_path / f"run {concepts}", Design(), concepts=concepts)
        service, asked, commits = StudyService(database, study.run), [], []

        def ask(*call: object, asked: list[object] = asked) -> None:
            if str(call[2]).startswith(("SELECT", "INSERT", "UPDATE")):
                asked.append(call[2])

        event.listen(database.engine, "before_cursor_execute", ask)
        event.listen(database.engine, "commit", commits.append)
        for person in range(3):
            participant = study.join()
            trial = service.trial(participant)
            while trial is not None:
                asked.clear()
                commits.clear()
                trial = service.answer_and_turn(participant, trial, "left", Timing())[1].trial
                # the first person's pages read what is kept for all others
                if person > 0 and trial is not None:
                    turns.append(len(asked))
                    committed.add(len(commits))
        database.close()
    assert committed == {1}
    # a page looks at both halves of the order at most, and for the next page once more
    assert max(turns) <= 14
