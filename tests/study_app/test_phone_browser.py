"""A phone upright and on its side in a browser: what is shown fits, and nothing that cannot be seen is answered."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import func, select

from db.models import Judgment
from db.session import default_url, open_database, read
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.service.drafts import MOST_DRAFTS, Drafts
from study_app.service.study import StudyService
from tests.runs import make_run
from tests.served import Server

pytestmark = pytest.mark.browser
AT_REST = ".stApp[data-test-script-state='notRunning']"
BOXES = """() => [...document.querySelectorAll(".study-pair .view, .st-key-answers")].map((element) => {
  const { top, bottom, width } = element.getBoundingClientRect();
  return [top, bottom, width];
})"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, StudyService]]:
    run = tmp_path_factory.mktemp("phone") / "run"
    make_run(run, arms=("plain", "fancy"), concepts=3, scores=False)
    database = open_database(default_url(run))
    begin_study(database, run, Design(cannot_tell=True))
    server = Server(run)
    server.start()
    yield server, StudyService(database, run)
    server.kill()


def open_comparison(browser: Browser, served: tuple[Server, StudyService], width: int, height: int) -> Page:
    server, service = served
    token = service.join()
    who = service.visitor(token).id
    for step in ("consented_at", "instructed_at", "practiced_at"):
        service.finish_step(who, step)
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    context.add_cookies([{"name": service.blinding.cookie_name(), "value": token, "url": server.url}])
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector(".study-pair img")
    page.wait_for_selector(AT_REST)
    page.wait_for_timeout(500)
    return page


def test_a_phone_shows_both_images_whole_above_the_answers(browser: Browser, served) -> None:
    upright = open_comparison(browser, served, 390, 844)
    first, second, bar = upright.evaluate(BOXES)
    assert first[1] <= second[0] < second[1] <= bar[0], "one above the other, both above the buttons"
    assert first[2] > 240
    label = "getComputedStyle(document.querySelector('[class*=st-key-left-] button p'), '::after').content"
    assert upright.evaluate(label) == '"Upper"'
    aside = open_comparison(browser, served, 844, 390)
    first, second, bar = aside.evaluate(BOXES)
    assert first[0] == second[0] < first[1] <= bar[0] < bar[1] <= 390, "side by side, no button cut"


def test_what_cannot_be_seen_is_not_answered(browser: Browser, served) -> None:
    page = open_comparison(browser, served, 390, 844)
    service = served[1]

    def judged() -> int:
        with read(service.database) as session:
            return session.scalar(select(func.count(Judgment.id))) or 0

    before = judged()
    page.evaluate("document.querySelector('.study-pair').style.marginTop = '3000px'")
    page.keyboard.press("1")
    page.wait_for_selector("text=Please look at all images first")
    assert judged() == before
    page.evaluate("document.querySelector('.study-pair').style.marginTop = ''")
    page.keyboard.press("1")
    page.wait_for_function("!document.querySelector('.study-unseen')")
    page.wait_for_selector(AT_REST)
    assert judged() == before + 1


def test_the_drafts_of_the_latest_participants_are_kept() -> None:
    drafts = Drafts()
    drafts.keep(1, {"reply-a": 2})
    drafts.keep(1, {"reply-b": "x"})
    assert drafts.of(1) == {"reply-a": 2, "reply-b": "x"}
    for who in range(2, MOST_DRAFTS + 2):
        drafts.keep(who, {"reply-a": 0})
    assert drafts.of(1) == {}
