"""Exports of several labs: verified, summarized, and refused if they are not studies of the same arms."""

import shutil

import pytest
from typer import Typer
from typer.testing import CliRunner

from evalkit.errors import UserError
from study_app.pooling.command import pool
from study_app.pooling.studies import pool_exports
from tests.runs import make_run
from tests.study_app.test_command import call


def export_of(folder, arms, participants):
    run = folder / "run"
    make_run(run, arms=arms, scores=False)
    call("simulate", run, "--participants", participants)
    call("export", run)
    return run / "study" / "export.zip"


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pooled")
    return [export_of(folder / f"lab{number}", ("plain", "fancy"), number + 3) for number in range(2)]


def test_studies_of_the_same_arms_are_summarized(exports):
    (pair,) = pool_exports(exports)
    assert (pair.first, pair.second) == ("plain", "fancy")
    assert len(pair.studies) == 2
    app = Typer()
    app.command()(pool)
    printed = CliRunner().invoke(app, [str(path) for path in exports]).output
    assert "share of votes for plain against fancy" in printed
    assert "summary: " in printed
    if pair.summary is not None:
        assert pair.summary.studies == 2
        assert pair.summary.interval[0] < pair.summary.estimate < pair.summary.interval[1]


def test_one_study_twice_and_damaged_exports_are_refused(exports, tmp_path):
    again = shutil.copy(exports[0], tmp_path / "again.zip")
    with pytest.raises(UserError, match="is the same study as"):
        pool_exports([exports[0], tmp_path / "again.zip"])
    again.write_bytes(exports[0].read_bytes()[:-40])
    with pytest.raises(UserError, match="readable zip file"):
        pool_exports([exports[1], again])
