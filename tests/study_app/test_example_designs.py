"""The shipped examples, set up from their files and finished by people of whom every fifth leaves and some return."""

import itertools
import random
import shutil
from collections import deque
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db.models import Assignment, Comparison, Study
from db.session import default_url, open_database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct.actions import void
from study_app.conduct.export import export_study
from study_app.conduct.verify import verify_export
from study_app.plan.design import Design, read_design
from study_app.plan.example_designs import FOLDER, example_names
from study_app.plan.initialize import begin_study
from study_app.service import openness, tasks
from study_app.service.assignment import LEASE
from study_app.service.participant_state import find_person
from study_app.service.participants import mark
from study_app.simulation.people import Behaviour, add_simulated, answer_task
from tests.runs import make_run
from tests.study_app.test_command import call

ARMS = ("plain", "fancy", "third", "fourth")
LEAVE, RETURN, AT_ONCE = 0.2, 0.5, 4


def run_study(run: Path, design: Design, seed: int) -> tuple[int, int, int]:
    """Let people arrive until all is judged; every fifth leaves holding a page, half of those return an hour later.

    Return judgments, places and people.
    """
    database = open_database(default_url(run))
    begun = begin_study(database, run, design)
    rng, now, clock = random.Random(seed), utc_now(), itertools.count()
    present: deque[tuple[int, int, float]] = deque()
    away: list[tuple[int, int, object]] = []
    people = 0
    for _ in range(20_000):
        now += timedelta(seconds=20 + next(clock) % 3)
        with write(database) as session:
            back = [person for person in away if person[2] <= now]
            away = [person for person in away if person[2] > now]
            present.extend((number, who, float("inf")) for number, who, _ in back)
            while len(present) < AT_ONCE:
                leaves = rng.randrange(0, 4) if rng.random() < LEAVE else float("inf")
                present.append((*add_simulated(session, begun.study_id, people, seed), leaves))
                people += 1
            number, who, left = present.popleft()
            person = find_person(session, who)
            ended = tasks.resting_until(session, design.sessions, who, now) is not None
            task = None if ended else tasks.next_task(session, design, who, now)
            if task is None and not ended and openness.may_get_more(session, design, person):
                away.append((number, who, now + timedelta(seconds=30)))
            elif task is None:
                mark(session, who, "finished_at", now)
            elif left <= 0:
                # holds this page and is gone: for good (half of them returned their submission), or for an hour
                if rng.random() < RETURN:
                    away.append((number, who, now + LEASE * 4))
                elif rng.random() < 0.5:
                    void(session, begun.study_id, who, now)
            else:
                answer_task(session, design, who, task, Behaviour({"fancy": 1.0}), f"{seed} {number}", now)
                present.append((number, who, left - (task.question == "overall")))
            empty = session.scalar(select(func.count()).select_from(Comparison).where(Comparison.filled < Comparison.target))
            is_open = session.scalar(select(func.count()).select_from(Assignment).where(Assignment.state == "open"))
        if not empty and not is_open:
            break
    with read(database) as session:
        done = session.scalar(select(func.count()).select_from(Assignment).where(Assignment.state == "done"))
        places = session.scalar(select(func.sum(Comparison.target)))
        assert session.get_one(Study, begun.study_id).locked_at is None
    export_study(database, run, run / "export.zip")
    verify_export(run / "export.zip")
    return int(done or 0), int(places or 0), people


def test_init_prints_every_example_and_its_file_is_a_design(tmp_path: Path) -> None:
    make_run(tmp_path / "run", ARMS, concepts=3, scores=False)
    assert set(example_names()) == {"omcd_ab", "blocklora_best_of_four", "ranking_with_ratings"}
    for name in example_names():
        printed = call("init", tmp_path / "run", "--example", name)
        assert (FOLDER / f"{name}.toml").read_text() in printed
        (tmp_path / "run" / "study.toml").write_text(printed.rpartition("[exit")[0])
        read_design(tmp_path / "run").check_names(make_run(tmp_path / name, ARMS, concepts=3, scores=False))
    with pytest.raises(UserError, match="--example 'none': is not an example; choose from blocklora"):
        call("init", tmp_path / "run", "--example", "none")


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.toml")))
def test_every_example_is_finished_with_no_place_left_empty(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    make_run(run, ARMS[:2] if name == "omcd_ab" else ARMS, concepts=3, seeds=1, scores=False)
    shutil.copy(FOLDER / f"{name}.toml", run / "study.toml")
    done, places, people = run_study(run, read_design(run), seed=3)
    assert done == places
    assert people > read_design(run).per_comparison


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.toml")))
@pytest.mark.parametrize("seed", range(8))
def test_every_example_is_finished_in_many_larger_runs(tmp_path: Path, name: str, seed: int) -> None:
    run = tmp_path / "run"
    make_run(run, ARMS[:2] if name == "omcd_ab" else ARMS, concepts=8, seeds=2, scores=False)
    shutil.copy(FOLDER / f"{name}.toml", run / "study.toml")
    done, places, _ = run_study(run, read_design(run), seed)
    assert done == places
