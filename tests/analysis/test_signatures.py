"""Scores of two recipes in one run: no table averages them together, and each says below which recipe its numbers have."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.report.table import ReportTable
from analysis.report.table_registry import tables_of
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.run.score_table import write_scores
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run, score_rows

METRICS = ("musiq", "clip_t", "clip_i", "dino", "arm_similarity")
# Scores of the second recipe are this much higher: a mean over both would lie in the middle.
APART = 1000.0


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportTable, ...]:
    """Return every table of a run whose images were scored under two recipes and judged."""
    folder: Path = tmp_path_factory.mktemp("mixed")
    manifest = make_run(folder, concepts=6, seeds=1)
    database = open_database(default_url(folder))
    load_run(database, folder)
    write_scores(folder, [replace(row, value=row.value + APART) for row in score_rows(manifest, signature="drawn:2")])
    run_id = load_run(database, folder).run_id
    add_judgments(database, run_id, simulated=True)
    found = analyze_run(read_run(database, run_id))
    database.close()
    return tables_of(found)


def words_of(table: ReportTable) -> list[str]:
    """Return everything in a table that could name a metric: headings, cells of words, caption."""
    return [*(column.heading for column in table.columns), *(cell.text for row in table.rows for cell in row)]


def test_every_table_that_names_a_metric_has_its_recipe_below(tables):
    naming = 0
    for table in tables:
        for metric in METRICS:
            for number in (1, 2):
                if any(f"{metric} ({number})" in words for words in words_of(table)):
                    naming += 1
                    assert f"{metric}|drawn:" in dict(table.recipes)[f"{metric} ({number})"], (table.name, metric)
            assert not any(words.strip(" ↑↓") == metric for words in words_of(table)), (table.name, metric)
    assert naming >= 2 * len(METRICS)


def test_no_number_of_any_table_is_a_mean_over_two_recipes(tables):
    numbers = [
        (table.name, value)
        for table in tables
        for row in table.rows
        for cell in row
        for _, value in cell.values
        if isinstance(value, float)
    ]
    assert any(value > 0.9 * APART for _, value in numbers)
    assert not [(name, value) for name, value in numbers if 0.2 * APART < abs(value) < 0.9 * APART]
