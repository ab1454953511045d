"""Planning a study: the formula against simulation, known numbers, the search, a pilot, and plans nobody can keep."""

import re
import sys
from dataclasses import replace

import pytest
from statsmodels.stats.proportion import binom_tost

from analysis.database_rows import read_run
from analysis.planning.cheapest_design import PRICES, Target, cheapest, cost_of, prices_of
from analysis.planning.pilot import spread_of
from analysis.planning.precision import Spread, StudyDesign, equivalence_power, outlook, power_of, simulate, variance_terms
from analysis.report.result_markdown import markdown_of
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


def test_without_spread_the_power_is_that_of_independent_votes():
    """783 votes find 55 % with power .8; 900 and 1,084 show equivalence within 5 points (statsmodels, exact)."""
    assert power_of(0.05, (0.55 * 0.45 / 783) ** 0.5, 10**6) == pytest.approx(0.80, abs=0.005)
    for votes, power in ((900, 0.806), (1084, 0.893)):
        assert equivalence_power(0.05, 0.5 / votes**0.5, 10**6) == pytest.approx(power, abs=0.02)
    assert binom_tost(450, 900, 0.45, 0.55)[0] < 0.05


@pytest.mark.parametrize(
    ("design", "spread", "effect"),
    [
        (StudyDesign(20, 1, 20, 3), Spread(0.4, 0.3, 0.5, 0.3), 0.1),
        (StudyDesign(30, 2, 30, 3, pairs=60), Spread(0.2, 0.3, 1.0, 0.6), 0.1),
        (StudyDesign(25, 4, 25, 4, together=1), Spread(0.5, 0.0, 0.5, 0.3), 0.1),
    ],
    ids=["all pairs", "sixty pairs", "single concepts"],
)
def test_the_formula_is_what_simulated_studies_show(design, spread, effect):
    promised, seen = outlook(design, spread, effect), simulate(design, spread, effect, studies=150)
    assert seen.standard_error == pytest.approx(promised.standard_error, rel=0.18)
    assert seen.half_width == pytest.approx(promised.half_width, rel=0.2)
    assert seen.power == pytest.approx(promised.power, abs=0.13)


def test_floors_stay_where_more_of_anything_else_does_not_help():
    few = outlook(StudyDesign(10, 1, 20, 5), Spread())
    many = outlook(StudyDesign(10, 500, 20, 20), Spread())
    assert many.concept_floor == pytest.approx(few.concept_floor)
    assert many.participant_floor == pytest.approx(few.participant_floor)
    floor = (many.concept_floor**2 + many.participant_floor**2) ** 0.5
    assert many.standard_error == pytest.approx(floor, rel=0.01)
    terms = variance_terms(StudyDesign(10, 1, 20, 5), Spread())
    assert terms.sum() ** 0.5 == pytest.approx(outlook(StudyDesign(10, 1, 20, 5), Spread(), 0.0).standard_error)


def test_more_never_promises_less():
    base = StudyDesign(12, 2, 20, 3)
    here = outlook(base, Spread(), 0.08, margin=0.1)
    for name, value in (("concepts", 24), ("seeds", 4), ("participants", 40), ("votes", 6)):
        more = outlook(replace(base, **{name: value}), Spread(), 0.08, margin=0.1)
        assert more.power >= here.power
        assert more.power_equivalence >= here.power_equivalence
        assert more.half_width <= here.half_width
        assert more.smallest_effect <= here.smallest_effect
    assert outlook(base, Spread(), 0.08, tests=3).power < here.power


def test_the_cheapest_design_reaches_its_target_and_nothing_cheaper_of_the_grid_does():
    spread, target = Spread(0.2, 0.2, 0.5, 0.3), Target(0.1, power=0.8)
    small = {"seeds": 1, "votes": 3}
    found = cheapest(target, spread, small)
    assert found.outlook.power >= 0.8
    assert found.cost == pytest.approx(cost_of(found.design, PRICES))
    dear = cheapest(target, spread, small, prices={"concept": 30.0, "participant": 500.0, "judgment": 0.1})
    assert dear.design.participants <= found.design.participants
    held = cheapest(target, spread, {**small, "concepts": 30})
    assert held.design.concepts == 30
    assert held.cost >= found.cost
    narrow = cheapest(Target(0.1, half_width=0.08), spread, small)
    assert narrow.outlook.half_width <= 0.08
    assert "power" in markdown_of(narrow)


def test_a_target_below_the_floor_is_refused_with_the_floor():
    with pytest.raises(UserError, match=r"no design reaches.*12 concepts.*concepts alone leave"):
        cheapest(Target(0.03, power=0.9), Spread(concept=0.6), {"concepts": 12})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: StudyDesign(participants=3), "votes 5"),
        (lambda: StudyDesign(concepts=1), "concepts 1"),
        (lambda: StudyDesign(concepts=10, pairs=46), "at most 45"),
        (lambda: Spread(concept=-1.0), "logits"),
        (lambda: Target(0.05, power=1.2), "power 1.2"),
        (lambda: Target(0.0, power=0.8), "effect 0"),
        (lambda: outlook(StudyDesign(), Spread(), 0.7), "effect 0.7"),
        (lambda: prices_of(["concept=cheap"]), "needs a number"),
        (lambda: prices_of(["photo=3"]), "known are concept"),
        (lambda: cheapest(Target(0.1, power=0.8), Spread(), {"participants": 2, "votes": 5}), "no design has"),
    ],
)
def test_what_no_study_can_be_is_refused_in_one_line(make, says):
    with pytest.raises(UserError, match=says) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_pilot_gives_its_spread_and_says_what_it_cannot_tell(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run", concepts=4, seeds=2, arms=("direct", "mc_dropout"))
    database = open_database(default_url(tmp_path / "run"))
    run_id = load_run(database, tmp_path / "run").run_id
    add_judgments(database, run_id, people=12)
    found = spread_of(read_run(database, run_id))
    database.close()
    assert found.spread.concept == Spread().concept
    assert any("concepts" in note for note in found.notes)
    assert 0 <= found.spread.participant < 1.5
    code, out, _ = call(monkeypatch, capsys, "plan", "--pilot", str(tmp_path / "run"), "--simulate", "0")
    assert code == 0
    assert f"spread from {found.votes}" in out


def test_the_command_prints_power_precision_floors_and_a_simulation(monkeypatch, capsys):
    code, out, _ = call(
        monkeypatch, capsys, "plan", "--concepts", "12", "--seeds", "1", "--people", "20", "--effect", "0.1",
        "--simulate", "20", "--arm", "a", "--arm", "b", "--arm", "c",
    )  # fmt: skip
    assert code == 0
    for words in (
        "concept floor",
        "participant floor",
        r"power to detect a win rate of 60.0 %.*3 pairs of arms",
        "equivalent within",
        "20 simulated",
    ):
        assert re.search(words, out), out
    code, out, _ = call(monkeypatch, capsys, "plan", "--power", "0.8", "--effect", "0.15", "--simulate", "0", "--votes", "3")
    assert code == 0
    assert "cheapest design" in out
    assert "3 votes per comparison" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--spread", "concept=high"), "logits"),
        (("--spread", "seed=1"), "use one of"),
        (("--margin", "5", "--margin-scale", "votes"), "margin 5"),
        (("--people", "3"), "votes 5"),
    ],
)
def test_bad_options_are_one_line(words, says, monkeypatch, capsys):
    code, _, error = call(monkeypatch, capsys, "plan", *words)
    assert code == 1
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error
