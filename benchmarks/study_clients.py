"""Judge a study's service over sockets: a server process that may be killed, and clients that know what it acknowledged.

The server answers lines of JSON with what `study_app.service` says. So the pages' share of the time is left out, while the
database, the process that dies and the sockets that break are real ones. `benchmarks.study_kill` runs it:

    python -m benchmarks.study_kill --through service
"""

import asyncio
import json
import random
import socket
import socketserver
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from db.session import open_database
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.service.view_models import TrialPage


class Told(Protocol):
    """Where the sessions note what they were told."""

    acknowledged: dict[tuple[str, str], str]
    pressed_twice: int
    cut: int
    lost: int


class ServiceServer:
    """The service of a run in a process of its own, at a port that stays the same after a kill."""

    def __init__(self, run: Path, url: str) -> None:
        self.command = [sys.executable, "-m", "benchmarks.study_clients", str(run), url]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return once it answers."""
        self.process = subprocess.Popen([*self.command, str(self.port)])
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=20).close()
                return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError("the service did not answer")

    def kill(self) -> None:
        """Stop it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


async def judge_service(port: int, number: int, tally: Told) -> None:
    """Judge until nothing is left, coming back with the same token whenever the server is lost."""
    rng, token = random.Random(number), ""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            tally.lost += 1
            await asyncio.sleep(0.05)
            continue
        try:
            while True:
                if not token:
                    token = await _ask(reader, writer, {"do": "join"})
                key = await _ask(reader, writer, {"do": "trial", "token": token})
                if not key:
                    return
                choice = rng.choice(("left", "right"))
                answer = {"do": "answer", "token": token, "key": key, "choice": choice}
                if rng.random() < 0.01:
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
                    tally.cut += 1
                    break
                if await _ask(reader, writer, answer) != "stored":
                    # stored before the socket was cut or the server killed; what it was is not known here
                    continue
                tally.acknowledged[token, key] = choice
                if rng.random() < 0.05:
                    tally.pressed_twice += 1
                    await _ask(reader, writer, {**answer, "choice": "left"})
        except (OSError, EOFError):
            tally.lost += 1
        finally:
            writer.transport.abort()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: dict[str, str]) -> str:
    writer.write(json.dumps(question).encode() + b"\n")
    await writer.drain()
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return str(json.loads(line))


class _Requests(socketserver.StreamRequestHandler):
    """One session: its trials are kept as a page would keep them."""

    def handle(self) -> None:
        """Answer until the other side goes."""
        service = self.server.service  # type: ignore[attr-defined]
        trials: dict[str, TrialPage] = {}
        for line in self.rfile:
            asked = json.loads(line)
            self.wfile.write(json.dumps(_answer(service, trials, asked)).encode() + b"\n")


def _answer(service: StudyService, trials: dict[str, TrialPage], asked: dict[str, str]) -> str:
    if asked["do"] == "join":
        return service.join()
    visitor = service.visitor(asked["token"])
    if visitor is None:
        raise RuntimeError("a participant was lost")
    if asked["do"] == "answer":
        return service.answer(visitor.id, trials[asked["key"]], asked["choice"], Timing()).value
    trial = service.trial(visitor.id)
    if trial is None:
        return ""
    trials[trial.key] = trial
    return trial.key


class _Server(socketserver.ThreadingTCPServer):
    """One thread for every session, as Streamlit has."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing where a client went away in the middle."""


def main() -> None:
    """Serve the study of a run: RUN URL PORT."""
    run, url, port = sys.argv[1:]
    with _Server(("127.0.0.1", int(port)), _Requests) as server:
        server.service = StudyService(open_database(url), Path(run))  # type: ignore[attr-defined]
        server.serve_forever()


if __name__ == "__main__":
    main()
