"""Simulated participants in a real browser: they go through the served pages, and press what `simulate` would have answered."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from db.session import Database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.plan.flow import Step, next_step
from study_app.run_database import DB_VARIABLE
from study_app.service import tasks
from study_app.service.participants import add_participant, mark
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, Simulated, check_simulation, choose, seed_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_SECONDS = 120
_AT_REST = "[data-testid='stApp'][data-test-script-state='notRunning']"
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)


@dataclass(frozen=True)
class _Person:
    number: int
    id: int
    token: str
    page: "Page"


def simulate_in_browser(
    database: Database,
    run: Path,
    participants: int,
    behaviour: Behaviour,
    seed: int,
    tell: Callable[[], None] | None = None,
) -> Simulated:
    """Let simulated participants judge what is left through the pages of a separate server, in turn.

    Times are those the browser measured; a ranking is pressed place by place and confirmed. The same study and seeds give the
    same judgments; other ones than `simulate` gives, since a page that turns holds the next comparison at once.

    Raises:
        UserError: Playwright or Chromium is missing, or people have judged in this study.
    """
    service = StudyService(database, run)
    with write(database) as session:
        check_simulation(session, service.study_id, behaviour)
    judged = 0
    with _browser() as browser, _served(database, run) as url:
        waiting = deque(_arrive(service, browser, url, number, seed) for number in range(participants))
        while waiting:
            person = waiting.popleft()
            step = _go_on(service, person, behaviour, f"{seed} {person.number}")
            if step is Step.TRIAL:
                judged += 1
                if tell is not None:
                    tell()
            if step is not Step.THANKS:
                waiting.append(person)
    return Simulated(participants, judged)


def _arrive(service: StudyService, browser: "Browser", url: str, number: int, seed: int) -> _Person:
    with write(service.database) as session:
        participant, token = add_participant(
            session, service.study_id, utc_now(), seed=seed_of(seed, number), simulated=True, language="en"
        )
        # the simulation passes by the screen check and the questionnaire
        mark(session, participant.id, "screened_at", utc_now())
        mark(session, participant.id, "questioned_at", utc_now())
    context = browser.new_context()
    context.add_cookies([{"name": service.blinding.cookie_name(), "value": token, "url": url}])
    page = context.new_page()
    page.set_default_timeout(1000 * _SECONDS)
    page.goto(url)
    return _Person(number, participant.id, token, page)


def _go_on(service: StudyService, person: _Person, behaviour: Behaviour, seed: str) -> Step | None:
    """Do what the person's page asks, and return its step; None for a page between."""
    visitor, words, page = service.visitor(person.token), service.sentences, person.page
    if visitor is None:
        raise RuntimeError(f"participant {person.id} was lost")
    step = next_step(visitor.progress)
    if step is Step.CONSENT:
        _press(page, f"button:has-text('{words.consent.agree}')")
    elif step is Step.INSTRUCTIONS:
        _press(page, f"button:has-text('{words.instructions.next}')")
    elif step is Step.PRACTICE:
        for number, trial in enumerate(service.practice(person.id)):
            others = [slot for slot in trial.places if slot != trial.right_answer]
            _answer(page, f"practice-{number}", " ".join([trial.right_answer, *(others if trial.ranking else [])]))
    elif step is Step.TRIAL:
        return _judge(service, person, behaviour, seed)
    return step


def _judge(service: StudyService, person: _Person, behaviour: Behaviour, seed: str) -> Step | None:
    """Answer the comparison or check on the page, or leave the page of a break."""
    page = person.page
    page.wait_for_selector(".study-pair, [class*='st-key-onward'] button, .study-prose .code, .study-waiting")
    if page.locator(".study-waiting").count():
        page.reload()
        return None
    if page.locator(".st-key-onward button").count():
        _press(page, ".st-key-onward button")
        return None
    with read(service.database) as session:
        pending = tasks.open_tasks(session, service.design, person.id)
        if not pending:
            return Step.THANKS
        task = pending[0]
        choice = choose(session, service.design, task, behaviour, seed)
    key = service.blinding.token(task.shown.owner, task.question)[:12]
    page.wait_for_timeout(1000 * service.design.minimum_seconds)
    _answer(page, key, choice)
    return Step.TRIAL if task.kind == "comparison" and task.question == "overall" else None


def _answer(page: "Page", key: str, choice: str) -> None:
    """Press an answer: one button, or all places of a ranking but the last, which follows by itself, and then to confirm it."""
    ranked = choice.split()
    for slot in ranked[:-1]:
        button = page.locator(f".st-key-{slot}-{key} button")
        button.wait_for()
        page.wait_for_selector(_AT_REST)
        button.click()
    _press(page, f".st-key-{choice if len(ranked) == 1 else 'confirm'}-{key} button")


def _press(page: "Page", selector: str) -> None:
    """Press what is there once the page is whole, and wait until it has gone."""
    button = page.locator(selector).first
    button.wait_for()
    page.wait_for_selector(_AT_REST)
    button.click()
    button.wait_for(state="detached")
    page.wait_for_selector(_AT_REST)


def chromium() -> str | None:
    """Return this machine's Chromium, None where only Playwright's own may be there."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def _browser() -> Iterator["Browser"]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise UserError("simulate --browser: needs Playwright; pip install playwright") from error
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=chromium(), args=list(_QUIET))
        except Error as error:
            raise UserError("simulate --browser: Chromium is not installed; run `playwright install chromium`") from error
        yield opened
        opened.close()


@contextmanager
def _served(database: Database, run: Path) -> Iterator[str]:
    """Serve the study in a separate process, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-c", "from study_app.command import app; app()", "serve", str(run), "--backup-minutes", "0"]
    # not among the arguments, which every user of the machine can read, password included
    environment = {**os.environ, DB_VARIABLE: database.url.render_as_string(hide_password=False)}
    command += ["--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as server:
        try:
            _wait(url, server)
            yield url
        finally:
            server.terminate()


def _wait(url: str, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}healthz", timeout=20):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise UserError("simulate --browser: the study's server did not start; try `evalkit study serve` by hand to see why")
