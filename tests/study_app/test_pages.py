"""The pages, walked from consent to thanks without a browser."""

from multiprocessing import get_context
from pathlib import Path
from string import Formatter

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from db.models import Judgment, Participant, Withdrawal
from db.session import Database, read
from evalkit.run.file_record import Record
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.plan.texts import FOLDER, FurtherQuestions, languages, load_sentences
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.web import current_study as running
from study_app.web import pages
from study_app.web.comparison_page import read_answer
from study_app.web.server import ENTRY
from tests.runs import make_run

ARMS = ("zzmarkerone", "zzmarkertwo")
SEED = 7391846
PAIR = ("left", "right")


class Walk:
    """A visitor with a cookie, on the pages of a study."""

    def __init__(self, service: StudyService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = service
        self.token: str | None = None
        self.seen: list[str] = []
        running.use(service)
        monkeypatch.setattr(pages, "visitor_token", lambda _: self.token)
        self.open()

    def open(self) -> None:
        self.page = AppTest.from_file(str(ENTRY), default_timeout=120).run()
        self.look()

    def look(self) -> None:
        assert not self.page.exception
        self.seen += [str(element.proto) for element in self.page.main]

    def press(self, label: str) -> None:
        next(button for button in self.page.button if button.label == label).click()
        self.page.run()
        self.look()

    @property
    def text(self) -> str:
        return " ".join(element.proto.body for element in self.page.get("html"))


@pytest.fixture
def walk(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    make_run(tmp_path / "run", arms=ARMS, concepts=2, seeds=(SEED, SEED + 1), scores=False)
    begin_study(database, tmp_path / "run", Design(cannot_tell=True))
    return Walk(StudyService(database, tmp_path / "run"), monkeypatch)


def test_from_welcome_to_thanks(walk: Walk) -> None:
    words = walk.service.sentences
    assert 'href="/join?lang=en"' in walk.text
    assert not walk.page.button
    walk.token = walk.service.join()
    walk.open()
    assert words.consent.heading in walk.text
    walk.press(words.consent.agree)
    assert words.instructions.cannot_tell in walk.text
    walk.press(words.instructions.next)
    for _ in range(2):
        assert words.practice.badge in walk.text
        walk.press("Left")
    assert "0 of 2 done" in walk.text
    assert "Which image better represents both concepts?" in walk.text
    walk.press("Cannot tell")
    assert "1 of 2 done" in walk.text
    # a reload, which is a new session, shows the same page
    before = walk.text
    walk.open()
    assert walk.text == before
    walk.press("Right")
    assert words.thanks.heading in walk.text
    with read(walk.service.database) as session:
        assert session.scalars(select(Judgment.choice).order_by(Judgment.id)).all() == ["cannot_tell", "right"]
        participant = session.scalars(select(Participant)).one()
    assert participant.completion_code in walk.text
    assert participant.finished_at is not None
    everything = " ".join(walk.seen)
    manifest_words = [*ARMS, str(SEED), str(SEED + 1), "star-ring", "images/", str(ENTRY.parent)]
    assert not [word for word in manifest_words if word in everything]


def test_a_second_click_on_a_page_that_is_gone_changes_nothing(walk: Walk) -> None:
    walk.token = walk.service.join()
    visitor = walk.service.visitor(walk.token)
    for step in ("consented_at", "instructed_at", "practiced_at"):
        walk.service.finish_step(visitor.id, step)
    walk.open()
    stale = AppTest.from_file(str(ENTRY), default_timeout=120).run()
    walk.press("Left")
    next(button for button in stale.button if button.label == "Right").click().run()
    with read(walk.service.database) as session:
        assert session.scalars(select(Judgment.choice)).all() == ["left"]


def test_a_cookie_of_nobody_gets_the_welcome_page(walk: Walk) -> None:
    walk.token = "forged"
    walk.open()
    assert 'href="/join?lang=en"' in walk.text


def test_text_of_the_run_is_shown_as_text(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_run(tmp_path / "run", concepts=2, seeds=1, scores=False)
    evil = tuple(concept.model_copy(update={"class_word": "<script>alert(1)</script>"}) for concept in manifest.concepts)
    manifest.model_copy(update={"concepts": evil}).save(tmp_path / "run")
    begin_study(database, tmp_path / "run", Design())
    service = StudyService(database, tmp_path / "run")
    walk = Walk(service, monkeypatch)
    walk.token = service.join()
    for step in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(service.visitor(walk.token).id, step)
    walk.open()
    assert "&lt;script&gt;" in walk.text
    assert "<script>" not in walk.text


def test_a_database_that_fails_is_told_and_nothing_is_lost(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    from db.session import DatabaseError

    walk.token = walk.service.join()
    visitor = walk.service.visitor(walk.token)
    for step in ("consented_at", "instructed_at", "practiced_at"):
        walk.service.finish_step(visitor.id, step)
    walk.open()

    def full(*_: object) -> None:
        raise DatabaseError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(walk.service, "answer_and_turn", full)
        walk.press("Left")
    assert [error.value for error in walk.page.error] == [walk.service.sentences.trouble.storage]
    assert "0 of 2 done" in walk.text
    walk.press("Left")
    assert "1 of 2 done" in walk.text


def sentences(record: Record, place: str = "") -> dict[str, str]:
    """Return every sentence with the names of its gaps, by its place."""
    found = {}
    for name, value in record:
        for number, part in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(part, Record):
                found |= sentences(part, f"{place}{name}.")
            else:
                found[f"{place}{name}[{number}]"] = part
    return found


def gaps(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def test_every_language_has_every_sentence() -> None:
    assert {"en", "de"} <= set(languages())
    english = sentences(load_sentences("en"))
    for language in languages():
        other = sentences(load_sentences(language))
        assert other.keys() == english.keys()
        assert {place: gaps(text) for place, text in other.items()} == {place: gaps(text) for place, text in english.items()}
        assert all(text.strip() for text in other.values())
        if language != "en":
            assert not [place for place in english if len(english[place]) > 20 and other[place] == english[place]]
    assert all(file.suffix == ".toml" for file in FOLDER.iterdir())


@pytest.mark.parametrize("language", languages())
def test_every_further_question_has_a_sentence_of_its_own(language: str) -> None:
    for _, asked in load_sentences(language).questions:
        wordings = [text for _, text in asked]
        assert len(set(wordings)) == len(wordings)
        assert all(asked.further(name) in wordings for name in FurtherQuestions.model_fields)


def ready(walk: Walk) -> None:
    for step in ("consented_at", "instructed_at", "practiced_at"):
        walk.service.finish_step(walk.service.visitor(walk.token).id, step)
    walk.open()


def test_who_came_in_german_reads_german(walk: Walk) -> None:
    walk.token = walk.service.join(language="de")
    walk.open()
    german = load_sentences("de")
    walk.press(german.consent.agree)
    walk.press(german.instructions.next)
    walk.press(german.trial.left)
    assert german.practice.right in walk.text or german.practice.wrong in walk.text
    assert german.questions.pair.one in walk.text


def test_a_last_answer_can_be_taken_back_and_given_anew(walk: Walk) -> None:
    words = walk.service.sentences
    walk.token = walk.service.join()
    ready(walk)
    assert words.trial.undo not in [button.label for button in walk.page.button]
    walk.press("Left")
    walk.press(words.trial.undo)
    assert "0 of 2 done" in walk.text
    walk.press("Right")
    with read(walk.service.database) as session:
        assert session.scalars(select(Judgment.choice)).all() == ["right"]
        assert session.scalars(select(Withdrawal.choice)).all() == ["left"]


@pytest.mark.parametrize(
    "told", [None, "left", {}, {"choice": "both"}, {"choice": ["left"]}, [{"choice": "left"}], {"choice": "1"}]
)
def test_the_script_can_send_nothing_but_an_answer(told: object) -> None:
    assert read_answer(told, PAIR) is None


def test_what_the_script_sends_is_an_answer_with_its_times() -> None:
    choice, timing = read_answer({"choice": "right", "reaction_ms": 812, "loaded_ms": 90, "focus_losses": 1}, PAIR)
    assert (choice, timing) == ("right", Timing(reaction_ms=812, loaded_ms=90, focus_losses=1))


def test_a_process_started_while_a_page_is_shown_shows_none_itself(walk: Walk) -> None:
    assert walk.page.main
    started = get_context("spawn").Process(target=print)
    started.start()
    started.join()
    assert started.exitcode == 0
