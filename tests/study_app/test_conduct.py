"""Conducting a study: leaving people out and taking them back, voiding, pausing, locking, erasing; and watching it blind."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from analysis.database_rows import read_run
from db.models import Assignment, Check, Comparison, Event, Identity, Judgment, Study
from db.session import read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct import actions as conduct
from study_app.conduct.careless_rules import conduct_of_all
from study_app.conduct.live_statistics import watch
from study_app.plan.design import Checks, Design, Gold, Rules
from study_app.plan.recruitment import Recruited
from study_app.service.participants import find_participant
from study_app.service.record_judgment import Recorded, Timing
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from tests.runs import make_run
from tests.study_app.conftest import begin
from tests.study_app.test_assignment import judge_next
from tests.study_app.test_command import call


def act(study, what, *arguments):
    with write(study.database) as session:
        return what(session, study.study_id, *arguments, utc_now())


def analyzed(study) -> int:
    with read(study.database) as session:
        run_id = session.get_one(Study, study.study_id).run_id
    return len(read_run(study.database, run_id).judgments)


def live(study) -> None:
    """Every comparison's count is that of its open and done assignments."""
    with read(study.database) as session:
        held = {row.id: row.filled for row in session.execute(select(Comparison.id, Comparison.filled))}
        rows = session.scalars(select(Assignment.comparison_id).where(Assignment.state.in_(("open", "done")))).all()
    assert held == {comparison: rows.count(comparison) for comparison in held}


def test_who_is_left_out_counts_no_more_and_their_places_go_to_others(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=1))
    careless, careful = study.join(), study.join()
    for _ in range(3):
        judge_next(study, careless)
    assert analyzed(study) == 3
    act(study, conduct.exclude, careless, "said so")
    live(study)
    assert analyzed(study) == 0
    assert judge_next(study, careless) is None
    while judge_next(study, careful) is not None:
        pass
    assert analyzed(study) == study.comparisons
    # taken back in: the places are others' by now, so the old judgments stay outside the target
    act(study, conduct.include, careless)
    live(study)
    with read(study.database) as session:
        assert session.scalar(select(func.count()).select_from(Judgment)) == study.comparisons + 3
        assert session.scalar(select(func.count()).select_from(Judgment).where(Judgment.surplus)) == 3
    assert analyzed(study) == study.comparisons


def test_taking_back_in_gives_places_back_where_they_are_free(study) -> None:
    participant = study.join()
    judge_next(study, participant)
    act(study, conduct.exclude, participant, "a mistake")
    with pytest.raises(UserError, match=r"is already excluded .a mistake"):
        act(study, conduct.exclude, participant, "again")
    act(study, conduct.include, participant)
    live(study)
    assert analyzed(study) == 1
    with pytest.raises(UserError, match="is not excluded"):
        act(study, conduct.include, participant)
    with pytest.raises(UserError, match="participant 99: the study has no participant"):
        act(study, conduct.include, 99)
    with pytest.raises(UserError, match="the reason is missing"):
        act(study, conduct.exclude, participant, " ")


def test_the_rules_of_the_design_find_who_judges_oddly(database, tmp_path: Path) -> None:
    gold = (Gold(case="star-ring", seed=0, better="fancy", worse="plain"),)
    rules = Rules(after=3, failed_checks=0, one_side=0.8, median_seconds=1.0)
    design = Design(checks=Checks(attention=0.5, gold=0.5), gold=gold, rules=rules)
    study = begin(database, tmp_path / "run", design)
    service, careless, careful = StudyService(database, study.run), study.join(1), study.join(2)
    for participant, milliseconds in ((careless, 200), (careful, 2000)):
        sides = 0
        while (trial := service.trial(participant)) is not None:
            with read(database) as session:
                check = session.get(Check, trial.owner) if trial.kind == "check" else None
            sides += 1
            choice = "left" if participant == careless or sides % 2 else "right"
            if check is not None:
                other = {"left": "right", "right": "left"}[check.expected]
                choice = other if participant == careless else check.expected
            service.answer(participant, trial, choice, Timing(reaction_ms=milliseconds))
    out = act(study, conduct.exclude_by_rules)
    assert [person.participant_id for person in out] == [careless]
    assert re.search(r"failed \d of \d attention and gold checks \(allowed: 0\)", out[0].because)
    assert "chose one side in 100% of 6 (allowed: 80%)" in out[0].because
    assert "median time 0.20 s (allowed: 1.0 s or more)" in out[0].because
    assert act(study, conduct.exclude_by_rules) == []


def test_void_frees_what_is_held_at_once(study) -> None:
    participant = study.join()
    service = StudyService(study.database, study.run)
    service.trial(participant)
    assert act(study, conduct.void, participant) == 1
    live(study)
    assert act(study, conduct.void, participant) == 0


def test_a_paused_study_hands_out_nothing_but_takes_answers(study) -> None:
    service, participant = StudyService(study.database, study.run), study.join()
    trial = service.trial(participant)
    act(study, conduct.pause)
    assert not service.turn(participant).is_open
    assert service.answer(participant, trial, "left", Timing()) is Recorded.STORED
    with pytest.raises(UserError, match="already paused"):
        act(study, conduct.pause)
    act(study, conduct.resume)
    assert service.turn(participant).is_open


def test_a_locked_study_takes_nothing_and_never_opens_again(study) -> None:
    service, participant = StudyService(study.database, study.run), study.join()
    first = service.trial(participant)
    service.answer(participant, first, "left", Timing())
    second = service.trial(participant)
    act(study, conduct.lock)
    assert service.answer(participant, second, "left", Timing()) is Recorded.LOCKED
    assert not service.undo(participant, first.owner)
    for what in (conduct.pause, conduct.resume, conduct.lock):
        with pytest.raises(UserError, match="cannot be changed any more"):
            act(study, what)
    with read(study.database) as session:
        assert session.scalar(select(func.count()).select_from(Judgment)) == 1
    with pytest.raises(UserError, match="paused or locked"):
        simulate(study.database, study.study_id, 1, Behaviour(), 1)


def test_erasing_forgets_who_it_was_and_keeps_what_nobody_can_be_known_by(study) -> None:
    service = StudyService(study.database, study.run)
    token = service.join(Recruited("prolific", "5f0ab", "v1"), "de")
    participant = service.visitor(token).id
    judge_next(study, participant)
    act(study, conduct.erase, participant)
    with read(study.database) as session:
        assert session.scalars(select(Identity)).all() == []
        assert find_participant(session, study.study_id, token) is None
        assert session.scalar(select(func.count()).select_from(Judgment)) == 1
        assert session.scalars(select(Identity)).all() == []
        assert "5f0ab" not in " ".join(str(event.content) for event in session.scalars(select(Event)))


def test_watching_tells_pace_sides_and_checks_and_no_arms_share(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=4, checks=Checks(null_pairs=0.5, attention=0.5)))
    simulate(database, study.study_id, 2, Behaviour({"fancy": 9.0}, side_bias=1.0, lapse=0.0), 1)
    with read(database) as session:
        people = conduct_of_all(session, study.study_id)
    seen = watch(database, study.study_id, utc_now() + timedelta(minutes=30))
    assert seen.left.of == 12 == sum(person.left + person.right for person in people)
    with read(database) as session:
        nulls = session.scalars(select(Check).where(Check.kind == "null_pair")).all()
    assert seen.null_sided.of == len(nulls) > 0
    assert seen.passed["attention"].count == seen.passed["attention"].of > 0
    assert seen.finish_at is not None
    assert (seen.active, seen.last_hour) == (2, 12)
    low, high = seen.left.interval
    assert 0 <= low < high <= 1
    assert "fancy" not in str(seen)


def test_the_commands_do_what_they_say(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, arms=("plain", "fancy"), scores=False)
    (run / "study.toml").write_text("[checks]\nnull_pairs = 0.5\n\n[rules]\nafter = 3\none_side = 0.5\n")
    call("simulate", run, "--participants", 2, "--side-bias", 9)
    said = call("status", run)
    assert re.search(r"null pairs with a side chosen: (\d+) of \1 \(100 %", said)
    assert "participant 1: chose one side in 100% of 6 (allowed: 50%)" in said
    assert "participant 1 is excluded: chose one side" in call("exclude", run, "--by-rules")
    assert "no one violates a rule" in call("exclude", run, "--by-rules")
    for command in (("include", 1), ("void", 1), ("pause",), ("resume",), ("erase", 2), ("lock",)):
        assert "done, and recorded in the audit log" in call(command[0], run, *command[1:])
    assert "locked on" in call("status", run)
    with pytest.raises(UserError, match="give a participant's number with --because, or --by-rules"):
        call("exclude", run)
