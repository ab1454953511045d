"""Screening questions, comprehension with tries, a pass mark of practice, and sessions that failed checks end."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from db.models import Check, Reply
from db.session import Database, read
from study_app.conduct.export import export_study
from study_app.conduct.people import people_of
from study_app.conduct.progress import study_status
from study_app.conduct.verify import verify_export
from study_app.plan.design import Checks, Design, Entry, Rules
from study_app.plan.entry_checks import Comprehension, ComprehensionQuestion, Practice
from study_app.plan.flow import Step, next_step
from study_app.plan.questionnaire import Question
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.study_app.conftest import begin
from tests.study_app.test_pages import Walk

EYES = Question(
    name="eyes", text="Can you see images?", options=("yes", "no"), required=True, when="before", screen_out=("no",)
)
AGE = Question(name="age", text="Your age?", kind="number")
ASK = ComprehensionQuestion(name="side", text="How many images?", options=("one", "two"), right="two")
ENTRY = Entry(codes={"screened_out": "OUT", "partly": "PART"})


def serve(database: Database, run: Path, **design: object) -> StudyService:
    study = begin(database, run, Design(per_comparison=1, entry=ENTRY, **design), concepts=2)
    return StudyService(database, study.run)


def step(service: StudyService, token: str) -> Step:
    return next_step(service.visitor(token).progress)


def arrive(service: StudyService, *steps: str) -> tuple[str, int]:
    token = service.join()
    who = service.visitor(token).id
    for name in ("consented_at", *steps):
        service.finish_step(who, name)
    return token, who


def test_questions_before_the_study_screen_out_kindly(database: Database, tmp_path: Path, monkeypatch) -> None:
    service = serve(database, tmp_path / "run", questionnaire=(EYES, AGE))
    token, who = arrive(service)
    assert step(service, token) is Step.BEFORE
    assert service.reply_before(who, {}) == ["eyes"]
    assert step(service, token) is Step.BEFORE
    assert service.reply_before(who, {"eyes": "yes"}) == []
    assert step(service, token) is Step.INSTRUCTIONS
    service.reply_before(who, {"eyes": "no"})
    assert step(service, token) is Step.INSTRUCTIONS, "the first replies count"
    walk = Walk(service, monkeypatch)
    walk.token, other = arrive(service)
    walk.open()
    walk.press("Next")
    assert "Please check the marked questions." in walk.text
    walk.page.radio[0].set_value(1)
    walk.press("Next")
    assert service.sentences.entry.out_answers in walk.text
    assert "OUT" in walk.text
    with read(database) as session:
        people = {person.participant: (person.state, person.code) for person in people_of(session, service.study_id)}
        replies = {(row.participant_id, row.question): row.reply for row in session.scalars(select(Reply))}
    assert people == {who: ("arrived", None), other: ("refused", "OUT")}
    assert replies == {
        (who, "eyes"): "yes", (who, "entry before"): "passed", (other, "eyes"): "no", (other, "entry before"): "out"
    }  # fmt: skip
    assert study_status(database, service.study_id).turned_away == 1
    # the questions after the study are asked after it alone
    assert [question.name for question in service.design.after] == ["age"]
    target = tmp_path / "export.zip"
    export_study(database, tmp_path / "run", target)
    verify_export(target)


def test_comprehension_and_practice_have_so_many_tries(database: Database, tmp_path: Path, monkeypatch) -> None:
    service = serve(
        database, tmp_path / "run", comprehension=Comprehension(tries=2, questions=(ASK,)), practice=Practice(pass_mark=2)
    )
    token, who = arrive(service, "instructed_at")
    assert step(service, token) is Step.COMPREHENSION
    assert service.comprehend(who, {"side": "one"}) == ["side"]
    assert step(service, token) is Step.COMPREHENSION
    service.comprehend(who, {"side": "one"})
    assert step(service, token) is Step.REFUSED
    assert service.comprehend(who, {"side": "two"}) == []
    assert step(service, token) is Step.REFUSED, "no try was left"
    walk = Walk(service, monkeypatch)
    walk.token, other = arrive(service, "instructed_at")
    walk.open()
    walk.page.radio[0].set_value(1)
    walk.press("Next")
    for attempt in (1, 2):
        for trial in service.practice(other):
            walk.press("Left" if trial.right_answer == "right" else "Right")
        assert step(service, walk.token) is (Step.PRACTICE if attempt == 1 else Step.REFUSED)
        assert (service.sentences.entry.practice_again if attempt == 1 else service.sentences.entry.out_tries) in walk.text
    third, passes = arrive(service, "instructed_at")
    service.comprehend(passes, {"side": "two"})
    assert service.finish_practice(passes, 1) == "failed"
    assert service.finish_practice(passes, 2) == "passed"
    assert step(service, third) is Step.TRIAL


def test_failed_checks_end_a_session_at_once_and_kindly(database: Database, tmp_path: Path, monkeypatch) -> None:
    study = begin(
        database, tmp_path / "run",
        Design(entry=ENTRY, checks=Checks(attention=0.5), rules=Rules(failed_checks=0, end_session=True)), concepts=4,
    )  # fmt: skip
    service = StudyService(database, study.run)
    walk = Walk(service, monkeypatch)
    walk.token, who = arrive(service, "instructed_at", "practiced_at")
    failed = 0
    while (turn := service.turn(who)).trial is not None:
        trial = turn.trial
        choice = "left"
        if trial.kind == "check":
            with read(database) as session:
                choice = {"left": "right", "right": "left"}[str(session.get_one(Check, trial.owner).expected)]
            failed += 1
        service.answer(who, trial, choice, Timing())
    assert (failed, turn.is_ended) == (1, True)
    walk.open()
    assert service.sentences.entry.checks_body in walk.text
    assert "PART" in walk.text
    # nothing is held for them
    assert study_status(database, service.study_id).groups[0].held == 0


@pytest.mark.parametrize(
    ("design", "problem"),
    [
        ({"rules": {"end_session": True}}, "needs failed_checks"),
        ({"questionnaire": [{"name": "a", "text": "?", "options": ["x", "y"], "screen_out": ["x"]}]}, "screen_out"),
        ({"comprehension": {"questions": [{"name": "a", "text": "?", "options": ["x", "y"], "right": "z"}]}}, "not among"),
        ({"practice": {"pass_mark": 3}}, "less than or equal to 2"),
    ],
)
def test_a_check_that_cannot_be_is_refused(design: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Design.model_validate(design)
