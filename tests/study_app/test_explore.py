"""`evalkit explore`: its numbers are the report's, and filters, order and images do what they say."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from analysis.comparison_table import against_people, comparisons_of, part_of
from analysis.papers.script import read_findings
from db.run_loader import load_run
from db.session import default_url, open_database
from study_app.explore import page as explore_page
from study_app.explore.page import Explored
from study_app.explore.server import ENTRY
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    run = tmp_path_factory.mktemp("explored") / "run"
    make_run(run, concepts=4, seeds=1)
    database = open_database(default_url(run))
    add_judgments(database, load_run(database, run).run_id)
    database.close()
    return Explored(read_findings(run), run)


@pytest.fixture
def page(explored):
    explore_page.use(explored)
    shown = AppTest.from_file(str(ENTRY), default_timeout=120).run()
    assert not shown.exception
    return shown


def test_every_comparison_has_its_votes_and_leads(explored):
    table, found = explored.comparisons, explored.found
    assert len(table) == 6 * 3
    assert table["votes"].sum() == len(found.data.judgments)
    assert (table[["for_first", "cannot_tell", "for_second"]].sum(axis=1) == table["votes"]).all()
    row = table.iloc[4]
    here = found.data.judgments.merge(table.iloc[[4]][["case", "seed", "first", "second"]])["choice"].to_numpy()
    differ = np.not_equal.outer(here, here).sum() / (len(here) * (len(here) - 1))
    assert row["disagreement"] == pytest.approx(differ)
    musiq = next(each for each in found.measured if each.metric == "musiq")
    values = dict(zip(musiq.arms, musiq.values[musiq.cells.index((row["case"], row["seed"]))], strict=True))
    assert row["musiq"] == pytest.approx(values[row["first"]] - values[row["second"]])


def test_over_all_comparisons_the_numbers_are_the_reports(explored):
    preference = explored.found.preferences[0]
    part = part_of(explored.found, explored.comparisons, preference.first, preference.second)
    assert part.numbers[0].interval == preference.clustered.interval
    wanted = {metric.metric: metric.contrasts[0].estimate for metric in explored.found.metrics}
    assert {each.measure: each.estimate for each in part.numbers[1:]} == wanted
    assert all(each.p is None for each in part.numbers)
    assert len(part.to_frame()) == len(part.numbers)


def test_a_metric_stands_against_people_where_it_leads_for_whom_they_reject(explored):
    table = explored.comparisons
    against = against_people(explored.found, table, "musiq")
    contrary = np.sign(table["musiq"]) * np.sign(table["for_first"] - table["for_second"])
    assert (np.sign(against) == -contrary).all()


def test_a_run_without_votes_is_explored_by_its_metrics(tmp_path):
    make_run(tmp_path, concepts=2, seeds=1)
    found = read_findings(tmp_path)
    table = comparisons_of(found)
    assert (table["votes"] == 0).all()
    assert part_of(found, table, *found.data.arm_pairs[0]).numbers[0].measure != "votes"
    explore_page.use(Explored(found, tmp_path))
    shown = AppTest.from_file(str(ENTRY), default_timeout=120).run()
    assert not shown.exception
    assert "disagreement among people" not in shown.selectbox(key="order").options


def test_the_page_filters_sorts_and_shows_what_is_behind_a_number(page):
    assert page.warning[0].value.startswith("Simulated")
    assert page.subheader[0].value == "6 comparisons of direct and mc_dropout"
    assert len(page.get("image")) >= 5 * 4
    page.multiselect(key="concepts").set_value(["star"]).run()
    assert page.subheader[0].value.startswith("3 comparisons")
    page.multiselect(key="concepts").set_value([])
    page.selectbox(key="pair").set_value("direct vs orthogonal_mc_dropout")
    page.selectbox(key="order").set_value("musiq, first ahead").run()
    assert not page.exception
    table = explore_page._explored[0].comparisons
    table = table[(table["first"] == "direct") & (table["second"] == "orthogonal_mc_dropout")]
    best = table.loc[table["musiq"].idxmax()]
    assert f"**{best['case']}, seed {best['seed']}**" in [each.value for each in page.markdown]
    page.number_input(key="page").set_value(2).run()
    assert not page.exception
    page.text_input(key="words").set_value("no prompt says this").run()
    assert page.info[0].value == "No comparison is like that."


@pytest.mark.parametrize("order", range(12))
def test_every_order_keeps_every_comparison(explored, order):
    orders = explore_page._orders(explored)
    table = explored.comparisons.iloc[:9]
    shown = explore_page._sorted(explored.found, table, orders[order % len(orders)])
    assert set(shown.index) == set(table.index)
