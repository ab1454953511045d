"""Three people at once in a real browser: by keyboard alone in German, on a phone, and by mouse; axe finds nothing serious."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import select

from db.models import Comparison, Participant
from db.session import open_database, read
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.plan.texts import Sentences, load_sentences
from tests.accessibility import hold_to_axe
from tests.runs import make_run
from tests.served import PATIENCE, Server

pytestmark = pytest.mark.browser
COMPARISONS = 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_run(tmp_path / "run", arms=("plain", "fancy"), concepts=2, seeds=COMPARISONS, scores=False)
    database = open_database(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    begin_study(database, tmp_path / "run", Design(per_comparison=3))
    database.close()
    served = Server(tmp_path / "run")
    served.start()
    yield served
    served.kill()


class Person:
    """Someone in a browser of their own; `press` is how they press a link or button with a name."""

    def __init__(self, context: BrowserContext, url: str, words: Sentences, press: Callable[[Page, str], None]) -> None:
        self.page, self.words, self._press = context.new_page(), words, press
        self.page.set_default_timeout(PATIENCE)
        self.page.goto(url)

    def press(self, name: str) -> None:
        self._press(self.page, name)

    def sees(self, text: str) -> None:
        """Wait until the page is whole and says this, and hold it to axe's rules."""
        expect(self.page.get_by_text(text).first).to_be_visible(timeout=PATIENCE)
        whole = self.page.get_by_test_id("stApp")
        expect(whole).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE)
        hold_to_axe(self.page)


def by_keyboard(page: Page, name: str) -> None:
    """Go from one thing that takes the focus to the next until it is the one of this name, and press Enter."""
    expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText || ''").strip().splitlines()[:1] == [name]:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"no Tab leads to {name!r}")


def by_touch(page: Page, name: str) -> None:
    # on a phone an answer's own text is drawn as Upper or Lower: its button is what a finger meets
    text = page.get_by_text(name, exact=True).first
    text.locator("xpath=ancestor-or-self::*[self::button or self::a][1]").tap()


def by_mouse(page: Page, name: str) -> None:
    page.get_by_text(name, exact=True).first.click()


def test_three_people_at_once_go_the_whole_way(browser: Browser, server: Server) -> None:
    english, german = load_sentences("en"), load_sentences("de")
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    dark = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    people = [
        Person(browser.new_context(), f"{server.url}?lang=de", german, by_keyboard),
        Person(phone, server.url, english, by_touch),
        Person(dark, server.url, english, by_mouse),
    ]
    for person in people:
        person.sees(person.words.welcome.body)
        person.press(person.words.welcome.begin)
    for person in people:
        person.sees(person.words.consent.heading)
        person.press(person.words.consent.agree)
    for person in people:
        person.sees(person.words.instructions.heading)
        person.press(person.words.instructions.next)
    for number in range(2):
        for person in people:
            person.sees(person.words.practice.badge)
            expect(person.page.locator(f".st-key-left-practice-{number}")).to_be_visible(timeout=PATIENCE)
            person.press(person.words.trial.left)
    for count in range(COMPARISONS):
        for person in people:
            person.sees(person.words.trial.progress.format(done=count, total=COMPARISONS))
            person.press(person.words.trial.right)
    for person in people:
        person.sees(person.words.thanks.heading)
    database = open_database(f"sqlite:///{server.run / 'study.db'}")
    with read(database) as session:
        assert set(session.scalars(select(Comparison.filled))) == {3}
        assert sorted(session.scalars(select(Participant.language))) == ["de", "en", "en"]
    database.close()
