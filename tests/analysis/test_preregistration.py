"""Plans written down beforehand: frozen, recognised, applied, and refused where they don't fit the data."""

import json
import sys
from dataclasses import replace

import pytest

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.planning.preregistration import Exclusions, FrozenPlan, apply_plan, freeze, planned_results, read_plan
from analysis.report.checklist import exclusions
from analysis.report.plan_table import planned_table
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.cli import main as cli
from evalkit.errors import UserError
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run


def call(monkeypatch, capsys, *words):
    """Return exit code, standard output and standard error of `evalkit WORDS`."""
    monkeypatch.setattr(sys, "argv", ["evalkit", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    return stopped.value.code or 0, said.out, said.err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run of two arms that simulated participants judged."""
    folder = tmp_path_factory.mktemp("run")
    make_run(folder, concepts=6, seeds=1, arms=("direct", "mc_dropout"))
    database = open_database(default_url(folder))
    add_judgments(database, load_run(database, folder).run_id)
    database.close()
    return folder


@pytest.fixture(scope="module")
def data(run):
    database = open_database(default_url(run))
    found = read_run(database, load_run(database, run).run_id)
    database.close()
    return found


def plan(**changes):
    held = {"arms": ("direct", "mc_dropout"), "measures": ("votes", "musiq"), "margin": 0.05}
    return FrozenPlan(**{**held, "exclusions": Exclusions(simulated=False), **changes})


def test_a_plan_survives_the_file_and_its_hash_is_of_what_it_says(tmp_path):
    path = tmp_path / "plan.json"
    sha256 = freeze(plan(), path)
    assert read_plan(path) == plan()
    assert sha256 == plan().sha256() == json.loads(path.read_text())["sha256"]
    assert plan(margin=0.06).sha256() != sha256
    with pytest.raises(UserError, match="exists already"):
        freeze(plan(), path)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda text: text.replace("0.05", "0.08"), "changed after it was frozen"),
        (lambda text: text.replace('"margin"', '"marign"'), "marign"),
        (lambda text: text.replace('"sha256"', '"hash"'), "no sha256"),
        (lambda text: text[:-20], "not JSON"),
        (lambda text: text.replace("0.05", "5.0"), "margin 5.0"),
    ],
)
def test_a_plan_that_was_changed_is_refused_in_one_line(edit, says, tmp_path):
    path = tmp_path / "plan.json"
    freeze(plan(), path)
    path.write_text(edit(path.read_text()))
    with pytest.raises(UserError, match=says) as refused:
        read_plan(path)
    assert "plan.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_was_planned_comes_first_and_the_rest_is_exploratory(data):
    found = planned_results(analyze_run(data), plan())
    assert [(each.planned, each.measure) for each in found[:2]] == [(True, "votes"), (True, "musiq")]
    assert {each.measure for each in found if not each.planned} == {"clip_t", "clip_i", "dino"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arms": ("direct", "ties")}, "'ties', which this run has not"),
        ({"measures": ("nima",)}, "no scores of nima"),
    ],
)
def test_a_plan_that_does_not_fit_the_data_gets_one_line(change, says, data):
    with pytest.raises(UserError, match=says):
        planned_results(analyze_run(data), plan(**change))


def test_a_plan_for_other_concepts_is_refused_where_the_design_cannot_carry_it(tmp_path):
    make_run(tmp_path, concepts=3, seeds=2, arms=("direct", "mc_dropout"))
    database = open_database(default_url(tmp_path))
    run_id = load_run(database, tmp_path).run_id
    few = read_run(database, run_id)
    database.close()
    with pytest.raises(
        UserError, match=r"shall hold for other pairs, concepts, but this run's design lets it hold for other seeds alone"
    ):
        planned_results(analyze_run(few), plan(measures=("musiq",)))
    kept = planned_results(analyze_run(few), plan(measures=("musiq",), scope=("seeds",)))
    assert kept[0].planned
    with pytest.raises(UserError, match="no judgments"):
        planned_results(analyze_run(few), plan())


def test_exclusions_are_applied_and_counted(data):
    votes = data.judgments
    quick = votes.assign(reaction_ms=[100 if row % 10 == 0 else 1500 for row in range(len(votes))])
    changed = replace(data, judgments=quick)
    kept, margin = apply_plan(plan(exclusions=Exclusions(simulated=False, faster_than_ms=200)), changed)
    assert margin == (0.05, "votes")
    assert kept.excluded == (f"{(quick['reaction_ms'] == 100).sum()} votes given within 200 ms, as planned.",)
    assert kept.excluded[0] in exclusions(analyze_run(kept))
    assert len(kept.judgments) == kept.simulated == (quick["reaction_ms"] == 1500).sum()
    most = votes["participant"].value_counts().max()
    some, _ = apply_plan(plan(exclusions=Exclusions(simulated=False, fewer_votes_than=int(most))), data)
    assert (some.judgments["participant"].value_counts() == most).all()
    assert len(some.judgments)


def test_a_study_begun_with_a_plan_takes_no_other_and_the_report_says_when_it_was_frozen(data):
    begun = replace(data, design={"plan_sha256": plan().sha256()})
    kept, _ = apply_plan(plan(), begun)
    notes = {}
    for name, each in (("begun", kept), ("unknown", data)):
        found = analyze_run(each)
        notes[name] = planned_table(replace(found, plan=plan())).to_markdown()
    assert "frozen before the first judgment" in notes["begun"]
    assert "Nothing here shows when it was frozen" in notes["unknown"]
    with pytest.raises(UserError, match=f"begun with the plan {plan().sha256()[:12]}"):
        apply_plan(plan(margin=0.06), begun)


def test_a_plan_for_people_takes_no_simulated_judgments_and_no_other_margin(data):
    with pytest.raises(UserError, match="leaves simulated judgments out"):
        apply_plan(plan(exclusions=Exclusions()), data)
    with pytest.raises(UserError, match=r"margin is 0.05 on votes, not 0.1"):
        apply_plan(plan(), data, (0.1, "votes"))


def test_the_commands_freeze_a_plan_and_hold_the_report_to_it(run, tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "plan.json", tmp_path / "report"
    arms = ("--arm", "direct", "--arm", "mc_dropout", "--metric", "musiq")
    code, said, _ = call(monkeypatch, capsys, "plan", "--simulate", "0", "--freeze", str(path), *arms, "--simulated")
    assert code == 0
    assert read_plan(path).sha256() in said
    code, said, error = call(monkeypatch, capsys, "analyze", str(run), "--plan", str(path), "--out", str(out))
    assert code == 0, error
    assert "2 of 5 results were planned" in said
    assert "MUSIQ" in (out / "tables" / "planned.md").read_text()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "2 of 5 results are in the frozen plan" in page
    assert page.count('<span class="chip plain">planned</span>') == 1
    assert "exploratory" in (out / "tables" / "planned.csv").read_text()
    code, _, error = call(
        monkeypatch, capsys, "analyze", str(run), "--plan", str(path), "--margin", "0.1", "--margin-scale", "votes"
    )
    assert code == 1
    assert "its margin is 0.05" in error
    code, _, error = call(monkeypatch, capsys, "plan", "--simulate", "0", "--freeze", str(tmp_path / "none.json"))
    assert code == 1
    assert "--arm" in error
