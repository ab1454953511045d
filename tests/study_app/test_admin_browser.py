"""The dashboard in a real browser: brought up to date in its place, on a phone and in the dark too, and accessible."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from db.session import open_database
from study_app.conduct import command as conduct_command
from study_app.conduct.password import set_password
from study_app.plan.design import Checks, Design, Rules
from study_app.plan.initialize import begin_study
from study_app.simulation.people import Behaviour, simulate
from tests.accessibility import hold_to_axe
from tests.runs import make_run
from tests.served import PATIENCE, Server

pytestmark = pytest.mark.browser


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_run(tmp_path / "run", scores=False)
    database = open_database(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    study_id = begin_study(
        database, tmp_path / "run", Design(checks=Checks(null_pairs=0.2), rules=Rules(after=5, one_side=0.8))
    ).study_id
    simulate(database, study_id, 2, Behaviour(side_bias=3.0), 1)
    database.close()
    served = Server(tmp_path / "run")
    served.start()
    yield served
    served.kill()


def log_in(page: Page, server: Server, password: str) -> None:
    """Log in at the second try, and hold each page to axe."""
    page.set_default_timeout(PATIENCE)
    page.goto(f"{server.url}admin")
    hold_to_axe(page)
    page.get_by_label("Password").fill("a guess that is wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The password is wrong. Try again.")
    hold_to_axe(page)
    page.wait_for_timeout(1500)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    expect(page.get_by_text("36 of 90 (40.0 %)")).to_be_visible(timeout=PATIENCE)
    hold_to_axe(page)


def test_the_dashboard_is_accessible_and_comes_up_to_date_where_it_stands(browser: Browser, server: Server) -> None:
    dark = browser.new_context(color_scheme="dark").new_page()
    phone = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True).new_page()
    password = set_password(server.run)
    for page in (dark, phone):
        log_in(page, server, password)
    # tables scroll by themselves, the page does not
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    # paused meanwhile: the page says so by itself, and was not loaded anew
    dark.evaluate("window.here = true")
    out = dark.get_by_role("button", name="Log out")
    out.focus()
    conduct_command.pause(server.run)
    expect(dark.get_by_text("Paused: no comparison is assigned")).to_be_visible(timeout=PATIENCE)
    assert dark.evaluate("window.here") is True
    expect(out).to_be_focused()
    # a new password ends the visit
    set_password(server.run)
    expect(dark.get_by_label("Password")).to_be_visible(timeout=PATIENCE)
