"""`simulate --browser`: seeded, marked, and through the pages' own buttons."""

from pathlib import Path

import pytest
from sqlalchemy import select

from db.models import Assignment, Comparison, Judgment, Participant
from db.session import open_database, read
from study_app.plan.page_layout import best_first, standing
from study_app.simulation.browser import chromium
from tests.runs import make_run
from tests.study_app.test_command import call
from tests.study_app.test_simulate import judgments

pytestmark = pytest.mark.browser


def test_rankings_are_pressed_place_by_place_and_confirmed(tmp_path: Path) -> None:
    if chromium() is None:
        pytest.skip("no Chromium here; install one, such as: apt-get install chromium")
    run = tmp_path / "run"
    make_run(run, arms=("plain", "fancy", "other"), concepts=2, seeds=1, scores=False)
    (run / "study.toml").write_text('at_once = 3\nanswer = "ranking"\nper_comparison = 1\n')
    said = call("simulate", run, "--browser", "--participants", 1, "--effect", "fancy=9", "--seed", 7)
    assert "1 simulated participant gave 1 judgment," in said
    database = open_database(f"sqlite:///{run / 'study.db'}")
    with read(database) as session:
        (judgment,) = session.scalars(select(Judgment))
        (assignment,) = session.scalars(select(Assignment))
    database.close()
    ranked = best_first(judgment.choice, standing(assignment.left, assignment.arrangement))
    # arms in the order of the run: the second appeals most
    assert sorted(ranked) == [0, 1, 2]
    assert ranked[0] == 1
    assert judgment.reaction_ms is not None


def test_the_same_seeds_give_the_same_judgments_through_the_pages(tmp_path: Path) -> None:
    if chromium() is None:
        pytest.skip("no Chromium here; install one, such as: apt-get install chromium")
    run, found = tmp_path / "run", []
    make_run(run, arms=("plain", "fancy"), concepts=2, seeds=2, scores=False)
    (run / "study.toml").write_text("per_comparison = 2\n\n[checks]\nnull_pairs = 0.5\n\n[sessions]\nbreak_every = 1\n")
    for name in ("one", "two"):
        url = f"sqlite:///{tmp_path / name}.db"
        said = call("simulate", run, "--browser", "--participants", 2, "--effect", "fancy=1", "--seed", 7, "--db", url)
        assert "2 simulated participants gave 4 judgments, all marked as simulated" in said
        database = open_database(url)
        found.append(judgments(database))
        with read(database) as session:
            assert all(session.scalars(select(Participant.simulated)))
            assert all(session.scalars(select(Participant.finished_at)))
            assert set(session.scalars(select(Comparison.filled))) == {2}
            assert all(session.scalars(select(Judgment.reaction_ms)))
        database.close()
    assert len(found[0]) == 4
    assert found[0] == found[1]
