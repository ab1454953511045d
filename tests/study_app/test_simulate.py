"""Simulated participants: seeded, marked, and as biased as they were told to be."""

import random

import pytest
from sqlalchemy import select

from db.models import Assignment, Comparison, Judgment, Participant, StoredArm, StoredImage
from db.session import open_database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct.progress import study_status
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.service.assignment import reserve
from study_app.service.participant_state import find_person
from study_app.service.record_judgment import record_judgment
from study_app.simulation.people import Behaviour, has_simulated, simulate


def judgments(study_database):
    """Return what was judged, free of database ids."""
    with read(study_database) as session:
        rows = session.execute(
            select(Comparison.priority, Participant.seed, Assignment.position, Assignment.left, Judgment.choice)
            .join(Assignment, Assignment.id == Judgment.assignment_id)
            .join(Comparison, Comparison.id == Assignment.comparison_id)
            .join(Participant, Participant.id == Assignment.participant_id)
            .order_by(Participant.seed, Assignment.position)
        )
        return [tuple(row) for row in rows]


def test_simulation_fills_every_place_and_is_marked(study) -> None:
    told = []
    done = simulate(study.database, study.study_id, 6, Behaviour(), 1, lambda: told.append(1))
    assert done.judgments == len(told) == 5 * study.comparisons
    assert has_simulated(study.database, study.study_id)
    status = study_status(study.database, study.study_id)
    assert (status.simulated, status.finished + status.turned_away, status.judged, status.places) == (6, 6, 30, 30)
    with read(study.database) as session:
        assert all(session.scalars(select(Participant.simulated)))


def test_the_same_seeds_give_the_same_judgments_on_every_database(study, tmp_path) -> None:
    simulate(study.database, study.study_id, 5, Behaviour({"plain": 1.0}), 3)
    other = open_database(f"sqlite:///{tmp_path / 'other.db'}")
    simulate(other, begin_study(other, study.run, Design()).study_id, 5, Behaviour({"plain": 1.0}), 3)
    assert judgments(other) == judgments(study.database)
    other.close()


def test_a_strong_effect_shows_whatever_the_side(study) -> None:
    simulate(study.database, study.study_id, 5, Behaviour({"fancy": 9.0}, lapse=0.0), 1)
    with read(study.database) as session:
        rows = session.execute(
            select(StoredArm.label, Assignment.left, Judgment.choice)
            .join(Assignment, Assignment.id == Judgment.assignment_id)
            .join(Comparison, Comparison.id == Assignment.comparison_id)
            .join(StoredImage, StoredImage.id == Comparison.image_a_id)
            .join(StoredArm, StoredArm.id == StoredImage.arm_id)
        ).all()
    chose_a = [(label, (choice == "left") == (left == 0)) for label, left, choice in rows]
    assert {left for _, left, _ in rows} == {0, 1}
    assert all(won == (label == "fancy") for label, won in chose_a)


def test_chances_are_what_the_behaviour_says() -> None:
    behaviour = Behaviour({"a": 0.8}, side_bias=0.3, lapse=0.1, cannot_tell=0.25)
    assert behaviour.chance_of_left("a", "b") == pytest.approx(0.9 * 0.7502601 + 0.05)
    assert behaviour.chance_of_left("b", "a") == pytest.approx(0.9 * 0.3775407 + 0.05)
    answers = [behaviour.answer(random.Random(number), "a", "b", True) for number in range(4000)]
    assert answers.count("cannot_tell") / 4000 == pytest.approx(0.25, abs=0.03)
    assert "cannot_tell" not in [behaviour.answer(random.Random(number), "a", "b", False) for number in range(200)]


def test_an_effect_of_no_arm_is_refused(study) -> None:
    with pytest.raises(UserError, match="effect 'dierct': no such arm; known: plain, fancy"):
        simulate(study.database, study.study_id, 1, Behaviour({"dierct": 1.0}), 1)


@pytest.mark.parametrize("wrong", [{"lapse": 1.5}, {"cannot_tell": -0.1}, {"effects": {"plain": float("nan")}}])
def test_impossible_behaviour_is_refused(wrong) -> None:
    with pytest.raises(UserError):
        Behaviour(**wrong)


def test_simulation_never_mixes_with_people(study) -> None:
    person = study.join()
    with write(study.database) as session:
        record_judgment(session, find_person(session, person), reserve(session, person, utc_now()).id, "left", utc_now())
    with pytest.raises(UserError, match="people have judged in this study"):
        simulate(study.database, study.study_id, 1, Behaviour(), 1)
