"""A begun study of a small run, on SQLite and on PostgreSQL."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from db.session import Database, write
from db.utc import utc_now
from evalkit.run.manifest import Manifest
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.service.participants import add_participant
from tests.runs import make_run


@dataclass(frozen=True)
class BegunStudy:
    """A study with its run folder, and a quick way to more participants."""

    database: Database
    run: Path
    manifest: Manifest
    study_id: int
    comparisons: int

    def join(self, seed: int | None = None) -> int:
        with write(self.database) as session:
            return add_participant(session, self.study_id, utc_now(), seed=seed)[0].id


def begin(database: Database, run: Path, design: Design, arms=("plain", "fancy"), concepts: int = 3) -> BegunStudy:
    manifest = make_run(run, arms=arms, concepts=concepts, scores=False)
    begun = begin_study(database, run, design)
    return BegunStudy(database, run, manifest, begun.study_id, begun.comparisons)


@pytest.fixture
def study(database: Database, tmp_path: Path) -> BegunStudy:
    """Return a study of 6 comparisons with 5 places each."""
    return begin(database, tmp_path / "run", Design())


@pytest.fixture
def indecisive(database: Database, tmp_path: Path) -> BegunStudy:
    """Return a study of 6 comparisons with 2 places each that offers "cannot tell"."""
    return begin(database, tmp_path / "run", Design(per_comparison=2, cannot_tell=True))
