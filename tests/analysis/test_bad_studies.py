"""What an analysis says of bad input: one clear line where it can't go on, a note where it can, and never a NaN in a table."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from typer import Typer
from typer.testing import CliRunner

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.report.command import analyze
from analysis.report.report_page import render
from analysis.report.table_registry import tables_of
from db import models
from db.run_loader import load_run
from db.session import default_url, open_database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import write_scores
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run, score_rows


def run_with(folder: Path, rows=None, people: int = 8, judged: bool = True) -> Path:
    """Make a run with these scores (all of them by default) and judgments of people."""
    manifest = make_run(folder, concepts=6, seeds=1, scores=False)
    write_scores(folder, score_rows(manifest) if rows is None else rows(manifest))
    if judged:
        database = open_database(default_url(folder))
        add_judgments(database, load_run(database, folder).run_id, min(5, people), people, simulated=False)
        database.close()
    return folder


def report_of(run: Path, simulated: bool | None = None) -> tuple[str, str]:
    """Return the page of a run that can be analyzed, and all its tables; none may hold what is no number."""
    database = open_database(default_url(run))
    found = analyze_run(read_run(database, load_run(database, run).run_id, simulated))
    database.close()
    listed = tables_of(found)
    for table in listed:
        assert not re.search(r"\b([Nn]a[Nn]|[Ii]nf|None)\b", table.to_csv() + table.to_markdown()), table.name
    page = re.sub(r'src="[^"]*"', "", render(found, run, (), listed))
    assert not re.search(r"\bnan\b|\bNaN\b", page)
    return page, "\n".join(text for table in listed for text in table.files().values())


def refusal_of(run: Path, *words: str) -> str:
    """Return the one line that a run gets which can't be analyzed; nothing may be written."""
    app = Typer()
    app.command()(analyze)
    result = CliRunner().invoke(app, [str(run), *words])
    assert isinstance(result.exception, UserError), result.exception
    assert "\n" not in str(result.exception)
    assert not (run / "report").exists()
    return str(result.exception)


def test_a_vote_for_an_unknown_comparison_is_refused_by_the_database(tmp_path):
    run = run_with(tmp_path)
    database = open_database(default_url(run))
    with read(database) as session:
        person = session.scalars(select(models.Participant.id)).first()
    row = {
        "comparison_id": 10_000, "participant_id": person, "position": 999, "left": 0, "state": "done",
        "assigned_at": utc_now(), "expires_at": utc_now(),
    }  # fmt: skip
    with pytest.raises(IntegrityError), write(database) as session:
        session.execute(insert(models.Assignment), row)
    with pytest.raises(IntegrityError), write(database) as session:
        session.execute(delete(models.Comparison))
    database.close()


def test_votes_on_comparisons_that_the_run_no_longer_has_are_refused(tmp_path):
    run = run_with(tmp_path)
    manifest = Manifest.load(run)
    kept = manifest.cases[1:]
    fewer = manifest.model_copy(
        update={"cases": kept, "images": tuple(each for each in manifest.images if each.case in {case.id for case in kept})}
    )
    fewer.save(run)
    write_scores(run, score_rows(fewer))
    assert "is gone, but a study of this run has begun" in refusal_of(run)


def test_mixed_signatures_are_told_apart_and_never_averaged(tmp_path):
    page, tables = report_of(run_with(tmp_path, lambda manifest: score_rows(manifest) + score_rows(manifest, "drawn:2")))
    assert "musiq (1)" in page
    assert "musiq (2)" in page
    assert "musiq|drawn:2" in tables


def test_cases_that_an_arm_lacks_are_left_out_for_all_and_counted(tmp_path):
    def rows(manifest):
        gone = {case.id for case in manifest.cases[:3]}
        return [row for row in score_rows(manifest) if not (row.arm == "direct" and row.case in gone and row.metric == "musiq")]

    page, tables = report_of(run_with(tmp_path, rows))
    assert "musiq: 3 cases and seeds in which an arm has no score." in page
    assert "votes are left out, because an image lacks its score" in tables


def test_an_arm_that_a_metric_never_scored_is_absent(tmp_path):
    def rows(manifest):
        return [row for row in score_rows(manifest) if (row.metric, row.arm) != ("musiq", "direct")]

    _, tables = report_of(run_with(tmp_path, rows))
    assert "| ↑ musiq | – |" in tables


def test_a_constant_metric_is_said_to_be_constant(tmp_path):
    def rows(manifest):
        return [replace(row, value=0.5) if row.metric == "musiq" else row for row in score_rows(manifest)]

    page, tables = report_of(run_with(tmp_path, rows))
    assert "Inconclusive: musiq can&#39;t tell" in page
    assert "Both arms have the same values everywhere." in tables
    assert "The metric gives both images the same value everywhere." in tables


def test_one_participant_speaks_for_nobody_else(tmp_path):
    page, tables = report_of(run_with(tmp_path, people=1))
    assert "One participant judged, so nothing is concluded about other people." in page
    assert "No comparison was judged by two participants." in tables


def test_simulated_and_real_judgments_together_are_refused_or_marked(tmp_path):
    run = run_with(tmp_path)
    database = open_database(default_url(run))
    add_judgments(database, load_run(database, run).run_id, simulated=True)
    database.close()
    assert "use --no-simulated" in refusal_of(run)
    page, tables = report_of(run, True)
    assert "225 of the 450 votes here were made by simulated participants" in page
    assert "[simulated judgments]" in tables.replace("\\", "")
    page, tables = report_of(run, False)
    assert "225 votes of simulated participants, as asked for." in page
    assert "simulated judgments" not in tables
