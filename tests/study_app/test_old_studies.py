"""Studies, databases and exports made by earlier versions still open."""

import zipfile
from pathlib import Path

import pytest

from db.run_loader import load_run
from db.session import default_url, open_database
from study_app.conduct.progress import study_status
from study_app.conduct.verify import verify_export
from study_app.plan.design import read_design
from study_app.plan.initialize import begin_study
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService

OLD = Path(__file__).parent / "old"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """Return a run folder with a study in use under schema 0007: three participants, one recruited, one excluded."""
    run = tmp_path / "run"
    with zipfile.ZipFile(OLD / "study_0007.zip") as bundle:
        bundle.extractall(run)
    return run


def test_a_study_of_before_opens_with_the_same_design_and_continues(old_run: Path) -> None:
    database = open_database(default_url(old_run))
    design = read_design(old_run)
    assert design is not None
    begun = begin_study(database, old_run, design)
    assert not begun.new
    assert begun.design == design
    assert load_run(database, old_run).scores > 0
    before = study_status(database, begun.study_id)
    assert (before.judgments, before.arrived) == (12, 3)
    service = StudyService(database, old_run)
    who = service.visitor(service.join()).id
    while (trial := service.trial(who)) is not None:
        service.answer(who, trial, "left", Timing())
    after = study_status(database, begun.study_id)
    assert after.judged > before.judged
    assert after.judgments == before.judgments + (after.judged - before.judged)
    database.close()


@pytest.mark.parametrize(("name", "judgments"), [("export_0007.zip", 12), ("export_0004.zip", 12)])
def test_exports_of_before_are_still_verified(name: str, judgments: int) -> None:
    assert verify_export(OLD / name).judgments == judgments
