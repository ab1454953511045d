"""Every kind of question in the registry: shown, answered, stored, exported, verified, simulated and analyzed."""

import csv
import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import select

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.questions.kinds import QUESTION_KINDS
from analysis.questions.question_kind import AnswerScale, is_vote_code
from analysis.report.question_tables import question_levels_table, questions_table
from db.models import Answer, CheckAnswer, Reply, Study
from db.session import Database, default_url, open_database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct.actions import erase
from study_app.conduct.export import export_study
from study_app.conduct.verify import verify_export
from study_app.plan.design import Checks, Design
from study_app.plan.page_layout import places
from study_app.plan.study_questions import StudyQuestion
from study_app.service.record_judgment import Recorded, Timing
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from tests.runs import make_run
from tests.study_app.conftest import BegunStudy, begin
from tests.study_app.test_command import call
from tests.study_app.test_pages import Walk

SCALE = AnswerScale(cannot_tell=True, both_bad=True)
# an answer of every kind about two images (three where a kind needs them), and its value for the first image over the second
ANSWERS = {
    "choice": ("left", 1.0), "ranking": ("2 1 3", 0.0), "graded": ("left_3", 1.0), "slider": ("right_50", 0.25),
    "rating": ("left:4 right:2", 2.0), "yes_no": ("left:no right:yes", -1.0), "comment": ("a hat", None),
}  # fmt: skip


def questions_for(count: int) -> tuple[StudyQuestion, ...]:
    """Return a question of every kind that can be asked about so many images."""
    return tuple(
        StudyQuestion(name=f"q_{name}", text=f"The {name} question?", kind=name)
        for name, kind in QUESTION_KINDS.items()
        if kind.counts[0] <= count <= kind.counts[1]
    )


def several_kinds(database: Database, run: Path, count: int, **design: object) -> BegunStudy:
    arms = ("plain", "fancy", "third")[:count]
    return begin(database, run, Design(per_comparison=2, at_once=count, questions=questions_for(count), **design), arms)


@pytest.mark.parametrize("name", QUESTION_KINDS)
def test_every_kind_reads_its_answers_and_simulates_valid_ones(name: str) -> None:
    kind, (answer, value) = QUESTION_KINDS[name], ANSWERS[name]
    slots = places(kind.counts[0])
    assert kind.problem(answer, slots, SCALE) is None
    assert kind.pair_value(answer, slots, slots[0], slots[1], SCALE) == value
    mirrored = kind.pair_value(answer, slots, slots[1], slots[0], SCALE)
    assert mirrored == (None if value is None else 1 - value if kind.measure == "preference" else -value)
    for wrong in ("left_900", "left:4", "best", "9", "left:4 right:2 left:3", "left:x right:y"):
        assert name == "comment" or kind.problem(wrong, slots, SCALE), wrong
    rng = random.Random(1)
    simulated = [kind.simulate(rng, slots, (2.0, -2.0, 0.0)[: len(slots)], SCALE) for _ in range(400)]
    assert all(kind.problem(one, slots, SCALE) is None and len(one) <= 200 for one in simulated)
    values = [kind.pair_value(one, slots, slots[0], slots[1], SCALE) for one in simulated]
    if value is not None:
        assert np.mean(values) > (0.5 if kind.measure == "preference" else 0.0) + 0.1
    assert all(kind.widget == "ranking" or kind.problem(button, slots, SCALE) is None for button in kind.buttons(slots, SCALE))
    assert is_vote_code(simulated[0]) == (name in ("choice", "ranking"))


@pytest.mark.parametrize("count", [2, 3])
def test_every_kind_is_stored_exported_verified_and_analyzed(database: Database, tmp_path: Path, count: int) -> None:
    study = several_kinds(database, tmp_path / "run", count, checks=Checks(null_pairs=0.3), primary="q_rating")
    simulate(database, study.study_id, 3, Behaviour({"fancy": 2.5}), seed=4)
    kinds = {question.name: question.answer_kind for question in questions_for(count)}
    with read(database) as session:
        answers = session.execute(select(Answer.question, Answer.choice)).all()
        assert {question for question, _ in answers} == set(kinds)
        assert {question for (question,) in session.execute(select(CheckAnswer.question))} == set(kinds)
        assert len(session.scalars(select(Reply.reply).where(Reply.question.startswith("q_comment assignment"))).all()) == sum(
            question == "q_comment" for question, _ in answers
        )
        run_id = session.get_one(Study, study.study_id).run_id
    target = tmp_path / "export.zip"
    export_study(database, study.run, target)
    verify_export(target)
    with zipfile.ZipFile(target) as bundle:
        rows = list(csv.DictReader(io.StringIO(bundle.read("answers.csv").decode())))
        votes = bundle.read("votes.csv").decode()
    assert {row["question"] for row in rows} == set(kinds)
    assert {name for name in kinds if name in votes} == {n for n, k in kinds.items() if k.name in ("choice", "ranking")}
    findings = analyze_run(read_run(database, run_id))
    results = {result.question: result for result in findings.questions}
    assert set(results) == {"overall", *kinds}
    assert [name for name, result in results.items() if result.is_primary] == ["q_rating"]
    for name, kind in kinds.items():
        assert results[name].answers == sum(row["question"] == name for row in rows)
        assert bool(results[name].contrasts) == (kind.measure != "count")
        assert len(results[name].levels) == (count if kind.measure in ("rating", "share") else 0)
        for contrast in results[name].contrasts:
            if contrast.second == "fancy":
                assert contrast.estimate < contrast.null, name
            assert contrast.p_adjusted is None or contrast.p_adjusted >= contrast.p
    table, levels = questions_table(findings), question_levels_table(findings)
    assert {row[0].text for row in table.rows} == {
        "overall", *(name + (" (primary)" if name == "q_rating" else "") for name in kinds if name != "q_comment")
    }  # fmt: skip
    assert len(levels.rows) == 2 * count


def test_comments_are_erased_and_written_again_after_an_undo(database: Database, tmp_path: Path) -> None:
    comment = StudyQuestion(name="why", text="Why?", kind="comment")
    study = begin(database, tmp_path / "run", Design(questions=(comment,)))
    service, who = StudyService(database, study.run), study.join()
    for text in ("my name is Ada", "=1+1"):
        first = service.trial(who)
        service.answer(who, first, "left", Timing())
        further = service.trial(who)
        assert (further.question, further.question_number, further.question_count) == ("why", 2, 2)
        assert service.answer(who, further, text, Timing()) is Recorded.STORED
        assert service.answer(who, further, text, Timing()) is Recorded.ALREADY
        if text != "=1+1":
            assert service.undo(who, first.owner)
    target = tmp_path / "export.zip"
    export_study(database, study.run, target)
    verify_export(target)
    with read(database) as session:
        assert session.scalars(select(Reply.reply).order_by(Reply.question)).all() == ["my name is Ada", "=1+1"]
        assert session.scalars(select(Answer.choice)).all() == ["written"]
    with write(database) as session:
        erase(session, study.study_id, who, utc_now())
    export_study(database, study.run, target)
    verify_export(target)
    with zipfile.ZipFile(target) as bundle:
        assert not any(b"Ada" in bundle.read(name) for name in bundle.namelist())


def test_every_kind_is_shown_and_answered_on_its_page(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = several_kinds(database, tmp_path / "run", 2)
    service = StudyService(database, study.run)
    walk = Walk(service, monkeypatch)
    token = service.join()
    walk.token = token
    who = service.visitor(token).id
    for step in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(who, step)
    walk.open()
    walk.press("Left")
    for number, question in enumerate(service.design.questions, 2):
        assert f"Question {number} of {1 + len(service.design.questions)}" in walk.text
        assert question.text in walk.text
        widget = question.answer_kind.widget
        if widget == "per_image":
            walk.press("Send the answer")
            assert "Please answer for every image." in walk.text
            for radio in walk.page.radio:
                radio.set_value(radio.options[0] if question.kind == "yes_no" else 1.0)
        elif widget == "text":
            walk.page.text_area[0].set_value("a hat")
        if widget == "buttons":
            walk.press("Left is better" if question.kind == "graded" else "Right")
        else:
            walk.press("Send the answer")
    with read(database) as session:
        answers = {question: choice for question, choice in session.execute(select(Answer.question, Answer.choice))}
    assert answers == {
        "q_choice": "right", "q_graded": "left_2", "q_slider": "equal", "q_rating": "left:1 right:1",
        "q_yes_no": "left:yes right:yes", "q_comment": "written",
    }  # fmt: skip


def test_further_questions_count_as_work_and_refuse_a_stray_key(database: Database, tmp_path: Path) -> None:
    present = StudyQuestion(name="present", text="Is {concept} there?", kind="yes_no", per_concept=True)
    study = begin(database, tmp_path / "run", Design(questions=(present,)))
    service, who = StudyService(database, study.run), study.join()
    totals, pages = [], 0
    while (trial := service.trial(who)) is not None and pages < 6:
        totals.append((trial.done, trial.total, trial.question))
        service.answer(who, trial, "left" if trial.question == "overall" else "left:no right:yes", Timing())
        pages += 1
    assert [done for done, _, _ in totals] == list(range(6))
    assert {total for _, total, _ in totals} == {18}
    assert [name for _, _, name in totals] == ["overall", "present 0", "present 1"] * 2
    trial = service.trial(who)
    service.answer(who, trial, "left", Timing())
    trial = service.trial(who)
    with pytest.raises(UserError, match=r"present 0.: the answer needs yes or no for every image"):
        service.answer(who, trial, "left:maybe", Timing())


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ({"name": "overall", "text": "?"}, "is taken by evalkit"),
        ({"name": "a", "text": "?", "kind": "rating", "least": 5, "most": 1}, "not larger than least"),
        ({"name": "a", "text": "?", "kind": "rating", "most": 5.5}, "does not lead from least to most"),
        ({"name": "a", "text": "?", "kind": "graded", "options": ["x"]}, "has 7 labels or none"),
        ({"name": "a", "text": "?", "kind": "graded", "both_bad": True}, "is for questions of kind choice"),
        ({"name": "a", "text": "?", "per_concept": True}, "needs {concept}"),
        ({"name": "a", "text": "?", "kind": "ranking"}, "is for 3 to 8 images at once"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(question: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Design.model_validate({"questions": [question]})


def test_a_concept_without_references_shows_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", arms=("plain", "fancy"), concepts=2, scores=False, references=0)
    printed = call("init", tmp_path / "run")
    assert "warning: without references, participants see only the words of" in printed
    service = StudyService(open_database(default_url(tmp_path / "run")), tmp_path / "run")
    walk = Walk(service, monkeypatch)
    walk.token = service.join()
    who = service.visitor(walk.token).id
    for step in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(who, step)
    walk.open()
    for concept in service.trial(who).concepts:
        assert f'<div class="word">{concept.word}</div>' in walk.text
