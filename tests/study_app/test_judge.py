"""Recording judgments: once, never lost, never outside the target."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from db.models import Assignment, Comparison, Judgment
from db.session import read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.service.assignment import LEASE, expire_lapsed, reserve
from study_app.service.participant_state import find_person
from study_app.service.record_judgment import Recorded, record_judgment


def reserved(study, participant):
    with write(study.database) as session:
        return reserve(session, participant, utc_now()).id


def record(study, participant, assignment, choice="left"):
    with write(study.database) as session:
        return record_judgment(session, find_person(session, participant), assignment, choice, utc_now())


def stored(study):
    with read(study.database) as session:
        return session.execute(select(Judgment.assignment_id, Judgment.choice, Judgment.surplus)).all()


def lapse(study):
    with write(study.database) as session:
        expire_lapsed(session, study.study_id, utc_now() + 2 * LEASE)


def test_the_first_answer_stands(study) -> None:
    participant = study.join()
    assignment = reserved(study, participant)
    assert record(study, participant, assignment, "left") is Recorded.STORED
    assert record(study, participant, assignment, "right") is Recorded.ALREADY
    assert stored(study) == [(assignment, "left", False)]
    with read(study.database) as session:
        assert session.get_one(Assignment, assignment).state == "done"


def test_a_late_answer_counts_while_there_is_room(study) -> None:
    participant = study.join()
    assignment = reserved(study, participant)
    lapse(study)
    assert record(study, participant, assignment) is Recorded.STORED
    with read(study.database) as session:
        row = session.get_one(Assignment, assignment)
        assert (row.state, row.comparison.filled) == ("done", 1)


def test_a_late_answer_is_kept_as_surplus_where_there_is_none(study) -> None:
    participant = study.join()
    assignment = reserved(study, participant)
    lapse(study)
    with write(study.database) as session:
        session.execute(update(Comparison).values(filled=Comparison.target))
    assert record(study, participant, assignment) is Recorded.SURPLUS
    assert record(study, participant, assignment) is Recorded.ALREADY
    assert stored(study) == [(assignment, "left", True)]
    with read(study.database) as session:
        row = session.get_one(Assignment, assignment)
        assert (row.state, row.comparison.filled) == ("expired", 5)


def test_another_participants_page_cannot_be_answered(study) -> None:
    assignment = reserved(study, study.join())
    with pytest.raises(UserError, match="is not this participant's"):
        record(study, study.join(), assignment)
    assert stored(study) == []


def test_cannot_tell_is_an_answer_only_where_it_is_offered(study) -> None:
    participant = study.join()
    with pytest.raises(UserError, match="this study offers left, right"):
        record(study, participant, reserved(study, participant), "cannot_tell")


def test_cannot_tell_is_stored_where_it_is_offered(indecisive) -> None:
    participant = indecisive.join()
    assert record(indecisive, participant, reserved(indecisive, participant), "cannot_tell") is Recorded.STORED


def test_the_database_itself_refuses_a_second_judgment(study) -> None:
    participant = study.join()
    assignment = reserved(study, participant)
    record(study, participant, assignment)
    again = {"assignment_id": assignment, "choice": "right", "surplus": False, "judged_at": utc_now() + timedelta(seconds=1)}
    with pytest.raises(IntegrityError), write(study.database) as session:
        session.execute(insert(Judgment).values(again))


def test_the_database_itself_refuses_an_unknown_choice(study) -> None:
    assignment = reserved(study, study.join())
    values = {"assignment_id": assignment, "choice": "both", "surplus": False, "judged_at": utc_now()}
    with pytest.raises(IntegrityError, match="choice"), write(study.database) as session:
        session.execute(insert(Judgment).values(values))


def test_a_judged_comparison_cannot_be_deleted(study) -> None:
    participant = study.join()
    record(study, participant, reserved(study, participant))
    with pytest.raises(IntegrityError), write(study.database) as session:
        session.execute(Comparison.__table__.delete())
