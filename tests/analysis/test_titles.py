"""Titles: printed everywhere, ids in data, and no number changes."""

import csv
import json
from dataclasses import replace

import pytest

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.planning.preregistration import Exclusions, FrozenPlan, freeze
from analysis.report.command import analyze
from analysis.titles import SYMBOLS, Titles, read_titles, symbol_of, titled
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.errors import UserError
from evalkit.metrics import METRICS
from tests.analysis.study_rows import run_of
from tests.analysis.test_transfer import call


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("titles") / "run", concepts=3)


@pytest.fixture(scope="module")
def data(run):
    database = open_database(default_url(run))
    data = read_run(database, load_run(database, run).run_id)
    database.close()
    return data


def test_titles_change_no_number_and_all_names(data):
    titles = Titles(
        {arm: f"Z{-place} α" for place, arm in enumerate(data.labels)},
        {"c0": "Zebra"} if "c0" in {name for case in data.cases for name in case.concepts} else {},
        {name: symbol_of(name) for name in data.scores["metric"].unique()},
    )
    plain, printed = analyze_run(data), replace(analyze_run(titled(data, titles)), titles=titles)
    assert titles.with_ids(printed.records()) == plain.records()
    assert printed.data.labels == tuple(titles.arms[arm] for arm in data.labels)
    assert titles.ids("CLIP-I (2)") in ("clip_i (2)", "CLIP-I (2)")


def test_the_report_prints_titles_and_its_data_keep_ids(run, data, tmp_path):
    first, plan = data.labels[0], tmp_path / "plan.json"
    freeze(FrozenPlan(arms=data.labels[:2], measures=("votes",), exclusions=Exclusions(simulated=False), scope=()), plan)
    (run / "titles.toml").write_text(
        f'[arms]\n{first} = "Méthode α (ours)"\n[questions]\noverall = "Which is closer?"\n', encoding="utf-8"
    )
    try:
        result = call(analyze, run, "--out", tmp_path / "report", "--json", "--plan", plan)
        assert result.exit_code == 0, (result.output, result.exception)
    finally:
        (run / "titles.toml").unlink()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Méthode α (ours)" in page
    assert "Which is closer?" in page
    document = json.loads(result.stdout)
    planned = [[each["first"], each["second"]] for each in document["planned"] if each["planned"]]
    assert planned == [list(data.labels[:2])]
    assert first in {each["first"] for each in document["verdicts"]}
    assert {each["measure"] for each in document["verdicts"]} <= {"votes", "outcomes", *data.scores["metric"]}
    for table in ("table2", "verdicts"):
        text = (tmp_path / "report" / "tables" / f"{table}.csv").read_text(encoding="utf-8")
        assert "Méthode" not in text
        assert first in {row["arm"] for row in csv.DictReader(text.splitlines())}
        assert "Méthode α (ours)" in (tmp_path / "report" / "tables" / f"{table}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[arms]\nother = "X"', "arms.other: is not in the run"),
        ('[arms]\n{0} = "{1}"', "is the title of"),
        ('[arms]\n{0} = " "', "is not a title"),
        ('[rows]\n{0} = "X"', "unknown key"),
        ("arms", "cannot be read"),
    ],
)
def test_wrong_titles_get_one_line(text, message, data, tmp_path):
    (tmp_path / "titles.toml").write_text(text.format(*data.labels))
    with pytest.raises(UserError, match=message):
        read_titles(tmp_path, data)


def test_every_metric_has_a_symbol_of_its_own():
    symbols = [symbol_of(name) for name in METRICS]
    assert len(set(symbols)) == len(symbols)
    assert set(SYMBOLS) <= set(METRICS)
