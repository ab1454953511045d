"""What people are told and paid by outcome: declined, paused in the middle, taken back by itself, bonus; and held places."""

from pathlib import Path

from sqlalchemy import select

from db.models import Identity, Reply
from db.session import Database, default_url, open_database, read, write
from db.utc import utc_now
from study_app.conduct.actions import lock, pause
from study_app.conduct.people import people_of
from study_app.plan.design import Bonus, Design, Entry
from study_app.plan.questionnaire import Question
from study_app.plan.study_questions import StudyQuestion
from study_app.service.openness import FEWEST_NEWCOMERS, Openness
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.runs import make_run
from tests.study_app.conftest import begin
from tests.study_app.test_command import call
from tests.study_app.test_pages import Walk


def serve(database: Database, run: Path, **design: object) -> StudyService:
    return StudyService(database, begin(database, run, Design(**design), concepts=4).run)


def ready(service: StudyService) -> tuple[str, int]:
    token = service.join()
    who = service.visitor(token).id
    for step in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(who, step)
    return token, who


def test_visitors_without_a_judgment_cannot_hold_a_whole_study(database: Database, tmp_path: Path) -> None:
    service = serve(database, tmp_path / "run", per_comparison=10, newcomer_share=0.1)
    _, honest = ready(service)
    service.answer(honest, service.trial(honest), "left", Timing())
    visitors = [ready(service)[1] for _ in range(FEWEST_NEWCOMERS + 3)]
    served = [service.turn(who) for who in visitors]
    assert sum(turn.trial is not None for turn in served) == FEWEST_NEWCOMERS
    assert all(turn.is_waiting for turn in served if turn.trial is None)
    assert service.openness() is Openness.WAITING
    assert service.trial(honest) is not None
    # who judges makes room for the next one
    first = next(who for who, turn in zip(visitors, served, strict=True) if turn.trial is not None)
    service.answer(first, service.trial(first), "left", Timing())
    assert service.openness() is Openness.OPEN
    assert service.trial(visitors[-1]) is not None


def test_who_declines_gets_that_code_and_may_still_agree(database: Database, tmp_path: Path, monkeypatch) -> None:
    service = serve(database, tmp_path / "run", entry=Entry(codes={"no_consent": "NOCONSENT"}))
    walk = Walk(service, monkeypatch)
    walk.token = service.join()
    walk.open()
    walk.press("I do not agree")
    assert "NOCONSENT" in walk.text
    assert not walk.page.button
    walk.open()
    walk.press("I agree to take part")
    assert service.visitor(walk.token).progress.consented


def test_people_in_the_middle_get_a_code_at_pause_and_lock(database: Database, tmp_path: Path, monkeypatch) -> None:
    service = serve(database, tmp_path / "run", entry=Entry(codes={"partly": "PARTLY"}))
    token, who = ready(service)
    idle, nothing = ready(service)
    service.answer(who, service.trial(who), "left", Timing())
    walk = Walk(service, monkeypatch)
    for action in (pause, lock):
        with write(database) as session:
            action(session, service.study_id, utc_now())
        for walk.token, is_paid in ((token, True), (idle, False)):
            walk.open()
            assert ("PARTLY" in walk.text) is is_paid
    with write(database) as session:
        codes = {person.participant: person.code for person in people_of(session, service.study_id)}
        session.rollback()
    assert codes == {who: "PARTLY", nothing: None}


def test_the_last_page_announces_the_way_back_and_links_it(database: Database, tmp_path: Path, monkeypatch) -> None:
    entry = Entry(completion_url="https://recruiter.example/?cc={code}", redirect_seconds=7)
    service = serve(database, tmp_path / "run", per_participant=1, entry=entry)
    walk = Walk(service, monkeypatch)
    walk.token, who = ready(service)
    service.answer(who, service.trial(who), "left", Timing())
    walk.open()
    assert "in 7 seconds" in walk.text
    assert 'href="/done"' in walk.text


def test_a_bonus_list_holds_who_met_the_rule(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, arms=("plain", "fancy"), scores=False)
    (run / "study.toml").write_text("[entry]\nbonus = {amount = 1.5, judged = 2}\n")
    call("init", run)
    database = open_database(default_url(run))
    service = StudyService(database, run)
    people = [ready(service)[1] for _ in range(2)]
    with write(database) as session:
        for who in people:
            session.add(
                Identity(
                    participant_id=who, study_id=service.study_id, source="prolific", external_id=f"p{who}", session_id=None
                )
            )
    for who, count in zip(people, (2, 1), strict=True):
        for _ in range(count):
            service.answer(who, service.trial(who), "left", Timing())
    assert service.design.entry.bonus == Bonus(amount=1.5, judged=2)
    assert "1 bonus; delete the file" in call("people", run, "--bonus", tmp_path / "bonus.csv")
    assert (tmp_path / "bonus.csv").read_text() == f"p{people[0]},1.50\n"
    assert (tmp_path / "bonus.csv").stat().st_mode & 0o077 == 0


def test_a_half_filled_questionnaire_survives_a_reload(database: Database, tmp_path: Path, monkeypatch) -> None:
    question = Question(name="eyes", text="Can you see?", options=("yes", "no"))
    service = serve(database, tmp_path / "run", per_participant=1, questionnaire=(question,))
    walk = Walk(service, monkeypatch)
    walk.token, who = ready(service)
    service.answer(who, service.trial(who), "left", Timing())
    walk.open()
    walk.page.radio[0].set_value(1)
    walk.page.run()
    walk.open()
    assert walk.page.radio[0].value == 1
    walk.press(service.sentences.questionnaire.send)
    with read(database) as session:
        assert session.scalars(select(Reply.reply)).all() == ["no"]


def test_a_stale_answer_shows_the_present_page(database: Database, tmp_path: Path, monkeypatch) -> None:
    further = StudyQuestion(name="quality_2", text="Which is sharper?")
    service = serve(database, tmp_path / "run", questions=(further,))
    walk = Walk(service, monkeypatch)
    walk.token, who = ready(service)
    walk.open()
    first = service.trial(who)
    walk.press("Left")
    assert "Which is sharper?" in walk.text
    # another tab takes the answer back, and this one answers the question that is gone
    assert service.undo(who, first.owner)
    walk.press("Left")
    assert service.sentences.questions.pair.two in walk.text
    assert "Which is sharper?" not in walk.text
