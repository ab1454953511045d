"""Around the comparisons: the check of the screen with its colour plates, the questionnaire, and the erasure of both."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from pydantic import ValidationError
from sqlalchemy import select

from db.models import Event, Participant, Reply, Screen
from db.session import read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct.actions import erase
from study_app.conduct.export import export_study
from study_app.plan.color_plates import POOL, draw_plate, plate_number
from study_app.plan.design import Design
from study_app.plan.flow import Step, next_step
from study_app.plan.questionnaire import Question, Translation
from study_app.plan.screen_check import ScreenRule, ScreenSize
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from tests.study_app.conftest import begin
from tests.study_app.test_pages import Walk

QUESTIONS = (
    Question(
        name="experience",
        text="How often do you look at generated images?",
        options=("never", "sometimes", "often"),
        required=True,
        translations={"de": Translation(text="Wie oft sehen Sie erzeugte Bilder?", options=("nie", "manchmal", "oft"))},
    ),
    Question(name="age", text="Your age?", kind="number", least=18, most=120),
    Question(name="remarks", text="Anything *else*?", kind="text"),
)
# what a deuteranope sees of linear red, green and blue (Machado, Oliveira and Fernandes 2009, severity 1)
DEUTERANOPE = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])


def service_of(database, tmp_path: Path, **design: object) -> StudyService:
    study = begin(database, tmp_path / "run", Design(per_comparison=1, **design), concepts=2)
    return StudyService(database, study.run)


def step(service: StudyService, token: str) -> Step:
    return next_step(service.visitor(token).progress)


def read_rightly(service: StudyService, who: int) -> list[str]:
    return [plate_number(seed) for seed in service.plates(who)]


@pytest.mark.parametrize("seed", ["0", "7", "23"])
def test_a_plate_differs_in_hue_and_not_in_brightness(seed: str) -> None:
    plate = PILImage.open(io.BytesIO(draw_plate(seed))).convert("RGB")
    dots = np.asarray(plate, np.float64).reshape(-1, 3)
    dots = dots[dots.max(axis=1) < 235]
    red = dots[:, 0] > dots[:, 1]
    assert 0.1 < red.mean() < 0.6
    brightness = dots @ [0.299, 0.587, 0.114]
    # brighter and darker dots are in both
    assert abs(brightness[red].mean() - brightness[~red].mean()) < 0.5 * brightness.std()
    linear = (dots / 255) ** 2.2
    seen = linear @ DEUTERANOPE.T
    hue, dull = (
        np.linalg.norm(colours[red].mean(0) - colours[~red].mean(0)) / colours.std(axis=0).mean() for colours in (linear, seen)
    )
    assert dull < 0.7 * hue
    assert len({plate_number(str(number)) for number in range(POOL)}) > POOL / 2


def test_a_page_too_small_can_be_made_larger(database, tmp_path: Path) -> None:
    service = service_of(database, tmp_path, screen=ScreenRule(least_width=800))
    token = service.join()
    who = service.visitor(token).id
    service.finish_step(who, "consented_at")
    assert step(service, token) is Step.SCREEN
    assert service.check_screen(who, ScreenSize(640, 900, 2.0), []) == "size"
    assert step(service, token) is Step.SCREEN
    assert service.check_screen(who, ScreenSize(1280, 900, 1.0), []) is None
    assert step(service, token) is Step.INSTRUCTIONS
    with read(database) as session:
        screen = session.get_one(Screen, who)
        assert (screen.width, screen.height, screen.pixel_ratio, screen.failure) == (1280, 900, 1.0, None)
        assert [kind for kind in session.scalars(select(Event.kind)) if kind == "screened"] == ["screened"] * 2


def test_plates_can_be_read_twice_and_never_the_same_ones(database, tmp_path: Path) -> None:
    service = service_of(database, tmp_path, screen=ScreenRule(colour=True))
    token = service.join()
    who = service.visitor(token).id
    service.finish_step(who, "consented_at")
    first = service.plates(who)
    assert service.check_screen(who, ScreenSize(), ["11", "11"]) == "colour"
    assert not set(first) & set(service.plates(who))
    assert step(service, token) is Step.SCREEN
    assert service.check_screen(who, ScreenSize(), read_rightly(service, who)) is None
    assert step(service, token) is Step.INSTRUCTIONS


@pytest.mark.parametrize(("rule", "then"), [("refuse", Step.REFUSED), ("warn", Step.INSTRUCTIONS)])
def test_who_reads_no_plate_is_refused_or_let_in_as_the_design_says(database, tmp_path: Path, rule: str, then: Step) -> None:
    service = service_of(database, tmp_path, screen=ScreenRule(colour=True, on_failure=rule))
    token = service.join()
    who = service.visitor(token).id
    service.finish_step(who, "consented_at")
    assert service.check_screen(who, ScreenSize(), ["", ""]) == "colour"
    if rule == "refuse":
        service.check_screen(who, ScreenSize(), ["11", "11"])
    assert step(service, token) is then
    # nothing changes any more
    assert service.check_screen(who, ScreenSize(), read_rightly(service, who)) == "colour"
    assert step(service, token) is then
    with read(database) as session:
        assert session.get_one(Screen, who).failure == "colour"


def test_what_a_browser_claims_is_held_to_what_can_be() -> None:
    assert ScreenSize.told({"width": 800.4, "height": -3, "pixel_ratio": 1.5}) == ScreenSize(800, None, 1.5)
    for claim in (None, "wide", {"width": True, "height": float("nan"), "pixel_ratio": "2"}):
        assert ScreenSize.told(claim) == ScreenSize()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "q", "text": "?", "options": ["one"]}, "a choice needs two"),
        ({"name": "q", "text": "?", "kind": "text", "options": ["a", "b"]}, "other kinds none"),
        ({"name": "q", "text": "?", "kind": "text", "least": 1}, "are for numbers"),
        ({"name": "q", "text": "?", "options": ["a", "b"], "translations": {"de": {"text": "?"}}}, "needs 2 options"),
    ],
)
def test_a_question_that_cannot_be_is_refused(wrong, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Question.model_validate(wrong)
    with pytest.raises(ValidationError, match="has a name twice"):
        Design(questionnaire=(QUESTIONS[0], QUESTIONS[0]))


@pytest.fixture
def asked(database, tmp_path: Path):
    """Return a service whose only comparison pair is judged, with its participant: the questionnaire is next."""
    service = service_of(database, tmp_path, questionnaire=QUESTIONS)
    token = service.join()
    who = service.visitor(token).id
    for name in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(who, name)
    while (trial := service.trial(who)) is not None:
        service.answer(who, trial, "left", Timing())
    assert step(service, token) is Step.QUESTIONNAIRE
    return service, token, who


def test_replies_are_stored_once_exported_and_erased(asked, database, tmp_path: Path) -> None:
    service, token, who = asked
    assert service.reply(who, {"experience": "", "age": "17"}) == ["experience", "age"]
    assert service.reply(who, {"experience": "daily", "age": "nan", "remarks": "x" * 2001}) == ["experience", "age", "remarks"]
    with pytest.raises(UserError, match="question 'shoe': is not in this study's questionnaire"):
        service.reply(who, {"shoe": "43"})
    assert service.reply(who, {"experience": "often", "age": "41", "remarks": " =1+1 "}) == []
    assert service.reply(who, {"experience": "never"}) == []
    assert step(service, token) is Step.THANKS

    def exported() -> list[dict[str, str]]:
        export_study(database, tmp_path / "run", tmp_path / "export.zip")
        with zipfile.ZipFile(tmp_path / "export.zip") as bundle:
            return list(csv.DictReader(io.StringIO(bundle.read("replies.csv").decode())))

    assert [(row["question"], row["reply"]) for row in exported()] == [
        ("age", "41"), ("experience", "often"), ("remarks", "'=1+1"),
    ]  # fmt: skip
    with write(database) as session:
        erase(session, service.study_id, who, utc_now())
    assert exported() == []
    with read(database) as session:
        assert session.scalars(select(Reply)).all() == []
        # the log commits to the replies without their content
        (content,) = [event.content for event in session.scalars(select(Event).where(Event.kind == "replied"))]
    assert content["participant"] == who
    assert all(len(sha256) == 64 for sha256 in content["commitments"].values())


def test_the_questionnaire_on_its_page_in_german(asked, monkeypatch: pytest.MonkeyPatch, database) -> None:
    service, token, who = asked
    with write(database) as session:
        session.get_one(Participant, who).language = "de"
    walk = Walk(service, monkeypatch)
    walk.token = token
    walk.open()
    words = "Noch ein paar Fragen"
    assert words in walk.text
    assert walk.page.radio[0].options == ["nie", "manchmal", "oft"]
    walk.press("Abschließen")
    assert "markierten Fragen" in walk.text
    walk.page.radio[0].set_value(1)
    walk.page.text_area[0].set_value("<script>alert(1)</script>")
    walk.press("Abschließen")
    assert "Vielen Dank!" in walk.text
    with read(database) as session:
        replies = {question: reply for question, reply in session.execute(select(Reply.question, Reply.reply))}
    assert replies == {"experience": "sometimes", "remarks": "<script>alert(1)</script>"}


def test_the_screen_check_on_its_page(database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_of(database, tmp_path, screen=ScreenRule(colour=True))
    walk = Walk(service, monkeypatch)
    walk.token = service.join()
    who = service.visitor(walk.token).id
    service.finish_step(who, "consented_at")
    walk.open()
    words = service.sentences.screen
    assert words.plates in walk.text
    # nothing on the page tells the numbers
    assert not [number for number in read_rightly(service, who) if f">{number}<" in walk.text or f'"{number}"' in walk.text]
    walk.press(words.check)
    assert words.not_read in walk.text
    for field, number in zip(walk.page.text_input, read_rightly(service, who), strict=True):
        field.set_value(number)
    walk.press(words.check)
    assert service.sentences.instructions.heading in walk.text


def test_who_judged_nothing_is_asked_nothing(database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_of(database, tmp_path, questionnaire=QUESTIONS)
    simulate(database, service.study_id, 1, Behaviour(), 0)
    walk = Walk(service, monkeypatch)
    walk.token = service.join()
    for name in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(service.visitor(walk.token).id, name)
    walk.open()
    assert service.sentences.thanks.none in walk.text
