"""Is a judgment ever lost? 26,100 of them over sockets, while the server is killed (SIGKILL) and sockets drop.

    python -m benchmarks.study_kill [--kills 12] [--sessions 16] [--judgments 26100] [--through pages|service]

Sessions judge through the pages of a served study as fast as it answers. A judgment counts as acknowledged once its page has
turned. Some answers are pressed twice, some sockets are cut right after the press; whoever loses the server comes back with the
same cookie. `--through service` leaves the pages out (`benchmarks.study_clients`), which is faster. At the end every
acknowledged answer must be stored as it was given, none twice, every place filled exactly, and the export must verify.
"""

import argparse
import asyncio
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import websockets
from sqlalchemy import func, select

from benchmarks.study_clients import ServiceServer, judge_service
from benchmarks.study_load import Session, join
from db.models import Assignment, Comparison, Judgment, Participant
from db.session import default_url, open_database, read
from study_app.conduct.export import export_study
from study_app.conduct.verify import verify_export
from study_app.plan.blinding import Blinding
from study_app.plan.design import Design, Selection
from study_app.plan.initialize import begin_study
from tests.runs import make_run
from tests.served import Server

PEOPLE, ARMS = 5, ("direct", "mc_dropout", "orthogonal_mc_dropout")
PAIRS = 3


@dataclass
class Tally:
    """What the sessions were told: acknowledged answers by cookie and page, and how often a server or socket was lost."""

    acknowledged: dict[tuple[str, str], str] = field(default_factory=dict)
    pressed_twice: int = 0
    cut: int = 0
    lost: int = 0
    kills: int = 0


@dataclass(frozen=True)
class Found:
    """What the database holds against it; all but `judgments` and `events` must be 0."""

    judgments: int
    events: int
    lost: int
    changed: int
    doubled: int
    inexact: int

    @property
    def broken(self) -> int:
        """Return the number of broken promises."""
        return self.lost + self.changed + self.doubled + self.inexact


async def participant(url: str, number: int, tally: Tally) -> None:
    """Take part until nothing is left, coming back with the same cookie whenever the server is lost."""
    rng = random.Random(number)
    cookie = await asyncio.to_thread(join, url)
    while True:
        try:
            async with websockets.connect(
                f"{url.replace('http', 'ws', 1)}_stcore/stream", additional_headers={"Cookie": cookie}, max_size=None
            ) as socket:
                await _judge(Session(socket, rng), cookie.partition("=")[2], rng, tally)
                return
        except ConnectionAbortedError:
            tally.cut += 1
        except (OSError, websockets.WebSocketException):
            tally.lost += 1
            await asyncio.sleep(0.2)


async def _judge(session: Session, token: str, rng: random.Random, tally: Tally) -> None:
    await session.run()
    while True:
        labels = session.buttons
        if "Left" not in labels:
            onward = next((labels[name] for name in ("I agree to take part", "Next") if name in labels), None)
            if onward is None:
                return
            await session.run(onward)
            continue
        pressed = labels[rng.choice(("Left", "Right"))]
        choice, key = pressed.rsplit("-", 2)[1:]
        if rng.random() < 0.01:
            await session.press(pressed)
            session.socket.transport.abort()
            raise ConnectionAbortedError
        await session.run(pressed)
        if "-practice-" in pressed:
            continue
        if pressed not in session.buttons.values():
            # the first answer to a page stands
            tally.acknowledged.setdefault((token, key), choice)
        if rng.random() < 0.05:
            tally.pressed_twice += 1
            await session.run(pressed)


async def everyone(servers: Sequence[Server | ServiceServer], sessions: int, stops: Sequence[int], tally: Tally) -> None:
    """Let all sessions judge, and kill one server after the other whenever as many answers as in `stops` were acknowledged."""
    people = []
    for number in range(sessions):
        server = servers[number % len(servers)]
        judging = (
            participant(server.url, number, tally) if isinstance(server, Server) else judge_service(server.port, number, tally)
        )
        people.append(asyncio.create_task(judging))
    for number, stop in enumerate(stops):
        server = servers[number % len(servers)]
        while len(tally.acknowledged) < stop and not all(person.done() for person in people):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(server.kill)
        tally.kills += 1
        await asyncio.to_thread(server.start)
    await asyncio.gather(*people)


def compare(run: Path, url: str, tally: Tally) -> Found:
    """Hold the database to what was acknowledged."""
    database, blinding = open_database(url), Blinding(run)
    with read(database) as session:
        rows = session.execute(
            select(Participant.token_sha256, Participant.id, Assignment.comparison_id, Judgment.choice)
            .join(Assignment, Assignment.participant_id == Participant.id)
            .join(Judgment, Judgment.assignment_id == Assignment.id)
        ).all()
        filled = session.execute(
            select(Comparison.target, Comparison.filled, func.count(Judgment.id))
            .join(Assignment, Assignment.comparison_id == Comparison.id)
            .join(Judgment, Judgment.assignment_id == Assignment.id)
            .where(~Judgment.surplus)
            .group_by(Comparison.id)
        ).all()
        comparisons = session.scalar(select(func.count()).select_from(Comparison)) or 0
    export_study(database, run, run / "export.zip")
    database.close()
    stored = {
        (token, blinding.token(f"comparison {who} {comparison}", "overall")[:12]): choice
        for token, who, comparison, choice in rows
    }
    told = {(hashlib.sha256(token.encode()).hexdigest(), key): choice for (token, key), choice in tally.acknowledged.items()}
    return Found(
        judgments=len(rows),
        events=verify_export(run / "export.zip").events,
        lost=len(told.keys() - stored.keys()),
        changed=sum(stored[page] != choice for page, choice in told.items() if page in stored),
        doubled=len(rows) - len(stored),
        inexact=sum(not target == held == count for target, held, count in filled) + comparisons - len(filled),
    )


def measure(
    folder: Path,
    judgments: int,
    kills: int,
    sessions: int,
    url: str | None = None,
    processes: int = 1,
    through: Literal["pages", "service"] = "pages",
) -> tuple[Tally, Found]:
    """Judge a study of so many judgments, and return what was told and what was found; by default on SQLite."""
    cells = judgments // (PAIRS * PEOPLE)
    run, concepts = folder / "run", 3 if cells < 45 else 10
    make_run(run, arms=ARMS, concepts=concepts, seeds=-(-cells // (3 if concepts == 3 else 45)), scores=False)
    url = url or default_url(run)
    database = open_database(url)
    begin_study(database, run, Design(per_comparison=PEOPLE, comparisons=Selection(sample=cells)))
    database.close()
    wanted = cells * PAIRS * PEOPLE
    stops = sorted(random.Random(1).sample(range(wanted // 50 + 1, wanted - wanted // 20), kills))
    serve, tally = Server if through == "pages" else ServiceServer, Tally()
    servers = [serve(run, url) for _ in range(processes)]
    try:
        for server in servers:
            server.start()
        asyncio.run(everyone(servers, sessions, stops, tally))
    finally:
        for server in servers:
            server.kill()
    return tally, compare(run, url, tally)


def main() -> None:
    """Read the options, measure, and exit 1 where a promise was broken."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=12)
    options.add_argument("--sessions", type=int, default=16)
    options.add_argument("--judgments", type=int, default=26_100)
    options.add_argument("--db", help="A PostgreSQL database; SQLite by default.")
    options.add_argument("--processes", type=int, default=1, help="How many servers serve at once; more than 1 on PostgreSQL.")
    options.add_argument("--through", choices=("pages", "service"), default="pages")
    given = options.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally, found = measure(
            Path(folder), given.judgments, given.kills, given.sessions, given.db, given.processes, given.through
        )
    seconds = time.perf_counter() - began
    print(f"judgments           {found.judgments:,} stored, {len(tally.acknowledged):,} acknowledged, in {seconds:,.0f} s")
    print(f"server killed       {tally.kills} times; connections lost or refused meanwhile {tally.lost}")
    print(f"sockets cut         {tally.cut}; answers pressed twice {tally.pressed_twice}")
    print(f"lost {found.lost}, changed {found.changed}, doubled {found.doubled}, cells not filled exactly {found.inexact}")
    print(f"chain               sound, {found.events:,} events")
    sys.exit(1 if found.broken else 0)


if __name__ == "__main__":
    main()
