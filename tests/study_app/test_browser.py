"""A served study in a real browser: two people, buttons and keys, reloads, double clicks, a restart, and nothing leaks."""

import base64
import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, Route, WebSocket, expect
from sqlalchemy import func, select

from db.models import Comparison, Judgment, Participant
from db.session import open_database, read
from evalkit.run.manifest import Manifest
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.plan.texts import load_sentences
from tests.runs import make_run
from tests.served import PATIENCE, Server
from tests.study_app.png import chunks

pytestmark = pytest.mark.browser

ARMS = ("zzmarkerone", "zzmarkertwo")
SEEDS = (739184651, 739184652, 739184653, 739184654)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_run(tmp_path / "run", arms=ARMS, concepts=2, seeds=SEEDS, scores=False)
    database = open_database(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    begin_study(database, tmp_path / "run", Design(per_comparison=2))
    database.close()
    served = Server(tmp_path / "run")
    served.start()
    yield served
    served.kill()


class Wire:
    """Everything a participant's browser is told."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context, self.page = context, page
        self.heard: list[tuple[str, bytes]] = []
        self.images: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        context.route("**/*", self._pass_on)
        page.on("websocket", self._listen)
        page.on("response", lambda response: self._note(response.url, response.headers))

    def _note(self, url: str, headers: dict[str, str]) -> None:
        self.heard += [("url", url.encode()), ("headers", repr(headers).encode())]
        self.headers[url] = headers

    def _pass_on(self, route: Route) -> None:
        """Let an answer through to the page, and keep a copy."""
        url = route.request.url
        # Streamlit's own scripts and fonts are the same for every study, and large; a page that did not come from the server
        # itself may open no websocket, so the document goes through untouched and is looked at apart
        if "/static/" in url or route.request.resource_type == "document":
            route.continue_()
            return
        try:
            response = route.fetch(max_redirects=0)
            body = response.body()
        except Error:
            # the server is down, as this test wants it at times
            route.abort()
            return
        self.heard.append((url, body))
        if "/i/" in url and response.status == 200:
            self.images[url] = body
        # the body is unpacked by now
        left_out = ("content-encoding", "content-length", "transfer-encoding")
        headers = {name: value for name, value in response.headers.items() if name not in left_out}
        route.fulfill(status=response.status, headers=headers, body=body)

    def _listen(self, socket: WebSocket) -> None:
        self.heard.append(("websocket", socket.url.encode()))
        for event in ("framereceived", "framesent"):
            socket.on(event, lambda frame: self.heard.append(("frame", frame if isinstance(frame, bytes) else frame.encode())))

    def collect(self) -> list[tuple[str, bytes]]:
        """Return all of it: URLs, headers, bodies, frames, cookies and the page as it stands."""
        self.heard.append(("cookies", repr(self.context.cookies()).encode()))
        self.heard.append(("page", self.page.content().encode()))
        return self.heard


def arrive(
    browser: Browser, server: Server, width: int = 1280, refuse: Callable[[Route], None] | None = None
) -> tuple[Page, Wire]:
    """Open the study and go as far as the first comparison that counts; `refuse` gets all requests for its pictures."""
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wire = Wire(context, page)
    page.goto(server.url)
    page.get_by_role("link", name="Begin").click()
    page.get_by_role("button", name="I agree to take part").click()
    page.get_by_role("button", name="Next").click()
    page.locator(".st-key-left-practice-0 button").click()
    last = page.locator(".st-key-left-practice-1 button")
    last.wait_for()
    sources(page)
    if refuse is not None:
        page.route("**/i/*", refuse)
    last.click()
    done(page, 0)
    return page, wire


def sources(page: Page) -> list[str]:
    """Return the URLs of the images on the page, once all are there."""
    page.wait_for_function("[...document.querySelectorAll('img')].every(image => image.complete && image.naturalWidth > 0)")
    return [str(image.get_attribute("src")) for image in page.locator(".study-pair img").all()]


def done(page: Page, count: int) -> None:
    """Wait until the page says how many are done, and is whole: until then keys still answer the comparison before."""
    expect(page.get_by_text(f"{count} of 4 done")).to_be_visible(timeout=PATIENCE)
    whole = page.get_by_test_id("stApp")
    expect(whole).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE)


def judgments(server: Server) -> int:
    database = open_database(f"sqlite:///{server.run / 'study.db'}")
    with read(database) as session:
        count = session.scalar(select(func.count()).select_from(Judgment)) or 0
    database.close()
    return count


def test_a_picture_that_does_not_come_is_fetched_again_and_never_judged_unseen(browser: Browser, server: Server) -> None:
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort()

    page, _ = arrive(browser, server, refuse=refuse)
    told = page.get_by_text(load_sentences("en").trouble.picture)
    expect(told).to_be_visible()
    for _ in range(2):
        page.keyboard.press("1")
        page.locator(".st-key-answers button").first.click()
        page.wait_for_timeout(1500)
    assert judgments(server) == 0
    assert len(refused) > len(set(refused))
    page.unroute("**/i/*")
    sources(page)
    expect(told).to_have_count(0)
    page.keyboard.press("1")
    done(page, 1)
    assert judgments(server) == 1


def test_two_people_judge_a_served_study(browser: Browser, server: Server) -> None:
    keys, keys_wire = arrive(browser, server)
    buttons, buttons_wire = arrive(browser, server, width=390)

    # keys; a reload shows the same comparison again
    keys.keyboard.press("1")
    done(keys, 1)
    before = sources(keys)
    keys.reload()
    done(keys, 1)
    assert sources(keys) == before
    keys.keyboard.press("2")
    done(keys, 2)
    assert sources(keys) != before

    # a double click is one judgment, and passes over nothing
    buttons.get_by_role("button", name="Right").dblclick()
    done(buttons, 1)
    # time for the second click to do what it must not
    buttons.wait_for_timeout(1500)
    done(buttons, 1)
    assert judgments(server) == 3
    sources(buttons)
    # on a phone one image is below the other, equally large, and nothing needs sideways scrolling
    upper, lower = (image.bounding_box() for image in buttons.locator(".study-pair img").all())
    assert upper is not None
    assert lower is not None
    assert upper["y"] + upper["height"] <= lower["y"]
    assert 0 <= upper["x"] == lower["x"] <= 390 - lower["width"]
    assert upper["width"] == lower["width"]

    # a power cut between two judgments; after it both go on where they were
    before = sources(keys)
    keys_wire.collect()
    buttons_wire.collect()
    server.kill()
    server.start()
    for page in (keys, buttons):
        page.goto(server.url)
    done(keys, 2)
    assert sources(keys) == before
    done(buttons, 1)

    for count in (3, 4):
        # no answer is taken before both images are there
        sources(keys)
        keys.keyboard.press("1" if count % 2 else "2")
        if count < 4:
            done(keys, count)
    for count in (2, 3, 4):
        sources(buttons)
        buttons.get_by_role("button", name="Left").click()
        if count < 4:
            done(buttons, count)
    for page in (keys, buttons):
        expect(page.get_by_role("heading", name="Thank you!")).to_be_visible(timeout=PATIENCE)

    database = open_database(f"sqlite:///{server.run / 'study.db'}")
    with read(database) as session:
        assert set(session.scalars(select(Comparison.filled))) == {2}
        assert session.scalars(select(Judgment.surplus)).all() == [False] * 8
        # a key pressed before the script runs is answered without its times
        timed = [judgment for judgment in session.scalars(select(Judgment)) if judgment.reaction_ms is not None]
        assert len(timed) >= 4
        assert all(judgment.loaded_ms is not None and judgment.focus_losses is not None for judgment in timed)
        codes = session.scalars(select(Participant.completion_code).order_by(Participant.id)).all()
    database.close()
    for page, code in zip((keys, buttons), codes, strict=True):
        expect(page.get_by_text(code)).to_be_visible()

    nothing_leaks(server, keys_wire, buttons_wire)


def nothing_leaks(server: Server, *wires: Wire, images: int = 40) -> None:
    """Hold all that came over the wire, more than so many `images` among it, to DESIGN's sixth rule."""
    manifest = Manifest.load(server.run)
    pictures = [*manifest.images, *(picture for concept in manifest.concepts for picture in concept.references)]
    hashes = [picture.sha256 for picture in pictures]
    secrets = [
        *ARMS,
        *(str(seed) for seed in SEEDS),
        *(case.id for case in manifest.cases),
        *(case.prompt for case in manifest.cases),
        *(concept.adapter_sha256 for concept in manifest.concepts if concept.adapter_sha256),
        *hashes,
        *(digest[:16] for digest in hashes),
        "images/",
        "references/",
        "stimuli/",
        str(server.run),
    ]
    with urllib.request.urlopen(server.url, timeout=60) as document:
        assert not [word for word in secrets if word in document.read().decode()]
    every: dict[str, bytes] = {}
    for wire in wires:
        for where, data in wire.collect():
            for form in (data, base64.b64decode(data + b"==") if re.fullmatch(rb"[A-Za-z0-9+/=\s]{8,}", data) else b""):
                found = [word for word in secrets if word.encode() in form]
                assert not found, f"{where} tells {found}"
        every |= wire.images
        for url, headers in wire.headers.items():
            if not url.startswith(server.url):
                continue
            assert headers["referrer-policy"] == "no-referrer", url
            assert headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            if url in wire.images:
                assert headers["cache-control"] == "private, max-age=600"
        cookie = next(cookie for cookie in wire.context.cookies() if str(cookie.get("name")).startswith("study_"))
        assert cookie.get("httpOnly") is True
        assert cookie.get("sameSite") == "Lax"
    assert len(every) > images
    for data in every.values():
        assert hashlib.sha256(data).hexdigest() not in hashes
        assert not [digest for digest in hashes if bytes.fromhex(digest) in data]
        assert {name for name, _ in chunks(data)} == {b"IHDR", b"IDAT", b"paDd", b"IEND"}
    # two groups: images and references, each of one size
    assert len({len(data) for data in every.values()}) == 2
    for url in list(every)[:3]:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url, timeout=60)
    # the allowlist refuses all but /manifest.json, which is that of Streamlit's own page
    with urllib.request.urlopen(server.url + "manifest.json", timeout=60) as answer:
        body = answer.read()
    assert not [word for word in secrets if not word.endswith("/") and word.encode() in body]
    own = ("i/../manifest.json", "i/study.db", "study.db", "images/")
    for path in (*own, "_stcore/metrics", "app/static/manifest.json"):
        with pytest.raises(urllib.error.HTTPError, match=r"40[04]") as refusal:
            urllib.request.urlopen(server.url + path, timeout=60)
        body = refusal.value.read()
        assert not [word for word in secrets if not word.endswith("/") and word.encode() in body]
