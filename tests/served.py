"""A study served in a process of its own, and a browser to open it in."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# milliseconds; far more than an idle machine needs, since a busy one should not fail
PATIENCE = 120_000


class Server:
    """`evalkit study serve` in a process of its own."""

    code = "from study_app.command import app; app()"
    words: tuple[str, ...] = ("serve",)

    def __init__(self, run: Path, db: str | None = None, *options: str) -> None:
        self.run, self.options = run, [*(["--db", db] if db else []), *options]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        command = [sys.executable, "-c", self.code, *self.words, str(self.run), "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(self.url, timeout=20):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise TimeoutError("the study's server did not answer")

    def kill(self) -> None:
        """Stop it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here; install one, such as: apt-get install chromium")
    with sync_playwright() as playwright:
        # a busy machine's pages take their time
        expect.set_options(timeout=PATIENCE)
        opened = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield opened
        opened.close()
