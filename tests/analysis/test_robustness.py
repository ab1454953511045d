"""The tables of robustness, from a small judged run: each says what Python alone said before."""

import numpy as np
import pytest

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.grouping import votes_of
from analysis.metrics.arm_profiles import middle_mean
from analysis.report.table_registry import TABLES, tables_of
from analysis.report.table_spec import Section
from analysis.votes.biases import SIDE, biases
from analysis.votes.screening import screen
from db.run_loader import load_run
from db.session import default_url, open_database
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust") / "run"
    make_run(folder, concepts=6, seeds=1)
    database = open_database(default_url(folder))
    run = load_run(database, folder).run_id
    add_judgments(database, run)
    data = read_run(database, run)
    database.close()
    return analyze_run(data)


@pytest.fixture(scope="module")
def tables(found):
    return {table.name: table for table in tables_of(found, [spec for spec in TABLES if spec.section is Section.ROBUSTNESS])}


def test_side_order_and_time_stand_with_what_no_influence_would_give(found, tables):
    rows = [[cell.text for cell in row] for row in tables["biases"].rows]
    assert [row[3] for row in rows] == ["50 %"] * 3 + ["0 %"] * 6
    side = next(each.contrast for each in biases(found.data) if each.influence == "side")
    assert rows[0][0] == SIDE
    assert dict(tables["biases"].rows[0][2].values)["low"] == side.interval[0]
    assert any("It differs within no participant." in note for note in tables["biases"].notes)


def test_the_treatments_of_ties_stand_side_by_side_with_the_same_counts(found, tables):
    rows = [[cell.text for cell in row] for row in tables["ties"].rows[:5]]
    assert [(row[1], row[2]) for row in rows] == [
        ("votes", "dropped"), ("votes", "split in half"), ("votes", "Davidson"), ("outcomes", "dropped"),
        ("outcomes", "split in half"),
    ]  # fmt: skip
    assert len({row[3] for row in rows[:3]}) == 1
    assert dict(tables["ties"].rows[1][5].values)[""] == found.preferences[0].clustered.estimate


def test_the_result_stands_with_and_without_those_pointed_at(found, tables):
    screened = screen(votes_of(found.data)[0])
    row = tables["screening"].rows[0]
    assert dict(row[2].values)[""] == sum(who.pointed_at for who in screened.participants)
    assert dict(row[5].values)[""] == screened.without.estimate


def test_interquartile_means_are_those_of_the_scores(found, tables):
    table, measured = tables["middle_means"], found.measured[0]
    assert not table.simulated
    assert [dict(cell.values)[""] for cell in table.rows[0][1:]] == [
        middle_mean(np.asarray(measured.values[:, arm])) for arm in range(len(measured.arms))
    ]
