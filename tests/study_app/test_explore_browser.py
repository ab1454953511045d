"""`evalkit explore` in a real browser: filter, sort by disagreement, and see the images behind a number."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from analysis.comparison_table import comparisons_of
from analysis.papers.script import read_findings
from db.run_loader import load_run
from db.session import default_url, open_database
from tests.accessibility import hold_to_axe
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run
from tests.served import PATIENCE, Server

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE)


class Explorer(Server):
    """`evalkit explore` in a process of its own."""

    code = "import typer; from study_app.explore.command import explore; typer.run(explore)"
    words = ()


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    run = tmp_path / "run"
    make_run(run, concepts=3, seeds=1)
    database = open_database(default_url(run))
    add_judgments(database, load_run(database, run).run_id)
    database.close()
    served = Explorer(run)
    served.start()
    yield served
    served.kill()


def choose(page: Page, label: str, option: str) -> None:
    """Choose an option of a list in the sidebar."""
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=option, exact=True).click()


def accessible(page: Page) -> None:
    """Hold the page to axe once it is whole: until then it is paler."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    page.wait_for_timeout(500)
    hold_to_axe(page)


def test_a_visitor_filters_sorts_by_disagreement_and_sees_the_images_behind_a_number(explorer: Explorer, browser: Browser):
    found = read_findings(explorer.run)
    table = comparisons_of(found)
    first, second = found.data.arm_pairs[0]
    table = table[(table["first"] == first) & (table["second"] == second)]
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(explorer.url)
    expect(page.get_by_text(f"{len(table)} comparisons of {first} and {second}")).to_be_visible()
    warning = page.get_by_test_id("stAlertContentWarning")
    expect(warning.get_by_text("Simulated: these judgments")).to_be_visible()
    # the share of votes is the report's, to the digit
    share = f"{100 * found.preferences[0].clustered.estimate:.1f} %"
    expect(page.get_by_role("cell", name=share).first).to_be_visible()

    accessible(page)

    choose(page, "Sort by", "disagreement among people")
    worst = table.sort_values("disagreement", ascending=False, kind="stable").iloc[0]
    expect(page.get_by_text(re.compile(r", seed \d+$")).first).to_have_text(f"{worst['case']}, seed {worst['seed']}")
    # the two pictures of the first comparison have arrived, with the votes each got
    caption = page.get_by_text(f"{first}: {worst['for_first']} of {worst['votes']} votes").first
    expect(caption).to_be_visible()
    pictures = page.locator("[data-testid=stImage] img")
    expect(pictures.first).to_be_visible()
    assert pictures.count() >= 4 * len(table)
    for place in range(4):
        pictures.nth(place).scroll_into_view_if_needed()
        page.wait_for_function(
            "picture => picture.complete && picture.naturalWidth > 0", arg=pictures.nth(place).element_handle()
        )

    concept = sorted(found.data.references)[0]
    choose(page, "Concepts", concept)
    kept = sum(concept in held for held in table["concepts"])
    expect(page.get_by_text(f"{kept} comparisons of {first} and {second}")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_label("Prompt holds").fill("no prompt says this")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No comparison is like that.")).to_be_visible()

    page.get_by_role("tab", name="Tables").click()
    choose(page, "Table", "How the verdicts come about")
    expect(page.get_by_text("How the verdicts come about").last).to_be_visible()
    accessible(page)
    assert not wrong
