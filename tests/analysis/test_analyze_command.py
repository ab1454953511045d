"""`evalkit analyze`: JSON, steps, next commands, and reports that are not lost."""

import shutil
from pathlib import Path

import pytest

from tests.command_line import call, json_of
from tests.runs import make_run


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory) -> Path:
    """Return a run whose judgments are in simulated.db, with a report made from them."""
    run = tmp_path_factory.mktemp("analyzed") / "run"
    make_run(run, arms=("direct", "orthogonal"), concepts=3, seeds=1)
    with pytest.MonkeyPatch.context() as patch:
        from typer.testing import CliRunner

        from evalkit.cli.main import build

        patch.setenv("COLUMNS", "200")
        other = f"sqlite:///{run / 'simulated.db'}"
        for words in (["study", "simulate", run, "--participants", "2", "--db", other], ["analyze", run, "--db", other]):
            result = CliRunner().invoke(build(), [str(word) for word in words])
            assert result.exit_code == 0, result.output
    return run


@pytest.fixture
def run(analyzed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(analyzed, tmp_path / "run"))


def test_analyze_prints_steps_json_and_takes_a_margin_alone(tmp_path: Path, monkeypatch, capsys):
    run = tmp_path / "run"
    make_run(run, arms=("a", "b"), concepts=3, seeds=1, scores=False)
    call(monkeypatch, capsys, "study", "simulate", str(run), "--participants", "2")
    report = json_of(monkeypatch, capsys, "analyze", run, "--margin", "0.1")
    assert (report["judgments"], report["simulated_judgments"]) == (6, 6)
    assert (report["margin"], report["margin_scale"]) == (0.1, "votes")
    assert Path(report["report"]).exists()
    assert {"estimate", "p", "first", "second"} <= report["contrasts"][0].keys()


def test_plan_prints_json(monkeypatch, capsys):
    plan = json_of(monkeypatch, capsys, "plan", "--simulate", "2", "--concepts", "6", "--people", "10")
    assert plan["judgments"] == 15 * 3 * 5
    assert 0 < plan["expected"]["power"] < 1
    assert plan["simulated"]["studies"] == 2


def test_status_names_the_database_that_holds_the_judgments(run: Path, monkeypatch, capsys):
    code, error = call(monkeypatch, capsys, "study", "status", str(run))
    assert code == 1
    assert f"simulated.db holds 6 judgments; to use it, add --db sqlite:///{run / 'simulated.db'}" in error
    assert "evalkit study init" in error


def test_a_report_with_judgments_is_never_lost(run: Path, tmp_path: Path, monkeypatch, capsys):
    other = f"sqlite:///{run / 'simulated.db'}"
    before = (run / "report" / "report.html").read_bytes()
    code, error = call(monkeypatch, capsys, "analyze", str(run))
    assert code == 1
    assert f"made from 6 judgments in {other}" in error
    assert f"add --db {other} to update it, --out FOLDER to keep both reports, or --replace" in error
    assert (run / "report" / "report.html").read_bytes() == before
    # --replace is explicit, and says where the judgments are
    code, out = call(monkeypatch, capsys, "analyze", str(run), "--replace")
    assert code == 0
    assert f"has no judgments, so the report has no votes; {run / 'simulated.db'} holds 6 judgments" in out
    assert not (run / "report" / "tables" / "verdicts.csv").exists()


def test_a_report_moves_with_its_run(run: Path):
    from analysis.report.report_source import check_replaceable
    from db.session import open_database
    from evalkit.errors import UserError

    own, fresh = (open_database(f"sqlite:///{run / name}") for name in ("simulated.db", "study.db"))
    try:
        check_replaceable(run / "report", own, 6)
        check_replaceable(run / "another_folder", fresh, 0)
        for database, judgments in ((own, 0), (fresh, 0), (fresh, 6)):
            with pytest.raises(UserError, match="its report was made from 6 judgments"):
                check_replaceable(run / "report", database, judgments)
    finally:
        own.close()
        fresh.close()


def test_an_old_report_without_a_source_is_kept_too(run: Path, monkeypatch, capsys):
    (run / "report" / "source.json").unlink()
    code, error = call(monkeypatch, capsys, "analyze", str(run))
    assert code == 1
    assert "its report was made from judgments, but" in error


def test_an_analysis_without_scores_names_the_next_step(tmp_path: Path, monkeypatch, capsys):
    run = tmp_path / "run"
    make_run(run, arms=("a", "b"), scores=False)
    call(monkeypatch, capsys, "study", "simulate", str(run), "--participants", "2")
    code, out = call(monkeypatch, capsys, "analyze", str(run))
    assert code == 0
    assert f"the run has no scores, so the report has no metrics; next: evalkit score {run}" in out
    assert "1/3 loading" in out
    assert "3/3 writing" in out
