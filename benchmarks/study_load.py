"""How a study server bears 200 people at once: websocket sessions that speak Streamlit's own protocol, 4 s between answers.

    python -m benchmarks.study_load [--sessions 200] [--think 4] [--seconds 120] [--hundreds 8]

Every session joins as a browser does, agrees, practises and judges by pressing the pages' buttons; a page turn is the time from
the press to the end of the page's run. A share of the presses is doubled. At the end the judgments in the database are held to
those the sessions gave. Beside that stands the floor: as many sessions on a page of as many elements with nothing behind them.
Memory is told twice: what open sessions hold, most of it Streamlit's own, and what is left when one hundred people after the
other came and went, which is what a server that runs for days gathers. Last comes the service layer alone: judgments (answer
and next page) a second with full durability, 16 threads. CPU times and the load tell how much of it other programs took.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import websockets
from sqlalchemy import event, func, select
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection

from benchmarks.study_floor import Floor
from db.models import Comparison, Judgment
from db.session import open_database, read
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.runs import make_run
from tests.served import Server


class _Stay(urllib.request.HTTPRedirectHandler):
    """Leave redirects alone, so that the cookie can be read."""

    def redirect_request(self, *_: object) -> None:
        return None


def join(url: str) -> str:
    """Join as a browser does and return the cookie."""
    try:
        urllib.request.build_opener(_Stay).open(f"{url}join", timeout=60)
        raise RuntimeError("joining did not redirect")
    except urllib.error.HTTPError as answer:
        cookie = answer.headers["set-cookie"]
    return str(cookie).partition(";")[0]


class Session:
    """One participant's websocket."""

    def __init__(self, socket: ClientConnection, rng: random.Random) -> None:
        self.socket, self.rng = socket, rng
        self.buttons: dict[str, str] = {}

    async def press(self, *presses: str) -> None:
        """Ask for the page, pressing these buttons."""
        message = BackMsg()
        message.rerun_script.query_string = ""
        for press in presses:
            state = message.rerun_script.widget_states.widgets.add()
            state.id, state.trigger_value = press, True
        await self.socket.send(message.SerializeToString())

    async def run(self, *presses: str) -> float:
        """Ask for the page, pressing these buttons, and return the seconds until it is whole."""
        began = time.perf_counter()
        await self.press(*presses)
        fresh: dict[str, str] = {}
        while True:
            told = ForwardMsg()
            told.ParseFromString(await self.socket.recv(decode=False))
            kind = told.WhichOneof("type")
            if kind == "delta" and told.delta.new_element.WhichOneof("type") == "button":
                button = told.delta.new_element.button
                fresh[button.label] = button.id
            elif kind == "script_finished":
                self.buttons = fresh
                return time.perf_counter() - began


async def participant(
    url: str, number: int, think: float, until: float, turns: list[float], joins: bool = True, most: int | None = None
) -> int:
    """Take part until the time is over, or so many judgments were given, and return how many were."""
    rng = random.Random(number)
    await asyncio.sleep(think * rng.random())
    cookie = await asyncio.to_thread(join, url) if joins else ""
    address = f"{url.replace('http', 'ws', 1)}_stcore/stream"
    judged = 0
    async with websockets.connect(address, additional_headers={"Cookie": cookie}, max_size=None) as socket:
        session = Session(socket, rng)
        await session.run()
        while time.perf_counter() < until and judged != most:
            await asyncio.sleep(think * rng.uniform(0.5, 1.5))
            labels = session.buttons
            if "Left" not in labels:
                onward = next((labels[name] for name in ("I agree to take part", "Next") if name in labels), None)
                if onward is None:
                    break
                await session.run(onward)
                continue
            pressed = labels[rng.choice(("Left", "Right"))]
            turns.append(await session.run(pressed))
            if rng.random() < 0.05:
                await session.run(pressed)
            judged += "-practice-" not in pressed
    return judged


def come_and_go(server: Server, name: str, hundreds: int, joins: bool = True, most: int = 5) -> None:
    """Print a server's memory after each hundred people who came, gave `most` judgments and went."""
    server.start()
    if server.process is None:
        raise RuntimeError("the server has no process")
    held = []
    try:
        for hundred in range(hundreds):
            numbers = range(100 * hundred, 100 * (hundred + 1))

            async def all_of_them(numbers: range = numbers) -> None:
                until = time.perf_counter() + 600
                await asyncio.gather(*(participant(server.url, n, 1.0, until, [], joins, most) for n in numbers))

            asyncio.run(all_of_them())
            held.append(memory(server.process.pid))
    finally:
        server.kill()
    # the first three fill what all share, and Streamlit keeps 128 sessions that ended, should they come back
    told, grown = " ".join(f"{megabytes:.0f}" for megabytes in held), (held[-1] - held[2]) / (hundreds - 3)
    print(f"{name:<20}{told} MB after each hundred who came and went; {grown:+.2f} MB each from the fourth on")


def memory(pid: int) -> float:
    """Return a process's resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def judge(server: Server, name: str, sessions: int, think: float, seconds: float, joins: bool = True) -> int:
    """Load a server, print its page turns and memory, and return how many judgments were given."""
    server.start()
    if server.process is None:
        raise RuntimeError("the server has no process")
    pid = server.process.pid
    try:
        before, used, turns = memory(pid), cpu_seconds(pid), list[float]()

        async def everyone() -> list[int]:
            until = time.perf_counter() + seconds
            people = (participant(server.url, n, think, until, turns, joins) for n in range(sessions))
            return list(await asyncio.gather(*people))

        given = sum(asyncio.run(everyone()))
        after, used = memory(pid), cpu_seconds(pid) - used
    finally:
        server.kill()
    cuts = statistics.quantiles(turns, n=100)
    print(f"{name:<20}{len(turns):,} page turns; p50 {1000 * cuts[49]:.0f} ms, p95 {1000 * cuts[94]:.0f} ms, "
          f"p99 {1000 * cuts[98]:.0f} ms, max {1000 * max(turns):.0f} ms; CPU {1000 * used / len(turns):.1f} ms each; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    held = 100 * (after - before) / sessions
    print(f"{'  memory, MB':<20}{before:.0f} before, {after:.0f} after, {held:.1f} per 100 sessions that are open")
    return given


def pages(run: Path, sessions: int, think: float, seconds: float) -> None:
    """Load a served study and print its page turns and whether every answer is there."""
    given = judge(Server(run), "study", sessions, think, seconds)
    database = open_database(f"sqlite:///{run / 'study.db'}")
    with read(database) as session:
        stored = session.scalar(select(func.count()).select_from(Judgment)) or 0
        over = session.scalar(select(func.count()).select_from(Comparison).where(Comparison.filled > Comparison.target)) or 0
    database.close()
    print(f"judgments           {stored:,} stored, {given:,} given; over-filled cells {over}")


def service_layer(run: Path, threads: int = 16, seconds: float = 20) -> None:
    """Print how many judgments a second the service stores with full durability."""
    database = open_database(f"sqlite:///{run / 'study.db'}")
    service = StudyService(database, run)
    counts: Counter[int] = Counter()
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)
    used = time.process_time()
    until = time.perf_counter() + seconds

    def one(number: int) -> None:
        visitor = service.visitor(service.join())
        if visitor is None:
            raise RuntimeError("a participant was lost")
        trial = service.trial(visitor.id)
        while time.perf_counter() < until and trial is not None:
            trial = service.answer_and_turn(visitor.id, trial, "left", Timing())[1].trial
            counts[number] += 1

    pool = [threading.Thread(target=one, args=(number,)) for number in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    database.close()
    judged, used = counts.total(), time.process_time() - used
    print(f"service layer       {judged / seconds:.0f} judgments/s, {threads} threads, SQLite, full sync; "
          f"CPU {1000 * used / judged:.1f} ms and {len(commits) / judged:.2f} commits each; "
          f"{100 * used / seconds:.0f} % of a core, load {os.getloadavg()[0]:.1f}")  # fmt: skip


def main() -> None:
    """Read the options and measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sessions", type=int, default=200)
    options.add_argument("--think", type=float, default=4.0)
    options.add_argument("--seconds", type=float, default=120.0)
    options.add_argument("--hundreds", type=int, default=8, help="How many hundreds of people come and go, 4 or more.")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        make_run(run, concepts=10, seeds=10, scores=False)
        database = open_database(f"sqlite:///{run / 'study.db'}")
        begin_study(database, run, Design(per_comparison=40))
        database.close()
        print(f"{'sessions':<20}{given.sessions}, {given.think} s between answers, {given.seconds:.0f} s")
        judge(Floor(Path(folder)), "floor", given.sessions, given.think, given.seconds, joins=False)
        pages(run, given.sessions, given.think, given.seconds)
        come_and_go(Floor(Path(folder)), "floor", given.hundreds, joins=False)
        come_and_go(Server(run), "study", given.hundreds)
        service_layer(run)


if __name__ == "__main__":
    main()
