"""Every page a participant can come to, in a real browser: nothing leaks, axe finds nothing serious, breaks and times hold."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from db.models import Judgment, Participant, Reply
from db.session import open_database
from study_app.plan.color_plates import plate_number
from study_app.plan.design import Design, Entry, Sessions
from study_app.plan.initialize import begin_study
from study_app.plan.questionnaire import Question
from study_app.plan.screen_check import ScreenRule, plates_of
from study_app.plan.texts import load_sentences
from tests.accessibility import hold_to_axe
from tests.runs import make_run
from tests.served import PATIENCE, Server
from tests.study_app.test_browser import ARMS, SEEDS, Wire, nothing_leaks
from tests.study_app.test_several_browser import stored

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
MINIMUM = 4.0
DESIGN = Design(
    at_once=3,
    per_comparison=1,
    cannot_tell=True,
    minimum_seconds=MINIMUM,
    sessions=Sessions(break_every=1),
    screen=ScreenRule(least_width=600, colour=True),
    questionnaire=(
        Question(name="often", text=f"How often, *{HOSTILE}*?", options=("**never**", f"often {HOSTILE}"), required=True),
        Question(name="age", text="Your age?", kind="number", least=18),
        Question(name="remarks", text="Anything else?", kind="text"),
    ),
    entry=Entry(recruitment="prolific", completion_url="https://recruiter.invalid/back?code={code}"),
)
WORDS = load_sentences("en")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_run(tmp_path / "run", arms=(*ARMS, f"{ARMS[0]}b"), concepts=2, seeds=SEEDS[:2], scores=False)
    database = open_database(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    begin_study(database, tmp_path / "run", DESIGN)
    database.close()
    served = Server(tmp_path / "run")
    served.start()
    yield served
    served.kill()


def whole(page: Page) -> None:
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE)


def arrived(page: Page, heading: str) -> None:
    """Wait until the page with this heading is whole, and hold it to axe."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=PATIENCE)
    whole(page)
    hold_to_axe(page)


def onward(page: Page) -> None:
    page.locator(".st-key-onward button").click()


def judging(page: Page, done: int) -> str:
    """Wait until a page of images is whole with its script, hold it to axe, and return its key."""
    expect(page.get_by_text(WORDS.trial.progress.format(done=done, total=2))).to_be_visible(timeout=PATIENCE)
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    whole(page)
    hold_to_axe(page)
    return str(page.locator(".study-pair").get_attribute("data-page"))


def practise(page: Page, number: int) -> None:
    """Answer a practice page once it is whole, with a second press if the first has no effect."""
    button = page.locator(f".st-key-answers .st-key-1-practice-{number} button")
    expect(button).to_be_visible()
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    whole(page)
    hold_to_axe(page)
    for _ in range(2):
        button.click()
        try:
            expect(button).to_have_count(0, timeout=PATIENCE / 8)
        except AssertionError:
            continue
        return
    pytest.fail(f"practice page {number} took no answer:\n{page.content()[-3000:]}")


def placed(page: Page) -> tuple[float, float, float]:
    """Return scale and shift of the images, which all have the same."""
    styles = page.locator(".study-pair img").evaluate_all("all => all.map(image => image.style.transform)")
    assert len(styles) == 3
    assert len(set(styles)) == 1
    if not styles[0]:
        return 1.0, 0.0, 0.0
    x, y, scale = (float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", styles[0]))
    return scale, x, y


def zoomed_alike(page: Page) -> None:
    """Zoom and shift by wheel, dragging and keys: what one image does, all do."""
    assert placed(page) == (1.0, 0.0, 0.0)
    box = page.locator(".study-pair .view").nth(1).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('.study-pair img').style.transform !== ''")
    scale, left, top = placed(page)
    assert scale == pytest.approx(2.718, abs=0.01)
    # what is under the pointer stays there
    assert (left, top) == (pytest.approx(-25 * (scale - 1), abs=1), pytest.approx(-50 * (scale - 1), abs=1))
    page.mouse.down()
    page.mouse.move(x - box["width"] * 0.2, y, steps=4)
    page.mouse.up()
    assert placed(page) == (scale, pytest.approx(left - 20, abs=1), top)
    page.keyboard.press("ArrowDown")
    assert placed(page)[2] == pytest.approx(top - 10, abs=0.1)
    page.keyboard.press("+")
    assert placed(page)[0] == pytest.approx(1.4 * scale, abs=0.01)
    page.keyboard.press("0")
    assert placed(page) == (1.0, 0.0, 0.0)


def held_back(server: Server, page: Page) -> None:
    """Answer at once, by key and by click: the script sends nothing before the design's minimum is over."""
    button = page.locator(".st-key-answers button").first
    expect(button).to_have_attribute("aria-disabled", "true")
    page.keyboard.press("1")
    button.dispatch_event("click")
    # the service would say so, had it been asked
    page.wait_for_timeout(500)
    expect(page.get_by_text(WORDS.trial.too_soon)).to_have_count(0)
    assert stored(server, select(Judgment)) == []
    expect(button).not_to_have_attribute("aria-disabled", "true", timeout=PATIENCE)


def test_every_page_on_the_way_tells_nothing_and_is_accessible(browser: Browser, server: Server) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wire = Wire(context, page)
    left_for: list[tuple[str, dict[str, str]]] = []

    def recruiter(route) -> None:
        left_for.append((route.request.url, route.request.headers))
        route.fulfill(body="back", content_type="text/plain")

    context.route("https://recruiter.invalid/**", recruiter)
    page.goto(server.url)
    arrived(page, WORDS.welcome.heading)
    # nobody joins without the recruiter's link, and /done leads nobody anywhere
    expect(page.get_by_text(WORDS.welcome.recruited)).to_be_visible()
    page.goto(f"{server.url}done")
    arrived(page, WORDS.welcome.heading)
    page.goto(f"{server.url}?PROLIFIC_PID=zzrecruited&STUDY_ID=s&SESSION_ID=zzvisit")
    arrived(page, WORDS.consent.heading)
    assert page.url == server.url
    onward(page)

    # one try at the plates fails, the next ones are read
    arrived(page, WORDS.screen.heading)
    onward(page)
    expect(page.get_by_role("alert")).to_have_text(WORDS.screen.not_read)
    arrived(page, WORDS.screen.heading)
    (person,) = stored(server, select(Participant))
    for number, seed in enumerate(plates_of(person, 1)):
        page.locator(".st-key-plates input").nth(number).fill(plate_number(seed))
        page.keyboard.press("Tab")
    whole(page)
    onward(page)
    arrived(page, WORDS.instructions.heading)
    onward(page)

    for number in range(2):
        practise(page, number)
    first = judging(page, 0)
    held_back(server, page)
    zoomed_alike(page)
    page.keyboard.press("3")
    arrived(page, WORDS.rest.break_heading)
    expect(page.get_by_text(WORDS.rest.break_body.format(done=1, total=2))).to_be_visible()
    # a break can be reloaded, and is over when one goes on
    page.reload()
    arrived(page, WORDS.rest.break_heading)
    onward(page)
    assert judging(page, 1) != first
    page.wait_for_timeout(MINIMUM * 1000)
    page.get_by_role("button", name=WORDS.trial.cannot_tell).click()

    arrived(page, WORDS.questionnaire.heading)
    onward(page)
    expect(page.get_by_role("alert")).to_have_text(WORDS.questionnaire.wrong)
    arrived(page, WORDS.questionnaire.heading)
    # what a study asks is text: no markup of it counts
    expect(page.get_by_text("**never**", exact=True)).to_be_visible()
    optional = f" ({WORDS.questionnaire.optional})"
    asked = [question.text + ("" if question.required else optional) for question in DESIGN.questionnaire]
    assert page.locator(".study-asked").all_inner_texts() == asked
    for label in asked:
        expect(page.get_by_label(label, exact=True)).to_be_visible()
    page.get_by_text(f"often {HOSTILE}", exact=True).click()
    page.locator(".st-key-questions textarea").fill(HOSTILE)
    page.keyboard.press("Tab")
    whole(page)
    onward(page)
    arrived(page, WORDS.thanks.heading)
    page.reload()
    arrived(page, WORDS.thanks.heading)
    assert page.title() == WORDS.title
    page.get_by_role("link", name=WORDS.thanks.back).click()
    page.wait_for_url("https://recruiter.invalid/**")

    (person,) = stored(server, select(Participant))
    ((url, headers),) = left_for
    assert url == f"https://recruiter.invalid/back?code={person.completion_code}"
    assert "referer" not in headers
    judgments = stored(server, select(Judgment).order_by(Judgment.id))
    assert [judgment.choice for judgment in judgments] == ["3", "cannot_tell"]
    assert all(judgment.reaction_ms + judgment.loaded_ms >= 1000 * MINIMUM for judgment in judgments)
    replies = {reply.question: reply.reply for reply in stored(server, select(Reply))}
    assert replies == {"often": f"often {HOSTILE}", "remarks": HOSTILE}
    nothing_leaks(server, wire, images=20)
    told = [data for where, data in wire.collect() if where not in ("url", "headers")]
    assert not [data for data in told if b"zzrecruited" in data or b"zzvisit" in data]
    # no page made the server load what takes a second and far more memory than all else
    assert server.process is not None
    loaded = Path(f"/proc/{server.process.pid}/maps")
    assert not loaded.exists() or "/pandas/" not in loaded.read_text()
