"""Four images at once in a real browser: keyboard alone from welcome to thanks, a phone, honest times, and nothing leaks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from db.models import Judgment, Participant, Reply, Screen
from db.session import open_database, read
from study_app.plan.color_plates import plate_number
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.plan.questionnaire import Question
from study_app.plan.screen_check import ScreenRule, plates_of
from tests.accessibility import hold_to_axe
from tests.runs import make_run
from tests.served import PATIENCE, Server
from tests.study_app.test_browser import ARMS, SEEDS, Wire, nothing_leaks

pytestmark = pytest.mark.browser

DESIGN = Design(
    at_once=4,
    answer="ranking",
    per_comparison=2,
    screen=ScreenRule(least_width=350, colour=True),
    questionnaire=(Question(name="remarks", text="Anything else?", kind="text", required=True),),
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_run(tmp_path / "run", arms=(*ARMS, f"{ARMS[0]}b", f"{ARMS[1]}b"), concepts=3, seeds=SEEDS[:2], scores=False)
    database = open_database(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    begin_study(database, tmp_path / "run", DESIGN)
    database.close()
    served = Server(tmp_path / "run")
    served.start()
    yield served
    served.kill()


def stored(server: Server, query):
    """Return what a query finds in the served study's database."""
    database = open_database(f"sqlite:///{server.run / 'study.db'}")
    with read(database) as session:
        found = session.scalars(query).all()
    database.close()
    return found


def tab_to(page: Page, css: str) -> None:
    """Press Tab until an element has the focus."""
    page.locator(css).first.wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("css => document.activeElement?.matches(css) ?? false", css):
            return
    raise AssertionError(f"Tab does not reach {css}")


def whole(page: Page, key: str | None = None) -> str:
    """Wait until another page of images than `key` is there with its script, and return its key."""
    page.wait_for_function(
        "key => { const pair = document.querySelector('.study-pair'); return pair && pair.dataset.page !== key"
        " && pair.querySelector('.place').dataset.rank !== undefined"
        " && [...document.images].every(image => image.complete && image.naturalWidth > 0) }",
        arg=key,
        timeout=PATIENCE,
    )
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE)
    # the script counts from when the images are painted: no key before that, or there is no time to tell
    page.evaluate(
        "async () => { await Promise.all([...document.images].map(image => image.decode()));"
        " for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame) }"
    )
    return str(page.locator(".study-pair").get_attribute("data-page"))


def answer_plates(server: Server, page: Page, language: str) -> None:
    """Type the numbers of both plates by keyboard and go on."""
    people = stored(server, select(Participant).where(Participant.language == language))
    numbers = [plate_number(seed) for seed in plates_of(people[-1], 0)]
    page.locator(".study-plate").nth(1).wait_for()
    for number in numbers:
        tab_to(page, ".st-key-plates input")
        page.keyboard.type(number)
    # the page learns what was typed when the field is left
    tab_to(page, ".st-key-onward button")
    page.wait_for_timeout(1000)
    page.keyboard.press("Enter")


def test_by_keyboard_alone_from_welcome_to_thanks(browser: Browser, server: Server) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wire = Wire(context, page)
    page.goto(server.url)
    tab_to(page, "a.begin")
    page.keyboard.press("Enter")
    tab_to(page, ".st-key-onward-consent button")
    page.keyboard.press("Enter")
    answer_plates(server, page, "en")
    tab_to(page, ".st-key-onward-instructions button")
    page.keyboard.press("Enter")
    key = whole(page)
    for _ in range(2):
        page.keyboard.type("213")
        page.keyboard.press("Enter")
        key = whole(page, key)
    # what practice said lies over the page and moves nothing
    expect(page.locator(".study-said")).to_be_visible()
    before = page.locator(".study-pair").bounding_box()
    page.reload()
    assert whole(page) == key
    assert page.locator(".study-said").count() == 0
    assert page.locator(".study-pair").bounding_box() == before
    hold_to_axe(page)
    for judged in range(6):
        # faster than any person, and out of sight for a moment
        page.keyboard.type("241")
        if judged == 0:
            # with a whole order and its button to confirm, in the dark
            expect(page.locator(".st-key-confirm button")).to_be_enabled(timeout=PATIENCE)
            hold_to_axe(page)
            page.keyboard.press("4")
            page.keyboard.press("3")
            page.evaluate("window.dispatchEvent(new Event('blur'))")
            page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.wait_for_timeout(300)
            page.evaluate("delete document.hidden")
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.keyboard.press("4")
        page.keyboard.press("Enter")
        if judged < 5:
            key = whole(page, key)
    tab_to(page, ".st-key-questions textarea")
    page.keyboard.type("<b>no</b>")
    tab_to(page, ".st-key-onward-questionnaire button")
    page.wait_for_timeout(1000)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Thank you!")).to_be_visible(timeout=PATIENCE)

    judgments = stored(server, select(Judgment).order_by(Judgment.id))
    assert [judgment.choice for judgment in judgments] == ["2 3 4 1", *["2 4 1 3"] * 5]
    first, *others = judgments
    assert first.focus_losses >= 1
    assert 250 <= first.hidden_ms <= first.reaction_ms
    assert all(judgment.reaction_ms is not None and judgment.loaded_ms >= 0 for judgment in judgments)
    assert all(judgment.focus_losses == 0 for judgment in others)
    assert [reply.reply for reply in stored(server, select(Reply))] == ["<b>no</b>"]
    (screen,) = stored(server, select(Screen))
    assert (screen.width, screen.height, screen.plates_read, screen.failure) == (1280, 800, 2, None)
    nothing_leaks(server, wire)


def test_on_a_phone_in_german_by_taps(browser: Browser, server: Server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{server.url}?lang=de")
    page.get_by_role("link", name="Beginnen").tap()
    page.get_by_role("button", name="Ich möchte teilnehmen").tap()
    answer_plates(server, page, "de")
    page.locator(".st-key-onward-instructions button").tap()
    key = whole(page)
    for _ in range(3):
        confirm = page.get_by_role("button", name="Reihenfolge bestätigen")
        expect(confirm).to_be_hidden()
        for number in (3, 1, 4):
            page.get_by_role("button", name=f"Bild {number}").tap()
            if number == 1:
                hold_to_axe(page)
        expect(page.get_by_text("Bild 3: bestes · Bild 1: 2. · Bild 4: 3. · Bild 2: 4.")).to_be_attached(timeout=PATIENCE)
        # two beside each other, nothing sideways, and the button to confirm in view without scrolling
        boxes = [image.bounding_box() for image in page.locator(".study-pair img").all()]
        assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        expect(confirm).to_be_in_viewport()
        confirm.tap()
        key = whole(page, key)
    assert [judgment.choice for judgment in stored(server, select(Judgment))] == ["3 1 4 2"]
    # the answer tapped last leaves no mark on the next page
    colours = page.locator(".st-key-answers button").evaluate_all("all => all.map(b => getComputedStyle(b).borderColor)")
    assert len(set(colours)) == 1
